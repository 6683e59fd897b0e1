"""How much of what a data set shows each of its sources shows, and which episodes show the same.

Coverage is that of one space, embeddings or states. Up to 256 of its points are chosen as landmarks, each as far as
possible from those before it, so that they lie evenly wherever there are data, however dense. A point belongs to its
nearest landmark, and a source fills the share of landmarks that it has points at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genrl.data.episode import Array
from genrl.data.store import Store
from genrl.infra.errors import UserError

NUM_LANDMARKS = 256
MOST_POINTS = 20_000
"""Rows that are looked at, evenly spread over each source."""
SIGNATURE_MOMENTS, SIGNATURE_CELLS = 4, 8
SIGNATURE_DIM = SIGNATURE_MOMENTS * SIGNATURE_CELLS**2 * 3
DUPLICATE_TOLERANCE = 4.0
"""Grey levels, root mean square, that two episodes may differ by and show the same; JPEG and H.264 change fewer."""
NUM_ROUGH = 16
"""Directions in which pairs of episodes are compared first."""


@dataclass(frozen=True)
class SourceCoverage:
    """What one source of one store fills.

    Attributes:
        store: Name of the store.
        source: The source.
        share: Of all landmarks, those that it has points at.
        alone: Of all landmarks, those that no other source has points at.
    """

    store: str
    source: str
    share: float
    alone: float


@dataclass(frozen=True)
class Coverage:
    """Coverage of a data set.

    Attributes:
        space: Field that was looked at.
        sources: What each source fills.
        points: (M, 2) the points in the plane in which they differ most.
        owner: (M,) index into `sources`.
        explained: Share of all variance that this plane shows.
    """

    space: str
    sources: list[SourceCoverage]
    points: Array
    owner: Array
    explained: float


def common_space(stores: Sequence[Store]) -> str | None:
    """Field that all stores have alike: embeddings of the same weights, else states of the same body, else None."""
    for name in stores[0].embeddings:
        having = [store for store in stores if name in store.embeddings and store.embedded_rows(name)]
        if having == list(stores) and len({store.embedding_info(name) for store in stores}) == 1:
            return f"embedding/{name}"
    kinds = {(store.spec.domain, store.spec.state_dim) for store in stores}
    return "state" if len(kinds) == 1 and stores[0].spec.state_dim else None


def cover(stores: Sequence[Store], space: str) -> Coverage:
    """Coverage of a data set.

    Args:
        stores: Stores that have the field in common.
        space: `state` or `embedding/<vlm>`.

    Raises:
        UserError: If no row has the field, or a file of a store is damaged.
    """
    names = [(store.path.absolute().name, source) for store in stores for source in store.sources]
    quota = max(1, MOST_POINTS // max(1, len(names)))
    sampled = [_sample(store, number, space, quota) for store in stores for number in range(len(store.sources))]
    owner = np.repeat(np.arange(len(names)), [len(points) for points in sampled])
    points = np.concatenate(sampled).astype(np.float32)
    if not len(points):
        raise UserError(f"no row has {space}; episodes may be shorter than a clip")
    points -= points.mean(axis=0)
    if space == "state":
        # Metres and radians, places and speeds: only their spread makes them comparable.
        points /= np.maximum(points.std(axis=0), 1e-6)
    nearest = _nearest_landmark(points)
    filled = np.zeros((len(names), nearest.max() + 1), bool)
    filled[owner, nearest] = True
    shares = filled.mean(axis=1)
    alone = (filled & (filled.sum(axis=0) == 1)).mean(axis=1)
    plane, explained = _principal(points, 2)
    sources = [
        SourceCoverage(store, source, float(share), float(own))
        for (store, source), share, own in zip(names, shares, alone, strict=True)
    ]
    return Coverage(space, sources, plane, owner, explained)


def signature(frames: Array) -> Array:
    """(D,) uint8 what an episode shows, in a kilobyte: the mean colours of a grid at a few moments.

    Args:
        frames: (N, h, w, 3) uint8.
    """
    moments = np.linspace(0, len(frames) - 1, SIGNATURE_MOMENTS).round().astype(int)
    rows, columns = (np.array_split(np.arange(size), SIGNATURE_CELLS) for size in frames.shape[1:3])
    chosen = frames[moments].astype(np.float32)
    cells = [
        chosen[:, row][:, :, column].mean(axis=(1, 2)) if row.size and column.size else np.zeros((len(moments), 3))
        for row in rows
        for column in columns
    ]
    return np.rint(np.concatenate(cells, axis=None)).astype(np.uint8)


def near_duplicates(signatures: Array) -> list[tuple[int, int]]:
    """(later, earlier) episodes that show nearly the same, each later one once.

    Args:
        signatures: (E, D) of `signature`; rows of zeros, of episodes that cannot be read, are like no other.
    """
    if not len(signatures):
        return []
    points = signatures.astype(np.float32)
    limit = DUPLICATE_TOLERANCE * np.sqrt(points.shape[1])
    # Distances along a few directions are no larger than the whole: they rule out nearly all pairs at little cost.
    rough = _principal(points - points.mean(axis=0), NUM_ROUGH)[0]
    order = np.argsort(rough[:, 0], kind="stable")
    order = order[signatures[order].any(axis=1)]
    ends = np.searchsorted(rough[order, 0], rough[order, 0] + limit, side="right")
    earliest: dict[int, int] = {}
    for place, index in enumerate(order):
        others = order[place + 1 : ends[place]]
        others = others[((rough[others] - rough[index]) ** 2).sum(axis=1) <= limit**2]
        others = others[((points[others] - points[index]) ** 2).sum(axis=1) <= limit**2]
        for other in map(int, others):
            later, earlier = max(int(index), other), min(int(index), other)
            earliest[later] = min(earlier, earliest.get(later, earlier))
    return sorted(earliest.items())


def _sample(store: Store, source: int, space: str, quota: int) -> Array:
    """(n, E) rows of one source, evenly spread; rows without an embedding are left out."""
    table = store.episodes
    own = np.flatnonzero(table.source == source)
    limit = store.embedded_rows(space.removeprefix("embedding/")) if space != "state" else store.num_frames
    rows = np.concatenate(
        [np.zeros(0, np.int64), *(np.arange(table.start[i], table.start[i] + table.length[i]) for i in own)]
    )
    rows = rows[rows < limit]
    wanted = rows[np.unique(np.linspace(0, max(0, len(rows) - 1), min(quota, len(rows))).astype(int))]
    found = [store.empty_rows(space, 0)]
    for first in range(0, limit, store.shard_frames):
        inside = wanted[(wanted >= first) & (wanted < first + store.shard_frames)]
        if len(inside):
            block = store.read(space, first, min(first + store.shard_frames, limit))
            found.append(block[inside - first])
    points = np.concatenate(found)
    usable = np.isfinite(points).all(axis=1)
    return points[usable & points.any(axis=1)] if space != "state" else points[usable]


def _nearest_landmark(points: Array) -> Array:
    """(M,) number of each point's landmark."""
    nearest = np.zeros(len(points), np.int64)
    distance = np.full(len(points), np.inf, np.float32)
    landmark = int((points**2).sum(axis=1).argmax())
    for number in range(NUM_LANDMARKS):
        to_it = ((points - points[landmark]) ** 2).sum(axis=1)
        nearest[to_it < distance] = number
        distance = np.minimum(distance, to_it)
        landmark = int(distance.argmax())
        if distance[landmark] <= 1e-12:
            break
    return nearest


def _principal(points: Array, count: int) -> tuple[Array, float]:
    """(M, count) coordinates along the directions of most variance, the largest first, and their share of it.

    Args:
        points: (M, E) whose mean is zero.
        count: Number of directions; coordinates beyond E are zero.
    """
    variance, directions = np.linalg.eigh(points.T.astype(np.float64) @ points)
    found = points @ directions[:, ::-1][:, :count]
    found = np.pad(found, ((0, 0), (0, count - found.shape[1])))
    return found.astype(np.float32), float(variance[-count:].sum() / max(variance.sum(), 1e-12))
