"""A whole data set as posteriors: what the second stage of pretraining reads instead of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genrl.data.store import Store
from genrl.models.encoder import normalise_frames
from genrl.models.world_model import WorldModel


@dataclass(frozen=True)
class LatentBatch:
    """Windows of cached posteriors.

    Attributes:
        logits: (B, T, S, K) posterior logits.
        action: (B, T, A).
        is_first: (B, T).
        embedding: (B, T, E) of the clip that ends at the row.
    """

    logits: Tensor
    action: Tensor
    is_first: Tensor
    embedding: Tensor


class LatentCache:
    """Posterior logits, actions and embeddings of every row of a data set, in memory.

    A row costs S*K + E float16 numbers: 1 kB for the mini model (120,000 frames: 120 MB), 3 kB for the paper's sizes.

    Args:
        world_model: Its encoder and posterior are to stay as they are from here on.
        embedding: Name of the embedding column.
        device: Where the cache lives.
        chunk: Frames encoded at a time.
    """

    def __init__(self, world_model: WorldModel, embedding: str, device: torch.device, chunk: int = 512) -> None:
        self._world_model, self._embedding, self._device, self._chunk = world_model, embedding, device, chunk
        self._columns: tuple[Tensor, ...] = ()

    @torch.no_grad()
    def add(self, stores: Sequence[Store], progress: Callable[[int], None] | None = None) -> None:
        """Encodes stores, whose rows follow those that are there.

        Args:
            stores: Further stores of the data set.
            progress: Called with the number of rows done, where given.
        """
        logits, actions, firsts, embeddings = [], [], [], []
        done, device = 0, self._device
        for store in stores:
            for start in range(0, store.num_frames, self._chunk):
                stop = min(start + self._chunk, store.num_frames)
                frames = torch.from_numpy(store.read("frames", start, stop)).to(device)
                embedded = self._world_model.encoder(normalise_frames(frames))
                logits.append(self._world_model.rssm.posterior_head(embedded).half())
                done += stop - start
                if progress is not None:
                    progress(done)
            actions.append(torch.from_numpy(store.read("action", 0, store.num_frames)).to(device))
            firsts.append(torch.from_numpy(store.read("is_first", 0, store.num_frames)).to(device))
            column = store.read(f"embedding/{self._embedding}", 0, store.num_frames)
            embeddings.append(torch.from_numpy(column).to(device).half())
        added = [torch.cat(parts) for parts in (logits, actions, firsts, embeddings)]
        present = self._columns or tuple(column[:0] for column in added)
        self._columns = tuple(torch.cat(pair) for pair in zip(present, added, strict=True))

    def batch(self, rows: Tensor) -> LatentBatch:
        """(B, T) rows of the data set -> their windows."""
        rows = rows.to(self._device)
        logits, action, is_first, embedding = (column[rows] for column in self._columns)
        return LatentBatch(logits.float(), action, is_first, embedding.float())
