"""Reading a store of episodes; the one import for everything about stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorstore as ts

from genrl.data import layout
from genrl.data.episode import Array, EmbeddingInfo, Episode, StoreSpec
from genrl.data.writer import EmbeddingWriter, StoreWriter
from genrl.infra.errors import UserError

__all__ = [
    "EmbeddingInfo",
    "EmbeddingWriter",
    "Episode",
    "EpisodeTable",
    "Store",
    "StoreSpec",
    "StoreWriter",
    "find_stores",
    "open_stores",
]

CACHE_BYTES = 32 * 2**20
"""Memory for decoded chunks of small fields and shard indices, per open store."""
READS = 32
"""Reads under way at once: a disk answers many sooner than one after the other."""


@dataclass(frozen=True)
class EpisodeTable:
    """Where the episodes of a store lie.

    Attributes:
        start: (num_episodes,) int64 first row.
        length: (num_episodes,) int64 number of rows.
        source: (num_episodes,) int64 index into `Store.sources`.
        origin: Name of the file each episode was imported from; empty when it was collected.
        prompt: What each episode shows, in words; empty when nobody said.
    """

    start: Array
    length: Array
    source: Array
    origin: tuple[str, ...]
    prompt: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.start)


class Store:
    """The committed content of a store when it was opened; what is written later is not seen."""

    def __init__(self, path: Path, table: layout.StoreTable, cache_bytes: int) -> None:
        """Use `Store.open`."""
        self.path = path
        self.spec = table.spec
        self.num_frames = table.num_frames
        self.sources = list(table.sources)
        self.shard_frames = table.shard_frames
        self.episodes = EpisodeTable(
            np.array(table.start, np.int64),
            np.array(table.length, np.int64),
            np.array(table.source, np.int64),
            tuple(table.origin),
            tuple(table.prompt),
        )
        self._columns = table.embeddings
        self._context, self._uncached = (
            ts.Context({"cache_pool": {"total_bytes_limit": limit}, "file_io_concurrency": {"limit": READS}})
            for limit in (cache_bytes, 0)
        )
        self._arrays: dict[str, ts.TensorStore] = {}

    @classmethod
    def open(cls, path: Path | str, cache_bytes: int = CACHE_BYTES) -> Store:
        """Open a store to read it.

        Args:
            path: Directory of the store.
            cache_bytes: Memory to keep decoded chunks in.

        Raises:
            UserError: If there is no store, or it is damaged.
        """
        path = Path(path)
        return cls(path, layout.read_table(path), cache_bytes)

    @property
    def embeddings(self) -> list[str]:
        """Names of the video-language models whose embeddings the store has, finished or not."""
        return sorted(self._columns)

    def embedding_info(self, name: str) -> EmbeddingInfo:
        """What an embedding column is.

        Raises:
            UserError: If the store has no such column.
        """
        if name not in self._columns:
            raise UserError(
                f"{self.path} has no embeddings of {name!r}; run `genrl embed --data {self.path} --vlm {name}`"
            )
        return self._columns[name].info

    def embedded_rows(self, name: str) -> int:
        """Rows from the start whose embeddings are computed; `num_frames` when the column is finished."""
        return min(self._columns[name].rows, self.num_frames) if name in self._columns else 0

    def present_rows(self, name: str) -> Array:
        """(N,) bool, whether a row has an embedding; an older store is read for it, shard by shard.

        Raises:
            UserError: If the store has no such column, or a file of it is damaged.
        """
        self.embedding_info(name)
        present = np.zeros(self.num_frames, bool)
        noted = self._columns[name].present
        if noted is not None:
            for start, count in noted:
                present[start : start + count] = True
            return present
        rows = self.embedded_rows(name)
        for start in range(0, rows, self.shard_frames):
            stop = min(start + self.shard_frames, rows)
            present[start:stop] = self.read(f"embedding/{name}", start, stop).any(axis=1)
        return present

    def is_first(self, rows: Array) -> Array:
        """Whether each of some rows, an array of any shape, begins an episode: from the table, without reading."""
        starts = self.episodes.start
        return starts[np.searchsorted(starts, rows, side="right") - 1] == rows

    @property
    def fields(self) -> list[str]:
        """Names that `read` takes, embedding columns among them."""
        return [*layout.field_shapes(self.spec), *(f"embedding/{name}" for name in self.embeddings)]

    def read(self, field: str, start: int, stop: int) -> Array:
        """Rows `start` to `stop` (exclusive) of a field.

        Args:
            field: `frames`, `action`, `reward`, `is_first`, `is_last`, `is_terminal`, `state` or `embedding/<vlm>`.
            start: First row.
            stop: Row after the last, at most `num_frames`; for an embedding at most its `embedded_rows`.

        Raises:
            UserError: If a file of the store is damaged.
        """
        rows = self.empty_rows(field, stop - start)
        self.read_into(field, [start], [rows])
        return rows

    def empty_rows(self, field: str, *count: int) -> Array:
        """(*count, ...) uninitialised memory of the type and row shape of a field."""
        array = self._array(field)
        return np.empty((*count, *array.shape[1:]), array.dtype.numpy_dtype)

    def read_into(self, field: str, starts: Sequence[int], rows: Sequence[Array]) -> None:
        """Several ranges of rows at once, decoded in parallel and in place: much faster than one after the other.

        Args:
            field: As for `read`.
            starts: First row of each range.
            rows: (n, ...) memory for each range, contiguous and of the field's type; its length tells how many rows.

        Raises:
            UserError: If a file of the store is damaged.
        """
        array = self._array(field)
        futures, batch = [], ts.Batch()  # Chunks that lie beside each other in a file are read in one go.
        for start, into in zip(starts, rows, strict=True):
            assert 0 <= start <= start + len(into) <= self.num_frames, "rows outside the store"
            window = array[start : start + len(into)].translate_to[0]
            # Frames go straight into our own memory: no second copy of what may be 30 MB a batch. Of the small fields
            # the copy is cheaper than the detour.
            futures.append(ts.array(into).write(window, batch=batch) if field == "frames" else window.read(batch=batch))
        batch.submit()
        try:
            for future, into in zip(futures, rows, strict=True):
                read = future.result()
                if field != "frames":
                    into[...] = read
        except (ValueError, OSError) as error:
            raise UserError(
                f"{self.path}: {field} cannot be read, a file of it is damaged; restore it from a copy of the store"
            ) from error

    def episode(self, index: int) -> Episode:
        """One whole episode, with every finished embedding it has."""
        start = int(self.episodes.start[index])
        stop = start + int(self.episodes.length[index])
        names = [name for name in self.embeddings if self.embedded_rows(name) >= stop]
        return Episode(
            frames=self.read("frames", start, stop),
            action=self.read("action", start, stop),
            reward=self.read("reward", start, stop),
            is_terminal=self.read("is_terminal", start, stop),
            state=self.read("state", start, stop) if self.spec.state_dim else None,
            embeddings={name: self.read(f"embedding/{name}", start, stop) for name in names},
            prompt=self.episodes.prompt[index],
        )

    def _array(self, field: str) -> ts.TensorStore:
        if field not in self._arrays:
            assert field in self.fields, f"{self.path} has no field {field!r}"
            # Windows of frames hardly ever meet again before others have driven them out: keeping them costs a quarter.
            context = self._uncached if field == "frames" else self._context
            self._arrays[field] = layout.open_array(self.path, field, context)
        return self._arrays[field]


def find_stores(paths: Sequence[Path | str]) -> list[Path]:
    """Directories of stores: each path is a store, or a directory that holds stores. One named twice counts once.

    Raises:
        UserError: If a path is neither.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if (path / layout.TABLE_FILE).exists():
            found.append(path)
            continue
        if not path.exists():
            raise UserError(f"{path} does not exist; name an episode store or a directory of stores")
        inside = sorted(file.parent for file in path.glob(f"*/{layout.TABLE_FILE}"))
        if not inside:
            raise UserError(
                f"{path} is neither an episode store nor a directory of stores; make one with `genrl collect`"
            )
        found.extend(inside)
    return list({path.resolve(): path for path in found}.values())


def open_stores(paths: Sequence[Path | str], cache_bytes: int = CACHE_BYTES) -> list[Store]:
    """Open a data set: a list of stores whose episodes can be mixed.

    Args:
        paths: Stores, or directories of stores.
        cache_bytes: Memory to keep decoded chunks in, over all stores.

    Raises:
        UserError: If there is none, or two disagree in domain, action size, look, frame size or clock.
    """
    found = find_stores(paths)
    if not found:
        raise UserError("no episode store was named; pass --data STORE")
    stores = [Store.open(path, cache_bytes // len(found)) for path in found]
    first = stores[0]
    for store in stores[1:]:
        for name in ("domain", "action_dim", "discrete", "look", "frame_size", "action_repeat", "control_timestep"):
            one, other = getattr(first.spec, name), getattr(store.spec, name)
            if one != other:
                raise UserError(
                    f"{first.path} has {name} {one!r}, {store.path} has {other!r}; a data set needs one, leave one out"
                )
    return stores
