"""Writing a store: episodes, and embeddings of the frames that are there."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from types import TracebackType

import numpy as np
import tensorstore as ts

from genrl.data import layout
from genrl.data.episode import Array, EmbeddingInfo, Episode, StoreSpec, check_episode
from genrl.data.layout import EmbeddingColumn, StoreLock, StoreTable
from genrl.infra.errors import UserError


class StoreWriter:
    """Adds episodes to a store; a context manager.

    `add` keeps an episode in memory until a shard is full, `flush` commits all that was added. A process killed at any
    moment leaves what the last commit held, and opening again goes on from there.
    """

    def __init__(self, path: Path, table: StoreTable, lock: StoreLock) -> None:
        """Use `StoreWriter.open`."""
        self.path = path
        self._table = table
        self._lock = lock
        self._arrays = {name: layout.open_array(path, name, write=True) for name in layout.field_shapes(table.spec)}
        self._columns: dict[str, ts.TensorStore] = {}
        self._pending: list[tuple[Episode, str, str]] = []
        self._pending_frames = 0

    @classmethod
    def open(cls, path: Path | str, spec: StoreSpec, shard_frames: int = 4096) -> StoreWriter:
        """Open a store to add episodes, made new when there is none.

        Args:
            path: Directory of the store.
            spec: What its episodes share.
            shard_frames: Frames per shard file of a new store; an existing one keeps its own.

        Raises:
            UserError: If the store holds something else, another process writes it, or the directory is not a store.
        """
        path = Path(path)
        exists = (path / layout.TABLE_FILE).exists()
        with layout.store_disk_errors(path):
            if not exists:
                _check_free(path)
                layout.create_group(path)
            lock = StoreLock(path)
            try:
                layout.remove_leftovers(path)
                if not (path / layout.TABLE_FILE).exists():
                    for name, (dtype, row) in layout.field_shapes(spec).items():
                        layout.create_array(path, name, dtype, row, shard_frames)
                    layout.commit_table(path, StoreTable(spec, shard_frames))
                table = layout.read_table(path)
                _check_same(path, table.spec, spec)
                return cls(path, table, lock)
            except BaseException:
                lock.release()
                raise

    @property
    def num_frames(self) -> int:
        """Frames committed or added."""
        return self._table.num_frames + self._pending_frames

    @property
    def num_episodes(self) -> int:
        """Episodes committed or added."""
        return len(self._table.start) + len(self._pending)

    @property
    def origins(self) -> set[str]:
        """Names of the files that committed episodes were imported from."""
        return {origin for origin in self._table.origin if origin}

    @property
    def embeddings(self) -> dict[str, EmbeddingInfo]:
        """Embedding columns of the store, by name."""
        return {name: column.info for name, column in self._table.embeddings.items()}

    def frames_of(self, source: str) -> int:
        """Frames committed or added of one source."""
        table = self._table
        committed = sum(
            length for length, index in zip(table.length, table.source, strict=True) if table.sources[index] == source
        )
        return committed + sum(len(episode) for episode, name, _ in self._pending if name == source)

    def declare_embedding(self, info: EmbeddingInfo) -> None:
        """Keep the embeddings that episodes bring along under `info.name`; rows without one are zero.

        Raises:
            UserError: If the store has that column from another model.
        """
        self.flush()
        column = self._table.embeddings.get(info.name)
        if column is None:
            _create_column(self.path, info, self._table.shard_frames)
        else:
            _check_column(self.path, column.info, info)
        array = layout.open_array(self.path, f"embedding/{info.name}", write=True)
        total = self._table.num_frames
        for start in range(0 if column is None else column.rows, total, self._table.shard_frames):
            stop = min(start + self._table.shard_frames, total)
            self._write(array, start, np.zeros((stop - start, info.dim), np.float16), stop)
        table = copy.deepcopy(self._table)
        present = [] if column is None else column.present
        table.embeddings[info.name] = EmbeddingColumn(info, total, present)
        self._commit(table)
        self._columns[info.name] = array

    def add(self, episode: Episode, source: str, origin: str = "") -> None:
        """Add an episode; committed when its shard is full, or by `flush` or `close`.

        Args:
            episode: The episode; embeddings are kept for declared columns only.
            source: Agent that collected it, or where it came from.
            origin: Name of the file it was imported from.

        Raises:
            UserError: If the episode does not fit into the store, or the disk is full.
        """
        self.check(episode)
        self._pending.append((episode, source, origin))
        self._pending_frames += len(episode)
        shard = self._table.shard_frames
        if self.num_frames // shard > self._table.num_frames // shard:
            self.flush()

    def check(self, episode: Episode) -> None:
        """Refuse an episode that does not fit into the store, as `add` does.

        Raises:
            UserError: If a shape or type is not the store's.
        """
        check_episode(episode, self._table.spec, str(self.path))
        for name in self._columns:
            shape, dim = episode.embeddings.get(name, np.empty((0, 0))).shape, self._table.embeddings[name].info.dim
            if name in episode.embeddings and shape != (len(episode), dim):
                raise UserError(
                    f"{self.path}: embedding {name} of the episode has shape {shape}, the store needs "
                    f"{(len(episode), dim)}; write episodes of another shape to a new store"
                )

    def flush(self) -> None:
        """Commit all episodes added so far.

        Raises:
            UserError: If the disk is full; the store is whole and the episodes are still waiting.
        """
        if not self._pending:
            return
        table = copy.deepcopy(self._table)
        start = table.num_frames
        rows = {name: np.concatenate([_row_values(e, name) for e, _, _ in self._pending]) for name in self._arrays}
        for name in self._columns:
            dim = table.embeddings[name].info.dim
            rows[name] = np.concatenate([_embedding_values(e, name, dim) for e, _, _ in self._pending])
        for episode, source, origin in self._pending:
            if source not in table.sources:
                table.sources.append(source)
            table.start.append(table.num_frames)
            table.length.append(len(episode))
            table.source.append(table.sources.index(source))
            table.origin.append(origin)
            table.prompt.append(episode.prompt)
        for name, array in (self._arrays | self._columns).items():
            self._write(array, start, rows[name], table.num_frames)
        for name in self._columns:
            table.embeddings[name].extend(rows[name])
        self._commit(table)
        self._pending.clear()
        self._pending_frames = 0

    def close(self) -> None:
        """Commit what was added and let other processes write the store."""
        try:
            self.flush()
        finally:
            self._lock.release()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, array: ts.TensorStore, start: int, rows: Array, total: int) -> None:
        if len(rows):
            with layout.store_disk_errors(self.path):
                layout.write_rows(array, start, rows, total)

    def _commit(self, table: StoreTable) -> None:
        with layout.store_disk_errors(self.path):
            layout.commit_table(self.path, table)
        self._table = table


class EmbeddingWriter:
    """Writes one embedding column over the committed frames of a store, in order; a context manager.

    `done_rows` tells where to go on after a kill: it moves only once the rows before it are durable.
    """

    def __init__(self, store_path: Path | str, info: EmbeddingInfo, fresh: bool = False) -> None:
        """Open or make the column.

        Args:
            store_path: The store.
            info: The column; an existing one must come from the same weights.
            fresh: Start over, whatever the column holds.

        Raises:
            UserError: If the column exists with another checksum, dimension or clip length, or the store is in use.
        """
        self.path = Path(store_path)
        layout.read_table(self.path)
        self._lock = StoreLock(self.path)
        try:
            layout.remove_leftovers(self.path)
            self._table = layout.read_table(self.path)
            column = self._table.embeddings.get(info.name)
            if column is not None and not fresh:
                _check_column(self.path, column.info, info)
            if column is None or fresh or column.rows == 0:
                with layout.store_disk_errors(self.path):
                    # The table first: were the array replaced before, a kill would leave old progress on new rows.
                    self._table.embeddings[info.name] = EmbeddingColumn(info, 0, [])
                    layout.commit_table(self.path, self._table)
                    _create_column(self.path, info, self._table.shard_frames)
            elif info.source and info.source != column.info.source:  # The same weights lie elsewhere now.
                column.info = info
                layout.commit_table(self.path, self._table)
            self._info = info
            self._array = layout.open_array(self.path, f"embedding/{info.name}", write=True)
        except BaseException:
            self._lock.release()
            raise

    @property
    def done_rows(self) -> int:
        """Rows that are durable; the next `write` starts here."""
        return self._table.embeddings[self._info.name].rows

    @property
    def num_rows(self) -> int:
        """Rows the column will have: the committed frames of the store."""
        return self._table.num_frames

    @property
    def shard_frames(self) -> int:
        """Rows per shard file; writing whole shards is fastest."""
        return self._table.shard_frames

    def write(self, start: int, embeddings: Array) -> None:
        """Write the next rows and commit them.

        Args:
            start: First row, equal to `done_rows`.
            embeddings: (n, E) L2-normalised embeddings, zero where a row has no whole clip.

        Raises:
            UserError: If the disk is full; the rows before are whole.
        """
        assert start == self.done_rows, f"rows are written in order: expected {self.done_rows}, got {start}"
        assert start + len(embeddings) <= self.num_rows, "more embeddings than frames"
        with layout.store_disk_errors(self.path):
            embeddings = np.asarray(embeddings, np.float16)
            layout.write_rows(self._array, start, embeddings, start + len(embeddings))
            table = copy.deepcopy(self._table)
            table.embeddings[self._info.name].extend(embeddings)
            layout.commit_table(self.path, table)
            self._table = table

    def close(self) -> None:
        """Let other processes write the store."""
        self._lock.release()

    def __enter__(self) -> EmbeddingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _row_values(episode: Episode, name: str) -> Array:
    """(N, ...) what an episode contributes to one field."""
    if name in ("is_first", "is_last"):
        flag = np.zeros(len(episode), bool)
        flag[0 if name == "is_first" else -1] = True
        return flag
    value = getattr(episode, name)
    assert value is not None
    return value


def _embedding_values(episode: Episode, name: str, dim: int) -> Array:
    """(N, E) embeddings an episode brings along, zero when it brings none."""
    return episode.embeddings.get(name, np.zeros((len(episode), dim), np.float16)).astype(np.float16)


def _create_column(path: Path, info: EmbeddingInfo, shard_frames: int) -> None:
    layout.create_group(path / "embedding")
    layout.create_array(path, f"embedding/{info.name}", "float16", (info.dim,), shard_frames)


def _check_free(path: Path) -> None:
    """Refuse to make a store among files that are not a half-made one of ours: making one replaces what is there."""
    if not path.exists():
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file; name a directory for the store")
    # Those of the first file of all, which a kill may have left.
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(".zarr.tmp-"))
    if names and not layout.is_our_group(path):
        raise UserError(f"{path} holds {names[0]!r} and is not an episode store; name an empty or new directory")


def _check_same(path: Path, old: StoreSpec, new: StoreSpec) -> None:
    for field in dataclasses.fields(StoreSpec):
        was, now = getattr(old, field.name), getattr(new, field.name)
        if was != now:
            raise UserError(
                f"{path} holds episodes with {field.name} {was!r}, these have {now!r}; write them to another store"
            )


def _check_column(path: Path, old: EmbeddingInfo, new: EmbeddingInfo) -> None:
    if old != new:
        raise UserError(
            f"{path} has embeddings {new.name!r} from other weights (checksum {old.checksum}, now {new.checksum}); "
            "compute them anew with `genrl embed --fresh`"
        )
