"""`genrl vlm report`: what a video-language model makes of a data set, and what the aligner of a model changes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.table import Table

from genrl.data.episode import Array
from genrl.data.store import Store, open_stores
from genrl.envs.tasks import domain_tasks
from genrl.evaluation.text_video import (
    UNKNOWN,
    matched_means,
    modality_gap,
    most_alike,
    rank_clips,
    standardised_by_source,
)
from genrl.infra.checkpoint import atomic_write, check_directory
from genrl.infra.compute import DeviceName, pick_device
from genrl.infra.errors import UserError
from genrl.infra.progress import table_console
from genrl.interop.original_import import IMPORTED_CHECKSUM
from genrl.run.prompting import REFERENCE_PROMPTS, load_model
from genrl.run.report_clips import ReportClips, take_clips
from genrl.run.vlm_report_figure import draw_report
from genrl.vlm.captions import load_held_out_wordings
from genrl.vlm.protocol import VideoLanguageModel
from genrl.vlm.registry import column_name, column_vlm, load_vlm

SUMMARY = {
    "modality gap": "gap",
    "cosine, text and clip that shows it": "cosine.shown",
    "cosine, text and clip that does not": "cosine.not_shown",
    "cosine, all pairs": "cosine.all",
    "retrieval: AUC (chance 0.5)": "auc",
    "retrieval: right among the first 10": "precision",
    "the same by chance": "base_rate",
}
"""Rows of the printed table -> where their number is."""


@dataclass(frozen=True)
class VlmReportConfig:
    """Look at clips of embedded stores through texts: modality gap, cosines, retrieval; with --model also past its
    aligner.

    Texts are those of --wordings; without it, wordings of behaviours that rules find in simulator states (walker,
    stickman), else the prompts that episodes were recorded with, else the prompts of the body's tasks, else the
    reference prompts. Where it is known which clips show a text, retrieval is measured; otherwise the report tells how
    the texts' cosines spread, which clips and sources each ranks first, and which texts are one to the model.
    """

    data: tuple[Path, ...] = ()
    """Stores with the VLM's embeddings (`genrl embed`), or directories of stores."""
    model: str | None = None
    """Shipped model, or a directory made by `genrl pretrain`, whose aligner is looked at too."""
    vlm: str | None = None
    """A name (`genrl vlm list`), NAME=WHERE for another checkpoint (a directory or hub id), the directory of a trained
    mini VLM, or package:Class. By default the model's, else `mini`."""
    wordings: Path | None = None
    """JSON file: a list of texts, or groups of them, {"walk": ["walking", "a stroll"]}. A group with the name of a
    source, of an episode's prompt or of a behaviour of the rules is measured by retrieval."""
    clips: int = 2000
    """At most so many clips, spread evenly over the episodes held out (each store's every tenth)."""
    out: Path = Path("vlm-report")
    """Directory for report.json and report.png."""
    device: DeviceName = "auto"

    def __post_init__(self) -> None:
        if self.clips < 2:
            raise ValueError(f"--clips must be at least 2, got {self.clips}")


def vlm_report(config: VlmReportConfig) -> dict[str, Any]:
    """Prints the tables, writes both files, returns the numbers.

    Raises:
        UserError: If data, VLM, model or texts do not fit together.
    """
    if not config.data:
        raise UserError("--data is missing: name an embedded store")
    check_directory(config.out)
    stores = open_stores(config.data)
    model = None if config.model is None else load_model(config.model, pick_device(config.device), config.vlm)
    vlm = load_column_vlm(stores[0], config.vlm or "mini", config.device) if model is None else model.vlm
    check_columns(stores, vlm)
    clips = take_clips(stores, vlm, config.clips)
    groups = read_wordings(config.wordings) if config.wordings else default_wordings(stores, clips)
    texts = [text for wordings in groups.values() for text in wordings]
    raw = vlm.embed_text(texts)
    spaces = {"raw": raw} if model is None else {"raw": raw, "aligned": model.model.aligner.align(raw)}
    embedded = {space: rows.detach().float().cpu().numpy() for space, rows in spaces.items()}
    report = measure(clips, groups, embedded)
    report["facts"] = {
        "vlm": vlm.name,
        "checksum": vlm.checksum,
        "model": config.model,
        "data": [str(store.path) for store in stores],
        "clips": len(clips.video),
        "held_out": clips.held_out,
        "texts": len(texts),
    }
    atomic_write(config.out / "report.json", json.dumps(report, indent=2) + "\n")
    draw_report(report, clips.video, embedded, config.out / "report.png")
    print_report(report)
    print(f"numbers: {config.out / 'report.json'}\npicture: {config.out / 'report.png'}")
    return report


def load_column_vlm(store: Store, name: str, device: DeviceName) -> VideoLanguageModel:
    """The VLM that a store's column was made with, with clips of as many frames."""
    info = store.embedding_info(column_name(name))
    return load_vlm(column_vlm(name, info.source), pick_device(device), frames=info.frames_per_clip)


def check_columns(stores: list[Store], vlm: VideoLanguageModel) -> None:
    """Refuses stores that lack the VLM's embeddings, or have those of other weights."""
    for store in stores:
        info = store.embedding_info(vlm.name)
        if store.embedded_rows(vlm.name) < store.num_frames:
            command = f"genrl embed --data {store.path} --vlm {info.source or vlm.name}"
            raise UserError(f"{store.path} is embedded in part; run `{command}`")
        fits = (info.dim, info.frames_per_clip) == (vlm.embed_dim, vlm.frames_per_clip)
        if not fits or info.checksum not in (vlm.checksum, IMPORTED_CHECKSUM):
            raise UserError(
                f"{store.path} has embeddings {info.name!r} from other weights (checksum {info.checksum} with "
                f"{info.frames_per_clip} frames) than the VLM here ({vlm.checksum} with {vlm.frames_per_clip}); "
                "--vlm names another, `genrl embed --fresh` computes them anew"
            )


