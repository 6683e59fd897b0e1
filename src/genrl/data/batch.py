"""What training reads: windows of episodes as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SequenceBatch:
    """Windows of consecutive frames, each inside one episode.

    Attributes:
        frames: (B, T, h, w, 3) uint8 images.
        action: (B, T, A) float32 action that led to the row, in -1 ... 1.
        is_first: (B, T) bool, true where the row is the reset of its episode.
        embedding: (B, T, E) float32 embedding of the clip that ends at the row, zero where there is no whole clip
            yet; None when the sampler was asked for none.
        reward: (B, T) float32 reward that came with the row; None unless the sampler was asked for it.
    """

    frames: Tensor
    action: Tensor
    is_first: Tensor
    embedding: Tensor | None = None
    reward: Tensor | None = None

    def to(self, device: torch.device | str) -> SequenceBatch:
        """The same batch on another device."""
        return SequenceBatch(
            frames=self.frames.to(device, non_blocking=True),
            action=self.action.to(device, non_blocking=True),
            is_first=self.is_first.to(device, non_blocking=True),
            embedding=None if self.embedding is None else self.embedding.to(device, non_blocking=True),
            reward=None if self.reward is None else self.reward.to(device, non_blocking=True),
        )
