"""Embeddings of some shards of a store, computed elsewhere and kept beside it until they are written into it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from genrl.data.episode import Array, EmbeddingInfo
from genrl.data.store import Store
from genrl.infra.checkpoint import load_checkpoint, remove_leftovers, save_checkpoint
from genrl.infra.errors import UserError


class EmbeddingParts:
    """The parts of one embedding column: directories `STORE.parts/VLM/rows_START_STOP`.

    A part is bound to the weights that made it and to the pictures it was made from, so that parts may travel between
    copies of a store.
    """

    def __init__(self, store: Store, info: EmbeddingInfo) -> None:
        self.directory = store.path.with_name(f"{store.path.name}.parts") / info.name
        self._store = store
        self._info = info

    def write(self, start: int, embeddings: Array) -> None:
        """Keep the (n, E) float16 embeddings of the rows from `start` on; whole or not at all.

        Raises:
            UserError: If the disk is full or not writable.
        """
        rows = torch.from_numpy(np.asarray(embeddings, np.float16))
        save_checkpoint(self._path(start, start + len(rows)), {"rows": rows}, self._facts(start, start + len(rows)))

    def has(self, start: int, stop: int) -> bool:
        """Whether there is a part of just these rows, fitting or not."""
        return self._path(start, stop).is_dir()

    def read(self, start: int, stop: int) -> Array | None:
        """The (stop - start, E) float16 embeddings of just these rows; None where no part has them.

        A part that is damaged, or was made by other weights or from other pictures, counts as absent.
        """
        try:
            tensors, facts = load_checkpoint(self._path(start, stop))
        except UserError:
            return None
        return tensors["rows"].numpy() if facts == self._facts(start, stop) else None

    def remove(self) -> None:
        """Deletes all parts of the column, those that do not fit too."""
        if not self.directory.is_dir():
            return
        remove_leftovers(self.directory)
        for part in self.directory.glob("rows_*"):
            for file in part.iterdir():
                file.unlink()
            part.rmdir()
        self.directory.rmdir()
        if not any(self.directory.parent.iterdir()):
            self.directory.parent.rmdir()

    def _path(self, start: int, stop: int) -> Path:
        return self.directory / f"rows_{start:09d}_{stop:09d}"

    def _facts(self, start: int, stop: int) -> dict[str, object]:
        # Where another machine has the same weights does not matter.
        info = {name: value for name, value in asdict(self._info).items() if name != "source"}
        return {"info": info, "source": self._digest(start, stop)}

    def _digest(self, start: int, stop: int) -> str:
        """sha256 of what the embeddings depend on: the frames of all clips that end in the rows, and the episodes."""
        episodes = self._store.episodes
        inside = (episodes.start < stop) & (episodes.start + episodes.length > start)
        first = max(int(episodes.start[inside].min()), start - self._info.frames_per_clip + 1)
        digest = hashlib.sha256(episodes.start[inside].tobytes())
        digest.update(self._store.read("frames", first, stop).tobytes())
        return digest.hexdigest()
