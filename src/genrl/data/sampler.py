"""Windows of episodes, all equally likely, read ahead in the background."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genrl.data.batch import SequenceBatch
from genrl.data.episode import Array, EmbeddingInfo, StoreSpec
from genrl.data.layout import runs_of_true
from genrl.data.store import Store, open_stores
from genrl.infra.errors import UserError

FIELDS = ("frames", "action", "is_first")


class WindowSampler:
    """Draws batches of windows from a data set.

    A window lies inside one episode; episodes shorter than a window are left out with a notice. With an embedding, a
    window is cut into groups of `frames_per_clip` rows from its first row, and the model reads the embedding at the
    last row of each group; windows that lack one of those (imported data may) are left out too. What remains is drawn
    uniformly, with replacement. `batch(update)` is a pure function of (seed, update), whatever was drawn before.

    Attributes:
        spec: What the episodes share.
        num_windows: How many windows there are.
        num_frames: Frames of the data set, those no window covers included.
        embedding_info: The embedding column, or None.
    """

    def __init__(
        self,
        stores: Sequence[Path | str],
        length: int,
        batch_size: int,
        seed: int,
        embedding: str | None = None,
        resident: torch.device | str | None = None,
        read_ahead: int = 2,
        share: tuple[int, int] = (0, 1),
        rewards: bool = False,
        pinned: bool = False,
    ) -> None:
        """Index the windows of a data set.

        Args:
            stores: Stores, or directories of stores.
            length: Frames per window.
            batch_size: Windows per batch, of all processes together.
            seed: Seed of the order.
            embedding: Name of the video-language model whose embeddings to read; None reads none.
            resident: Device to keep the whole data set on, from the first batch until `release`; the batches are the
                same ones, on that device. None reads them from disk, with a memory that does not depend on the size of
                the data set.
            read_ahead: Batches to read in the background, at least.
            share: Give the i-th of n equal parts of each batch, (i, n): several processes divide it among them.
            rewards: Read rewards too, which only a reward head looks at.
            pinned: Put what is read from disk into memory that a GPU copies from in the background.

        Raises:
            UserError: If the stores do not go together, lack the embedding, or hold no window.
        """
        rank, size = share
        assert batch_size % size == 0, "checked by whoever divides (World.share)"
        if length < 1 or batch_size < 1:
            raise UserError(f"window length and batch size must be positive, got {length} and {batch_size}")
        self._stores = open_stores(stores)
        self._length = length
        self._batch_size = batch_size // size
        self._whole_batch_size, self._rank = batch_size, rank
        self._seed = seed
        # Two threads, so that one batch is decoded while another waits for the disk; a GPU would wait for two.
        threads = max(2, min(8, (os.cpu_count() or 2) // 2)) if pinned else 2
        self._read_ahead = max(read_ahead, threads) if pinned else read_ahead
        self._pinned = pinned
        self.spec: StoreSpec = self._stores[0].spec
        self.num_frames = sum(store.num_frames for store in self._stores)
        self.embedding_info: EmbeddingInfo | None = None
        self._fields: tuple[str, ...] = (*FIELDS, "reward") if rewards else FIELDS
        if embedding is not None:
            self.embedding_info = _common_embedding(self._stores, embedding)
            self._fields = (*self._fields, f"embedding/{embedding}")
        self._index_windows()
        self._resident_device = None if resident is None else torch.device(resident)
        self._resident: dict[str, Tensor] = {}
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
        self._ahead: dict[int, Future[SequenceBatch]] = {}

    def batch(self, update: int) -> SequenceBatch:
        """The batch of one update.

        Args:
            update: Number of the update, at least 0.

        Returns:
            `batch_size` windows; `is_first` tells where an episode truly begins, which a window need not do.

        Raises:
            UserError: If a file of a store is damaged.
        """
        if self._resident_device is not None:
            return self._gather(update, self._resident_device)
        wanted = range(update, update + 1 + self._read_ahead)
        for late in [number for number in self._ahead if number not in wanted]:
            self._ahead.pop(late).cancel()
        for number in wanted:
            if number not in self._ahead:
                self._ahead[number] = self._executor.submit(self._read, number)
        return self._ahead.pop(update).result()

    def windows(self, update: int) -> tuple[Array, Array]:
        """Which windows a batch holds.

        Args:
            update: Number of the update.

        Returns:
            (B,) index of the store and (B,) first row within it.
        """
        chosen = np.random.default_rng([self._seed, update]).integers(self.num_windows, size=self._whole_batch_size)
        chosen = chosen[self._rank * self._batch_size :][: self._batch_size]
        run = np.searchsorted(self._run_end, chosen, side="right")
        first = self._run_row[run] + chosen - (self._run_end[run] - self._run_count[run])
        return self._run_store[run], first

    def _index_windows(self) -> None:
        """List the runs of consecutive rows at which windows may start: little memory, even for many frames."""
        runs: list[tuple[int, int, int]] = []  # store, first row, number of windows
        num_short, num_incomplete = 0, 0
        for index, store in enumerate(self._stores):
            present = None if self.embedding_info is None else store.present_rows(self.embedding_info.name)
            for start, rows in zip(store.episodes.start.tolist(), store.episodes.length.tolist(), strict=True):
                count = rows - self._length + 1
                if count < 1:
                    num_short += 1
                elif present is None or self.embedding_info is None:
                    runs.append((index, start, count))
                else:
                    usable = np.ones(count, bool)
                    per_clip = self.embedding_info.frames_per_clip
                    for clip_end in range(per_clip - 1, self._length, per_clip):
                        usable &= present[start + clip_end : start + clip_end + count]
                    runs.extend((index, start + offset, size) for offset, size in runs_of_true(usable))
                    num_incomplete += count - int(usable.sum())
        if num_short:
            notice = f"episodes shorter than a window of {self._length} frames are left out: {num_short}"
            warnings.warn(notice, stacklevel=3)
        if num_incomplete:
            notice = f"windows that lack an embedding they need are left out: {num_incomplete}"
            warnings.warn(notice, stacklevel=3)
        if not runs:
            names = ", ".join(str(store.path) for store in self._stores)
            raise UserError(
                f"{names}: no window of {self._length} frames; collect longer episodes or use shorter windows"
            )
        self._run_store, self._run_row, self._run_count = np.array(runs, np.int64).T
        self._run_end = np.cumsum(self._run_count)
        self.num_windows = int(self._run_end[-1])

    def _read(self, update: int) -> SequenceBatch:
        """Read a batch from disk."""
        store_of, first = self.windows(update)
        tensors: dict[str, Tensor] = {}
        for field in self._fields:
            rows = self._stores[0].empty_rows(field, self._batch_size, self._length)
            for index in np.unique(store_of):
                places = np.flatnonzero(store_of == index).tolist()
                if field == "is_first":
                    rows[places] = self._stores[index].is_first(first[places, None] + np.arange(self._length))
                else:
                    self._stores[index].read_into(field, [int(first[k]) for k in places], [rows[k] for k in places])
            if rows.dtype == np.float16:
                # By numpy: torch would wake a team of threads for it in every thread that reads.
                rows = rows.astype(np.float32)
            tensors[field] = torch.from_numpy(rows)
            if self._pinned:
                tensors[field] = tensors[field].pin_memory()
        return self._to_batch(tensors)

    def _load(self, device: torch.device) -> dict[str, Tensor]:
        """The whole data set on a device, store after store."""
        tensors = {}
        for field in self._fields:
            rows = torch.from_numpy(self._stores[0].empty_rows(field, 0))
            whole = torch.empty((self.num_frames, *rows.shape[1:]), dtype=rows.dtype, device=device)
            parts = whole.split([store.num_frames for store in self._stores])
            for store, part in zip(self._stores, parts, strict=True):
                for start in range(0, store.num_frames, store.shard_frames):
                    stop = min(start + store.shard_frames, store.num_frames)
                    part[start:stop] = torch.from_numpy(store.read(field, start, stop))
            tensors[field] = whole
        return tensors

    def rows(self, update: int) -> Tensor:
        """(B, T) rows of a batch, counted through the whole data set, store after store."""
        store_of, first = self.windows(update)
        offset = np.cumsum([0, *(store.num_frames for store in self._stores)])
        return torch.from_numpy(first + offset[store_of])[:, None] + torch.arange(self._length)

    def release(self) -> None:
        """Gives back the memory of a resident data set; the next batch loads it again."""
        self._resident = {}

    def _gather(self, update: int, device: torch.device) -> SequenceBatch:
        """Take a batch from the resident data set, which the first one loads."""
        if not self._resident:
            self._resident = self._load(device)
        rows = self.rows(update).to(device)
        return self._to_batch({field: values[rows] for field, values in self._resident.items()})

    def _to_batch(self, tensors: dict[str, Tensor]) -> SequenceBatch:
        embedding = None if self.embedding_info is None else tensors[f"embedding/{self.embedding_info.name}"].float()
        fields = {field: tensors[field] for field in FIELDS}
        return SequenceBatch(**fields, embedding=embedding, reward=tensors.get("reward"))


def _common_embedding(stores: Sequence[Store], name: str) -> EmbeddingInfo:
    """The embedding column that all stores have, whole and from the same weights."""
    first = stores[0].embedding_info(name)
    for store in stores:
        info = store.embedding_info(name)
        command = f"genrl embed --data {store.path} --vlm {first.source or name}"
        if info != first:
            raise UserError(
                f"{store.path} has embeddings {name!r} from other weights than {stores[0].path} "
                f"(checksum {info.checksum} and {first.checksum}); run `{command} --fresh`"
            )
        if store.embedded_rows(name) < store.num_frames:
            raise UserError(
                f"{store.path} has embeddings {name!r} for {store.embedded_rows(name)} of {store.num_frames} frames; "
                f"run `{command}`"
            )
    return first
