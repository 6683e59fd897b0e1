"""How well embeddings of texts and of clips fit together: the gap between them, their cosines, retrieval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genrl.data.episode import Array

TOP = 10
"""Clips that a text ranks first and is judged by."""
SHOWN, NOT_SHOWN, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class TextRanking:
    """How one text ranks all clips.

    Attributes:
        mean, std, low, median, high: Of its cosines; low and high are the 5th and 95th percentiles.
        auc: Chance that a clip that shows it ranks before one that does not, 0.5 for a text that says nothing; None
            where clips of one of both kinds are lacking.
        precision: Share of clips that show it among the first of those known, at most `TOP`.
        base_rate: That share among all known clips.
        top: (at most TOP,) clips it ranks first, best first.
    """

    mean: float
    std: float
    low: float
    median: float
    high: float
    auc: float | None
    precision: float | None
    base_rate: float | None
    top: tuple[int, ...]


def modality_gap(video: Array, text: Array) -> float:
    """Distance between the mean of (N, E) unit embeddings of clips and that of (M, E) of texts.

    Source: Liang et al. 2022, Mind the Gap (arXiv 2203.02053), section 2.
    """
    return float(np.linalg.norm(video.mean(0) - text.mean(0)))


def rank_clips(cosines: Array, labels: Array) -> TextRanking:
    """How one text ranks clips.

    Args:
        cosines: (N,) of the text with each clip.
        labels: (N,) SHOWN, NOT_SHOWN or UNKNOWN.
    """
    low, median, high = np.percentile(cosines, [5, 50, 95])
    order = np.argsort(-cosines, kind="stable")
    known = order[labels[order] != UNKNOWN]
    shown = labels[known] == SHOWN
    auc = precision = base_rate = None
    if shown.any() and not shown.all():
        auc = area_under_curve(cosines[labels == SHOWN], cosines[labels == NOT_SHOWN])
        precision, base_rate = float(shown[:TOP].mean()), float(shown.mean())
    spread = float(cosines.mean()), float(cosines.std()), float(low), float(median), float(high)
    return TextRanking(*spread, auc, precision, base_rate, tuple(int(row) for row in order[:TOP]))


def area_under_curve(shown: Array, others: Array) -> float:
    """Chance that one of the first numbers is greater than one of the second; ties count half."""
    ascending = np.sort(others)
    below = np.searchsorted(ascending, shown, "left")
    not_above = np.searchsorted(ascending, shown, "right")
    return float((below + not_above).mean() / (2 * len(others)))


def matched_means(cosines: Array, labels: Array) -> dict[str, float | None]:
    """Mean (M, N) cosine over all pairs, over those that belong together, and over those that do not."""
    chosen = {"all": np.ones_like(labels, bool), "shown": labels == SHOWN, "not_shown": labels == NOT_SHOWN}
    return {name: float(cosines[pairs].mean()) if pairs.any() else None for name, pairs in chosen.items()}


def most_alike(cosines: Array) -> list[tuple[int, float]]:
    """For each of (M, N) texts, the other text that ranks clips most alike, and the correlation of their cosines.

    Two texts of different meaning that rank alike are one text to the model.
    """
    if len(cosines) < 2:
        return [(0, 1.0)] * len(cosines)
    centred = cosines - cosines.mean(1, keepdims=True)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    correlation = centred @ centred.T
    np.fill_diagonal(correlation, -np.inf)
    return [(int(other), float(row[other])) for other, row in zip(correlation.argmax(1), correlation, strict=True)]


def standardised_by_source(cosines: Array, source: Array, num_sources: int) -> Array:
    """(M, num_sources) mean cosine of each text with the clips of each source, in deviations over all clips."""
    standard = (cosines - cosines.mean(1, keepdims=True)) / np.maximum(cosines.std(1, keepdims=True), 1e-12)
    means = [standard[:, source == number].mean(1) for number in range(num_sources)]
    return np.stack(means, axis=1)
