"""Returns of episodes in a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrl.envs.tasks import Task, normalised_score


@dataclass(frozen=True)
class ReturnSummary:
    """Returns of N episodes of one task.

    Attributes:
        task: Name of the task.
        num_episodes: N.
        mean: Mean return.
        std: Sample standard deviation of the returns; None for a single episode.
        minimum: Smallest return.
        maximum: Largest return.
        score: Normalised score of the mean return; None for a task without bounds.
        score_error: Standard error of the score; None for a single episode too.
    """

    task: str
    num_episodes: int
    mean: float
    std: float | None
    minimum: float
    maximum: float
    score: float | None
    score_error: float | None

    @property
    def score_text(self) -> str:
        """Such as `0.52 +- 0.04`, with the plus-minus sign, or that there is no score."""
        if self.score is None:
            return "no score (the task has no bounds)"
        return f"{self.score:.2f}" if self.score_error is None else f"{self.score:.2f} ± {self.score_error:.2f}"

    @property
    def return_text(self) -> str:
        """Mean return with the standard deviation over episodes."""
        return f"{self.mean:.1f}" if self.std is None else f"{self.mean:.1f} ± {self.std:.1f}"


def summarise(returns: Sequence[float] | NDArray[np.float64], task: Task) -> ReturnSummary:
    """Mean, spread and normalised score of the returns of one or more episodes."""
    values = np.asarray(returns, np.float64)
    assert values.ndim == 1 and len(values) > 0, "a summary needs returns"
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    error = None
    if std is not None and task.score_min is not None and task.score_max is not None:
        error = std / math.sqrt(len(values)) / (task.score_max - task.score_min)
    mean = float(values.mean())
    return ReturnSummary(
        task=task.name,
        num_episodes=len(values),
        mean=mean,
        std=std,
        minimum=float(values.min()),
        maximum=float(values.max()),
        score=normalised_score(task, mean),
        score_error=error,
    )
