"""How a store lies on disk, and its commit point.

A store is a Zarr v3 group: one sharded array per field, flat over frames, and `store.json`, which says what the store
holds and which rows are committed. Arrays may be longer than that: rows beyond the commit point are what a killed
writer left behind, nobody reads them, and the next writer overwrites them. Every file is replaced by writing aside and
renaming, and a replaced shard keeps the committed rows it had, so a store is whole at every moment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorstore as ts

from genrl.data.episode import Array, EmbeddingInfo, StoreSpec
from genrl.infra import checkpoint
from genrl.infra.checkpoint import atomic_write, disk_errors
from genrl.infra.errors import UserError

SCHEMA_VERSION = 1
TABLE_FILE = "store.json"
LOCK_FILE = ".lock"
FRAME_CHUNK = 16
"""Frames compressed together: a window of 48 decodes at most 64, and neighbours compress each other."""
ROW_CHUNK = 256
"""Rows of the small fields compressed together."""
EMBEDDING_CHUNK = 32
"""Rows of an embedding compressed together: neighbours compress each other little, and a window decodes few others."""
MAX_RUNS = 100_000
"""Runs of embedded rows that the table notes; of a column with more holes readers find out for themselves."""


@dataclass
class EmbeddingColumn:
    """An embedding column and how many rows of it are durable.

    Attributes:
        info: What made it.
        rows: Durable rows, from the first on.
        present: (first row, count) of each run of rows among them that have an embedding, the others being zero; None
            where it was not noted, as in older stores.
    """

    info: EmbeddingInfo
    rows: int
    present: list[tuple[int, int]] | None = None

    def extend(self, embeddings: Array) -> None:
        """Takes (n, E) further rows into account."""
        if self.present is not None:
            for start, count in runs_of_true(np.asarray(embeddings.any(axis=1))):
                start += self.rows
                if self.present and sum(self.present[-1]) == start:
                    start, count = self.present[-1][0], count + self.present.pop()[1]
                self.present.append((start, count))
            if len(self.present) > MAX_RUNS:
                self.present = None
        self.rows += len(embeddings)


@dataclass
class StoreTable:
    """The committed content of a store: `store.json`.

    Attributes:
        spec: What all episodes share.
        shard_frames: Frames per shard file.
        sources: Names of the agents or files that episodes came from.
        start: First row of each episode.
        length: Number of rows of each episode.
        source: Index into `sources` of each episode.
        origin: Name of the file each episode was imported from; empty when it was collected.
        prompt: What each episode shows, in words; empty when nobody said.
        embeddings: Columns by name of the video-language model.
    """

    spec: StoreSpec
    shard_frames: int
    sources: list[str] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    origin: list[str] = field(default_factory=list)
    prompt: list[str] = field(default_factory=list)
    embeddings: dict[str, EmbeddingColumn] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """Committed rows."""
        return self.start[-1] + self.length[-1] if self.start else 0


def read_table(path: Path) -> StoreTable:
    """Read the committed content of a store.

    Raises:
        UserError: If `path` is no store, or one of a later version, or its table is damaged.
    """
    file = path / TABLE_FILE
    if not file.exists():
        raise UserError(f"{path} is not an episode store (it has no {TABLE_FILE}); make one with `genrl collect`")
    try:
        data = json.loads(file.read_text())
        if data["schema_version"] > SCHEMA_VERSION:
            raise UserError(f"{file}: schema version {data['schema_version']} is newer than this program; update genrl")
        episodes = data["episodes"]
        spec = dict(data["spec"], action_low=tuple(data["spec"]["action_low"]))
        return StoreTable(
            spec=StoreSpec(**dict(spec, action_high=tuple(spec["action_high"]))),
            shard_frames=data["shard_frames"],
            sources=data["sources"],
            start=episodes["start"],
            length=episodes["length"],
            source=episodes["source"],
            origin=episodes["origin"],
            # Stores older than this list have no prompts.
            prompt=episodes.get("prompt", [""] * len(episodes["start"])),
            embeddings={
                name: EmbeddingColumn(EmbeddingInfo(name, **column["info"]), column["rows"], column.get("present"))
                for name, column in data["embeddings"].items()
            },
        )
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged ({error!r}); restore it from a copy of the store") from error


def commit_table(path: Path, table: StoreTable) -> None:
    """Make a new content of the store the committed one, in one rename."""
    embeddings = {}
    for name, column in table.embeddings.items():
        info = dataclasses.asdict(column.info)
        del info["name"]
        embeddings[name] = {"info": info, "rows": column.rows, "present": column.present}
    data = {
        "schema_version": SCHEMA_VERSION,
        "spec": dataclasses.asdict(table.spec),
        "shard_frames": table.shard_frames,
        "sources": table.sources,
        "embeddings": embeddings,
        "num_frames": table.num_frames,
        "episodes": {
            "start": table.start,
            "length": table.length,
            "source": table.source,
            "origin": table.origin,
            "prompt": table.prompt,
        },
    }
    atomic_write(path / TABLE_FILE, json.dumps(data))


def field_shapes(spec: StoreSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of a row, by field; embedding columns are apart."""
    size = spec.frame_size
    fields: dict[str, tuple[str, tuple[int, ...]]] = {
        "frames": ("uint8", (size, size, 3)),
        "action": ("float32", (spec.action_dim,)),
        "reward": ("float32", ()),
        "is_first": ("bool", ()),
        "is_last": ("bool", ()),
        "is_terminal": ("bool", ()),
    }
    if spec.state_dim:
        fields["state"] = ("float64", (spec.state_dim,))
    return fields