def read_wordings(file: Path) -> dict[str, list[str]]:
    """Group -> texts of a JSON file; a bare list is groups of one.

    Raises:
        UserError: If the file is not that.
    """
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"--wordings {file} cannot be read as JSON ({error})") from error
    groups = {text: [text] for text in data} if isinstance(data, list) and all(map(_is_text, data)) else data
    fits = isinstance(groups, dict) and all(
        isinstance(own, list) and all(map(_is_text, own)) for own in groups.values()
    )
    if not fits or not any(groups.values()):
        raise UserError(f'--wordings {file} must hold a list of texts, or {{"group": ["text", ...]}}')
    return {name: own for name, own in groups.items() if own}


def default_wordings(stores: list[Store], clips: ReportClips) -> dict[str, list[str]]:
    """Group -> texts where the user gives none; see `VlmReportConfig`."""
    shown = {name for name, labels in clips.labels.items() if (labels == 1).any()}
    held_out = {name: texts for name, texts in load_held_out_wordings().items() if name in shown}
    if held_out:
        return held_out
    prompts = dict.fromkeys(prompt for store in stores for prompt in store.episodes.prompt if prompt)
    tasks = dict.fromkeys(task.prompt for task in domain_tasks(stores[0].spec.domain) if task.prompt)
    reference: list[str] = json.loads(REFERENCE_PROMPTS.read_text())["prompts"]
    return {str(text): [str(text)] for text in [*prompts] or [*tasks] or reference}


def measure(clips: ReportClips, groups: Mapping[str, list[str]], texts: Mapping[str, Array]) -> dict[str, Any]:
    """The numbers of a report, JSON-ready.

    Args:
        clips: The clips.
        groups: Group -> texts.
        texts: Space ("raw", and "aligned" past the aligner) -> (M, E) unit embeddings of all texts in order.
    """
    names = [(group, text) for group, wordings in groups.items() for text in wordings]
    unknown = np.full(len(clips.video), UNKNOWN, np.int8)
    labels = np.stack([clips.labels.get(group, unknown) for group, _ in names])  # (M, N)
    sources = list(dict.fromkeys(clips.source))
    source = np.array([sources.index(own) for own in clips.source])
    rows: list[dict[str, Any]] = [{"group": group, "text": text} for group, text in names]
    report: dict[str, Any] = {"spaces": {}, "sources": sources, "texts": rows}
    for space, embeddings in texts.items():
        cosines = embeddings @ clips.video.T
        rankings = [rank_clips(own, known) for own, known in zip(cosines, labels, strict=True)]
        by_source = standardised_by_source(cosines, source, len(sources))
        report["spaces"][space] = {
            "gap": modality_gap(clips.video, embeddings),
            "cosine": matched_means(cosines, labels),
            "auc": _mean(ranking.auc for ranking in rankings),
            "precision": _mean(ranking.precision for ranking in rankings),
            "base_rate": _mean(ranking.base_rate for ranking in rankings),
        }
        for row, own, ranking, (other, correlation), means in zip(
            rows, cosines, rankings, most_alike(cosines), by_source, strict=True
        ):
            top = [_clip_name(clips, place) | {"cosine": float(own[place])} for place in ranking.top]
            alike = {"text": names[other][1], "correlation": correlation}
            row[space] = asdict(ranking) | {"top": top, "alike": alike, "by_source": means.tolist()}
    return report


def print_report(report: dict[str, Any]) -> None:
    """Two tables: the spaces, and the texts."""
    facts, spaces = report["facts"], report["spaces"]
    what = "clips of episodes held out" if facts["held_out"] else "clips (too few episodes to hold any out)"
    print(f"{facts['clips']} {what}, {facts['texts']} texts, VLM {facts['vlm']} ({facts['checksum']})")
    summary = Table("", *(f"texts {space}" for space in spaces))
    for name, path in SUMMARY.items():
        values = [_at(space, path) for space in spaces.values()]
        if any(value is not None for value in values):
            summary.add_row(name, *map(_number, values))
    space = next(reversed(spaces))
    table = Table(
        "text", "group", "mean", "5-95 %", "AUC", "ranks first clips of", "ranks most like", title=f"texts {space}"
    )
    for row in report["texts"]:
        own = row[space]
        first = Counter(clip["source"] for clip in own["top"]).most_common(1)[0]
        table.add_row(
            row["text"],
            "" if row["group"] == row["text"] else row["group"],
            _number(own["mean"]),
            f"{own['low']:+.2f} {own['high']:+.2f}",
            _number(own["auc"]),
            f"{first[0]} ({first[1]} of {len(own['top'])})",
            f"{own['alike']['text']} ({own['alike']['correlation']:.2f})",
        )
    table_console().print(summary)
    table_console().print(table)


def _clip_name(clips: ReportClips, place: int) -> dict[str, Any]:
    return {
        "store": clips.store[place],
        "episode": int(clips.episode[place]),
        "row": int(clips.row[place]),
        "source": clips.source[place],
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _at(numbers: dict[str, Any], path: str) -> float | None:
    for key in path.split("."):
        numbers = numbers[key]
    return cast("float | None", numbers)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
