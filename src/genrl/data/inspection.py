"""What a store holds, and which of its episodes are broken or suspicious."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from genrl.data.coverage import SIGNATURE_DIM, signature
from genrl.data.episode import Array
from genrl.data.store import Store
from genrl.infra.errors import UserError

HISTOGRAM_BINS = 12
STILL_LEVELS = 2
"""Grey levels that noise or compression may change where nothing happens."""


@dataclass(frozen=True)
class EpisodeFault:
    """One thing that is wrong with one episode."""

    episode: int
    source: str
    origin: str
    """File it was imported from; empty when it was collected."""
    fault: str


@dataclass(frozen=True)
class SourceSummary:
    """The episodes of one source.

    Attributes:
        name: The source.
        lengths: (num_episodes,) rows of each episode.
        returns: (num_episodes,) sum of its rewards.
        histogram: (HISTOGRAM_BINS,) rows by reward; the rewards of resets are left out.
        edges: (HISTOGRAM_BINS + 1,) rewards between the bins, the same for all sources of a store.
    """

    name: str
    lengths: Array
    returns: Array
    histogram: Array
    edges: Array


@dataclass(frozen=True)
class Inspection:
    """The result of reading a whole store.

    Attributes:
        sources: What each source gave.
        faults: What is wrong with episodes.
        suspicions: What may be right but seldom is: cameras that show nothing new, actions that never change.
        signatures: (num_episodes, D) what each episode shows, for `near_duplicates`; zero where it cannot be read.
    """

    sources: list[SourceSummary]
    faults: list[EpisodeFault]
    suspicions: list[EpisodeFault]
    signatures: Array


def inspect_store(store: Store, progress: Callable[[int], None] | None = None) -> Inspection:
    """Read a store and judge every episode.

    Args:
        store: The store.
        progress: Called with the number of episodes read so far.
    """
    table = store.episodes
    faults: list[EpisodeFault] = []
    suspicions: list[EpisodeFault] = []
    rewards: list[Array] = []
    signatures = np.zeros((len(table), SIGNATURE_DIM), np.uint8)
    for index in range(len(table)):
        found, rows = _judge(store, index)
        source = store.sources[table.source[index]]
        faults.extend(EpisodeFault(index, source, table.origin[index], fault) for fault in found)
        suspicions.extend(EpisodeFault(index, source, table.origin[index], doubt) for doubt in _doubt(rows))
        rewards.append(rows.get("reward", np.full(table.length[index], np.nan, np.float32)))
        if "frames" in rows:
            signatures[index] = signature(rows["frames"])
        if progress is not None:
            progress(index + 1)
    steps = np.concatenate([np.zeros(0, np.float32), *(reward[1:] for reward in rewards)])
    steps = steps[np.isfinite(steps)]
    edges = np.histogram_bin_edges(steps if len(steps) else np.zeros(1), HISTOGRAM_BINS)
    sources = []
    for number, name in enumerate(store.sources):
        own = [rewards[index] for index in np.flatnonzero(table.source == number)]
        later = np.concatenate([np.zeros(0, np.float32), *(reward[1:] for reward in own)])
        sources.append(
            SourceSummary(
                name=name,
                lengths=table.length[table.source == number],
                returns=np.array([np.nansum(reward) for reward in own], np.float64),
                histogram=np.histogram(later[np.isfinite(later)], edges)[0],
                edges=edges,
            )
        )
    return Inspection(sources, faults, suspicions, signatures)


def _judge(store: Store, index: int) -> tuple[list[str], dict[str, Array]]:
    """Faults of one episode, and its rows by field, as far as they can be read."""
    start = int(store.episodes.start[index])
    stop = start + int(store.episodes.length[index])
    faults: list[str] = []
    rows: dict[str, Array] = {}
    for field in store.fields:
        name = field.removeprefix("embedding/")
        if name != field and store.embedded_rows(name) < stop:
            continue
        try:
            rows[field] = store.read(field, start, stop)
        except UserError:
            faults.append(f"{field} cannot be read, a file is damaged")
    for field, values in rows.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            faults.append(f"{field} holds NaN or infinity")
    if "frames" in rows:
        black = int((~rows["frames"].any(axis=(1, 2, 3))).sum())
        if black:
            faults.append(f"{black} frames are all zero")
    if "action" in rows:
        action = rows["action"]
        if (np.abs(action) > 1.0).any():
            faults.append("actions outside -1 ... 1")
        if action[0].any():
            faults.append("the first row has an action")
    expected = {"is_first": np.arange(stop - start) == 0, "is_last": np.arange(stop - start) == stop - start - 1}
    faults.extend(
        f"{field} does not fit the length" for field, flag in expected.items() if not np.array_equal(rows[field], flag)
    )
    if "is_terminal" in rows and rows["is_terminal"][:-1].any():
        faults.append("is_terminal is set before the last row")
    return faults, rows


def _doubt(rows: dict[str, Array]) -> list[str]:
    """What is suspicious about one episode."""
    doubts = []
    if "frames" in rows and len(rows["frames"]) > 1:
        frames = rows["frames"]
        spread = frames.max(axis=(1, 2)).astype(int) - frames.min(axis=(1, 2))
        plain = int(((spread.max(axis=1) <= STILL_LEVELS) & frames.any(axis=(1, 2, 3))).sum())
        if (frames.max(axis=0) - frames.min(axis=0)).max() <= STILL_LEVELS:
            doubts.append("the camera shows the same frame all the time")
        if plain:
            doubts.append(f"{plain} frames are of a single colour")
    if "action" in rows and len(rows["action"]) > 2 and not np.ptp(rows["action"][1:], axis=0).any():
        doubts.append("the action never changes")
    return doubts
