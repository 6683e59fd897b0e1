"""Episodes at fewer frames a second than they were recorded at: every n-th frame is kept, and n steps become one.

    recorded    frame 0   a1 frame 1   a2 frame 2   a3 frame 3   a4 frame 4   a5 frame 5
    every 2nd   frame 0                A  frame 2                B  frame 4

A row's action leads to its frame, so that A stands for a1 and a2: their mean, or the last of them. Its reward is the
sum of theirs. Steps that are left over at the end are left out, unless the task ended in them: then they are the last
row, as in an environment that repeats actions and ends in between.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from genrl.data.episode import Array, Episode
from genrl.infra.errors import UserError

Merge = Literal["mean", "last"]
RATE_TOLERANCE = 0.01
"""Relative difference of frame rates that still counts as the same: 29.97 is 30."""


def frames_per_row(fps: float, store_fps: float | None, place: str) -> int:
    """How many recorded frames become a row of the store.

    Args:
        fps: Frames a second of the recording.
        store_fps: Those that the store is to have; None for the recording's.
        place: What was recorded, for complaints.

    Raises:
        UserError: If the recording has not a whole multiple of them.
    """
    if store_fps is None:
        return 1
    every = max(1, round(fps / store_fps))
    if abs(fps / store_fps / every - 1.0) > RATE_TOLERANCE:
        known = ", ".join(f"{fps / divisor:.4g}" for divisor in (1, 2, 3, 4, 5))
        raise UserError(
            f"{place} has {fps:.4g} frames a second, no whole multiple of --store-fps {store_fps:g}; "
            f"it can be {known} ..."
        )
    return every


def thinned(episode: Episode, every: int, merge: Merge) -> Episode:
    """Every n-th frame of an episode, with the actions and rewards of the steps between them.

    Args:
        episode: The episode; it has no embeddings, which are of clips at its own rate.
        every: Recorded steps that become one.
        merge: What their action is: the mean keeps what forces and velocities do, the last one where positions lead.
    """
    assert not episode.embeddings
    ends = np.arange(every, len(episode), every)
    whole = int(ends[-1]) if len(ends) else 0
    if episode.is_terminal[whole + 1 :].any():
        ends = np.append(ends, len(episode) - 1)
    starts = np.concatenate([[1], ends[:-1] + 1])[: len(ends)]
    kept = np.concatenate([[0], ends])

    def summed(values: Array) -> Array:
        """(K, ...) sum over the steps that led to each kept frame; the first row stays."""
        stop = kept[-1] + 1
        groups = np.add.reduceat(values[:stop].astype(np.float64), starts, axis=0) if len(starts) else values[:0]
        return np.concatenate([values[:1], groups])

    action = episode.action[kept]
    if merge == "mean":
        action = (summed(episode.action) / np.diff(kept, prepend=-1)[:, None]).astype(np.float32)
    return replace(
        episode,
        frames=episode.frames[kept],
        action=action,
        reward=summed(episode.reward).astype(np.float32),
        is_terminal=summed(episode.is_terminal) > 0,
        state=None if episode.state is None else episode.state[kept],
    )