def create_group(path: Path) -> None:
    """Mark a directory as a Zarr group, so that any Zarr reader finds the arrays below."""
    path.mkdir(parents=True, exist_ok=True)
    attributes = {"genrl_schema_version": SCHEMA_VERSION}
    atomic_write(
        path / "zarr.json", json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}, indent=2)
    )


def is_our_group(path: Path) -> bool:
    """Whether `create_group` made this directory; it is the first thing a new store gets."""
    try:
        return "genrl_schema_version" in json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError):
        return False


def create_array(path: Path, name: str, dtype: str, row: tuple[int, ...], shard_frames: int) -> ts.TensorStore:
    """Create an empty array of rows, in place of what may lie there.

    Args:
        path: The store.
        name: Field, for instance `frames` or `embedding/mini`.
        dtype: Zarr data type.
        row: Shape of one row.
        shard_frames: Rows per shard file.
    """
    together = {"frames": FRAME_CHUNK, "embedding": EMBEDDING_CHUNK}.get(name.split("/")[0], ROW_CHUNK)
    chunk = math.gcd(together, shard_frames)
    item_bytes = np.dtype(dtype).itemsize
    little_endian = {"name": "bytes", "configuration": {"endian": "little"}}
    # Measured on rendered frames: shuffling bytes gains nothing, shuffling bits makes files half as large again.
    # So bytes do without blosc, inside which zstd is slower both ways; wider numbers gain by its shuffle.
    blosc = {"cname": "zstd", "clevel": 5, "shuffle": "shuffle", "typesize": item_bytes, "blocksize": 0}
    zstd = {"name": "zstd", "configuration": {"level": 5}}
    compression = zstd if item_bytes == 1 else {"name": "blosc", "configuration": blosc}
    metadata: dict[str, Any] = {
        "shape": [0, *row],
        "data_type": dtype,
        "fill_value": False if dtype == "bool" else 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [shard_frames, *row]}},
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [chunk, *row],
                    "codecs": [little_endian, compression],
                    "index_codecs": [little_endian, {"name": "crc32c"}],
                },
            }
        ],
    }
    spec = {"driver": "zarr3", "kvstore": _kvstore(path / name), "metadata": metadata}
    return ts.open(spec, create=True, delete_existing=True).result()


def open_array(path: Path, name: str, context: ts.Context | None = None, write: bool = False) -> ts.TensorStore:
    """Open an array of a store.

    Raises:
        UserError: If the array is missing or damaged.
    """
    spec = {"driver": "zarr3", "kvstore": _kvstore(path / name)}
    try:
        return ts.open(spec, open=True, read=True, write=write, context=context).result()
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: field {name} cannot be opened; restore it from a copy of the store") from error


def write_rows(array: ts.TensorStore, start: int, rows: np.ndarray[Any, Any], total: int) -> None:
    """Write rows and wait until they are durable.

    A shard that already has rows is read, completed and replaced by a rename, so no committed row is ever at risk.

    Args:
        array: Array of a store, open for writing.
        start: First row to write.
        rows: (n, ...) new rows.
        total: Length that the array is to have.
    """
    array = array.resize(exclusive_max=[total, *array.shape[1:]], resize_metadata_only=True).result()
    array[start : start + len(rows)].write(rows).result()


def remove_leftovers(path: Path) -> None:
    """Delete what killed writers left half-written; only the holder of the store's lock may call this.

    Not tidiness: TensorStore writes a shard to `<file>.__lock` and renames it, and where an older, longer file of that
    name lies it keeps the old end, in which the index of the shard stands. The shard would be lost.
    """
    for leftover in path.rglob("*.__lock"):
        leftover.unlink()
    for group in (path, path / "embedding"):
        checkpoint.remove_leftovers(group)


@contextlib.contextmanager
def store_disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space left" of the system or of TensorStore into one line; the rows committed before are whole."""
    with disk_errors(path):
        try:
            yield
        except ValueError as error:  # TensorStore puts every error of the system into one of these
            if any(text in str(error) for text in ("No space left", "Disk quota exceeded")):
                raise OSError(errno.ENOSPC, str(error)) from error
            raise


class StoreLock:
    """Keeps anybody else from writing the same store; released when the process ends, however it ends.

    A POSIX record lock: unlike flock's, forked workers that outlive a killed writer do not hold on to it. It does not
    keep a process from itself, which a set of the stores it holds does.
    """

    _held: ClassVar[set[Path]] = set()

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            UserError: If somebody holds it.
        """
        self._path = path.resolve()
        busy = f"{path} is being written by another process; wait for it, or use another store"
        if self._path in self._held:
            raise UserError(busy)
        self._file = open(path / LOCK_FILE, "w")  # noqa: SIM115 - held until release
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise UserError(busy) from error
        self._held.add(self._path)

    def release(self) -> None:
        """Give the lock back."""
        self._held.discard(self._path)
        self._file.close()


def runs_of_true(mask: Array) -> list[tuple[int, int]]:
    """(start, length) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(stop - start)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _kvstore(path: Path) -> dict[str, str]:
    return {"driver": "file", "path": os.path.abspath(path) + "/"}
