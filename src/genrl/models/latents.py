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
        stores: The data set.
        embedding: Name of the embedding column.
        device: Where the cache lives.
        chunk: Frames encoded at a time.
        progress: Called with the number of rows done, where given.
    """

    @torch.no_grad()
    def __init__(
        self,
        world_model: WorldModel,
        stores: Sequence[Store],
        embedding: str,
        device: torch.device,
        chunk: int = 512,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        logits, actions, firsts, embeddings = [], [], [], []
        done = 0
        for store in stores:
            for start in range(0, store.num_frames, chunk):
                stop = min(start + chunk, store.num_frames)
                frames = torch.from_numpy(store.read("frames", start, stop)).to(device)
                embedded = world_model.encoder(normalise_frames(frames))
                logits.append(world_model.rssm.posterior_head(embedded).half())
                done += stop - start
                if progress is not None:
                    progress(done)
            actions.append(torch.from_numpy(store.read("action", 0, store.num_frames)).to(device))
            firsts.append(torch.from_numpy(store.read("is_first", 0, store.num_frames)).to(device))
            embeddings.append(torch.from_numpy(store.read(f"embedding/{embedding}", 0, store.num_frames)).to(device))
        self.logits = torch.cat(logits)
        self.action = torch.cat(actions)
        self.is_first = torch.cat(firsts)
        self.embedding = torch.cat(embeddings).half()

    def batch(self, rows: Tensor) -> LatentBatch:
        """(B, T) rows of the data set -> their windows."""
        rows = rows.to(self.logits.device)
        return LatentBatch(
            self.logits[rows].float(), self.action[rows], self.is_first[rows], self.embedding[rows].float()
        )
