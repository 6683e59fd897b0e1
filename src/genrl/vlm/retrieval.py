"""Text-to-video retrieval: does a wording find its behaviour among others?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from genrl.vlm.bodies import CONCEPTS
from genrl.vlm.protocol import VideoLanguageModel

CANDIDATES = 20
TRIALS = 20
"""Draws of candidates for each wording."""


@dataclass(frozen=True)
class RetrievalReport:
    """How often a wording ranked its own clip first.

    Attributes:
        accuracy: Mean over wordings; chance is 1 / candidates.
        by_concept: Mean over the wordings of each concept.
        by_wording: Of each wording.
        confused_with: For each concept, the classes that ranked first wrongly, and how often.
        candidates: Clips ranked in a trial, each of another class.
    """

    accuracy: float
    by_concept: dict[str, float]
    by_wording: dict[str, float]
    confused_with: dict[str, dict[str, float]]
    candidates: int


def measure_retrieval(
    model: VideoLanguageModel,
    video_embeddings: torch.Tensor,
    labels: np.ndarray,
    wordings: Mapping[str, list[str]],
    classes: Sequence[str],
    seed: int = 0,
) -> RetrievalReport:
    """Rank clips of different classes by their cosine with a wording.

    A trial takes one clip that shows the wording's concept and one of each of up to 19 other classes that certainly do
    not show it.

    Args:
        model: Embeds the wordings.
        video_embeddings: (N, E) unit embeddings of the clips.
        labels: (N, len(CONCEPTS)) as `label_clips` gives them.
        wordings: By concept; concepts without a clip are left out.
        classes: Concepts that the other clips are of.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    by_wording: dict[str, float] = {}
    by_concept: dict[str, float] = {}
    confused: dict[str, dict[str, float]] = {}
    fewest = CANDIDATES
    for concept, texts in wordings.items():
        column = CONCEPTS.index(concept)
        right = np.flatnonzero(labels[:, column] == 1)
        others = {}
        for other in classes:
            rows = np.flatnonzero((labels[:, CONCEPTS.index(other)] == 1) & (labels[:, column] == 0))
            if other != concept and len(rows):
                others[other] = rows
        if not len(right) or not others or not texts:
            continue
        names = np.array(list(others))
        num_rivals = min(CANDIDATES - 1, len(names))
        fewest = min(fewest, num_rivals + 1)
        misses: dict[str, float] = {}
        for text, embedding in zip(texts, model.embed_text(texts), strict=True):
            cosines = (video_embeddings @ embedding).cpu().numpy()
            drawn = np.stack(
                [cosines[rng.choice(rows, TRIALS)] for rows in others.values()], axis=1
            )  # (TRIALS, classes)
            absent = rng.random(drawn.shape).argsort(1)[:, num_rivals:]
            np.put_along_axis(drawn, absent, -np.inf, axis=1)
            hit = cosines[rng.choice(right, TRIALS)] > drawn.max(1)
            for rival in names[drawn.argmax(1)[~hit]]:
                misses[str(rival)] = misses.get(str(rival), 0.0) + 1 / (TRIALS * len(texts))
            by_wording[text] = float(hit.mean())
        by_concept[concept] = float(np.mean([by_wording[text] for text in texts]))
        confused[concept] = dict(sorted(misses.items(), key=lambda item: -item[1])[:3])
    accuracy = float(np.mean(list(by_wording.values()))) if by_wording else float("nan")
    return RetrievalReport(accuracy, by_concept, by_wording, confused, fewest)
