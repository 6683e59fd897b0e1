"""Picture of a report on a video-language model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genrl.data.episode import Array
from genrl.infra.checkpoint import atomic_path

SPACE_COLORS = {"raw": "tab:orange", "aligned": "tab:green"}
ROWS_SHOWN = 40
"""Texts, or groups of them, that fit into a panel."""
CLIPS_SHOWN = 2000


def draw_report(report: Mapping[str, Any], video: Array, texts: Mapping[str, Array], file: Path) -> None:
    """Writes a PNG of four panels.

    Args:
        report: The numbers.
        video: (N, E) embeddings of the clips.
        texts: Space -> (M, E) embeddings of the texts.
        file: Where to.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = row_names(report)
    figure = Figure(figsize=(13, 7 + 0.16 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    facts = report["facts"]
    figure.suptitle(f"VLM {facts['vlm']}: {facts['clips']} clips, {facts['texts']} texts", fontsize=11)
    (plane, cosines), (spread, last) = figure.subplots(2, 2, height_ratios=(5, 1.5 + 0.16 * len(names)))
    _draw_plane(plane, report, video, texts)
    _draw_cosines(cosines, report, video, texts)
    _draw_spread(spread, report, names)
    if any(row["raw"]["auc"] is not None for row in report["texts"]):
        _draw_auc(last, report, names)
    else:
        _draw_sources(last, report, names)
    with atomic_path(file) as aside:
        figure.savefig(aside, dpi=110, format="png")


def row_names(report: Mapping[str, Any]) -> list[str]:
    """What the rows of the lower panels are: the texts, or where these are too many, their groups."""
    texts = [row["text"] for row in report["texts"]]
    groups = list(dict.fromkeys(row["group"] for row in report["texts"]))
    return (texts if len(texts) <= ROWS_SHOWN else groups)[:ROWS_SHOWN]


def _of_rows(report: Mapping[str, Any], names: list[str], space: str, key: str) -> Array:
    """(len(names), ...) number of each row: of its text, or the mean over its group's texts; NaN where none has it."""
    means = []
    for name in names:
        own = [row[space][key] for row in report["texts"] if name in (row["text"], row["group"])]
        known = [value for value in own if value is not None]
        means.append(np.mean(known, axis=0) if known else np.nan)
    return np.array(means)


def _draw_plane(panel: Any, report: Mapping[str, Any], video: Array, texts: Mapping[str, Array]) -> None:
    """Clips and texts in one plane: from the clips' mean to the raw texts' across, the clips' own variance upwards."""
    centre = video.mean(0)
    across = texts["raw"].mean(0) - centre
    across /= max(float(np.linalg.norm(across)), 1e-12)
    rest = (video - centre) - np.outer((video - centre) @ across, across)
    up = np.linalg.svd(rest, full_matrices=False)[2][0]
    axes = np.stack([across, up], axis=1)
    points = (video[:: -(-len(video) // CLIPS_SHOWN)] - centre) @ axes
    panel.scatter(*points.T, s=5, linewidths=0, color="0.7", label="clips")
    for space, rows in texts.items():
        gap = report["spaces"][space]["gap"]
        label = f"texts {space} (gap {gap:.2f})"
        panel.scatter(*((rows - centre) @ axes).T, s=14, linewidths=0, color=SPACE_COLORS[space], label=label)
    panel.set_title("Modality gap", fontsize=10)
    panel.set_xlabel("from the mean of clips towards that of raw texts", fontsize=8)
    panel.set_ylabel("most variance of clips beside it", fontsize=8)
    panel.legend(fontsize=8)


def _draw_cosines(panel: Any, report: Mapping[str, Any], video: Array, texts: Mapping[str, Array]) -> None:
    """Distribution of cosines; where it is known what clips show, of pairs that belong together apart."""
    for space, rows in texts.items():
        values = (rows @ video.T).ravel()
        color, means = SPACE_COLORS[space], report["spaces"][space]["cosine"]
        panel.hist(
            values, bins=80, density=True, histtype="stepfilled", color=color, alpha=0.35, label=f"texts {space}"
        )
        for kind, style in (("shown", "-"), ("not_shown", ":")):
            if means[kind] is not None:
                words = "clips that show it" if kind == "shown" else "clips that do not"
                label = f"mean, {words}: {means[kind]:.2f}"
                panel.axvline(means[kind], color=color, linestyle=style, linewidth=1.6, label=label)
    panel.set_title("Cosines of texts with clips", fontsize=10)
    panel.set_yticks([])
    panel.legend(fontsize=8)


def _draw_spread(panel: Any, report: Mapping[str, Any], names: list[str]) -> None:
    """Range of each row's cosines: what is far from zero everywhere says little."""
    for offset, space in enumerate(report["spaces"]):
        height = np.arange(len(names)) + 0.25 * offset
        low, median, high = (_of_rows(report, names, space, key) for key in ("low", "median", "high"))
        panel.hlines(height, low, high, color=SPACE_COLORS[space], linewidth=2)
        panel.plot(median, height, "|", color="black", markersize=5)
    _rows(panel, names, "Cosines with all clips: 5 to 95 %, median")


def _draw_auc(panel: Any, report: Mapping[str, Any], names: list[str]) -> None:
    for space in report["spaces"]:
        auc = _of_rows(report, names, space, "auc")
        mean = report["spaces"][space]["auc"]
        label = f"texts {space} (mean {mean:.2f})"
        panel.plot(auc, np.arange(len(names)), "o", color=SPACE_COLORS[space], markersize=5, label=label)
    panel.axvline(0.5, color="0.6", linestyle="--", linewidth=1)
    _rows(panel, names, "Retrieval: AUC of clips that show it (chance 0.5)")
    panel.legend(fontsize=8)


def _draw_sources(panel: Any, report: Mapping[str, Any], names: list[str]) -> None:
    """Mean cosine of each row with each source, in standard deviations of the row."""
    space = next(reversed(report["spaces"]))
    values = _of_rows(report, names, space, "by_source")
    limit = float(np.abs(values).max()) or 1.0
    picture = panel.imshow(values, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
    _rows(panel, names, f"Mean cosine by source, standardised (texts {space})")
    panel.grid(False)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xticks(range(len(report["sources"])), report["sources"], rotation=30, ha="right", fontsize=7)
    panel.figure.colorbar(picture, ax=panel, shrink=0.8)


def _rows(panel: Any, names: list[str], title: str) -> None:
    panel.set_yticks(range(len(names)), [name[:40] for name in names], fontsize=7)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_title(title, fontsize=10)
    panel.grid(axis="x", color="0.9")
