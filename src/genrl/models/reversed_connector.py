"""Sequences of world-model states back to embeddings of a video-language model."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from genrl.models.rssm import RssmConfig

FRAME_UNITS = 96
"""What is kept of one code before the codes of a clip are put side by side."""


class ReversedConnector(nn.Module):
    """The embedding that a video-language model gives to the clip that codes decode to, without decoding it.

    Paper: GenRL, the WM-CLIP baseline (which learns it from the data's clips).

    Args:
        rssm: Says what a code is.
        frames_per_clip: Codes L of a clip.
        embed_dim: E.
        units: Of the hidden layers.
    """

    def __init__(self, rssm: RssmConfig, frames_per_clip: int, embed_dim: int, units: int) -> None:
        super().__init__()
        self.frames_per_clip = frames_per_clip
        self.frame = nn.Sequential(nn.Linear(rssm.stoch_dim, FRAME_UNITS), nn.SiLU())
        clip_dim = FRAME_UNITS * frames_per_clip
        self.clip = nn.Sequential(
            nn.LayerNorm(clip_dim),
            nn.Linear(clip_dim, units),
            nn.SiLU(),
            nn.LayerNorm(units),
            nn.Linear(units, units),
            nn.SiLU(),
            nn.Linear(units, embed_dim),
        )

    def forward(self, stoch: Tensor) -> Tensor:
        """(..., T, S, K) codes -> (..., T - L + 1, E) unit embeddings of the clips that begin at each step."""
        frames = self.frame(stoch.flatten(-2))  # (..., T, U)
        clips = frames.unfold(-2, self.frames_per_clip, 1).flatten(-2)  # (..., T - L + 1, U * L)
        return F.normalize(self.clip(clips).float(), dim=-1)

    def loss(self, stoch: Tensor, embedding: Tensor) -> Tensor:
        """(N, L, S, K) clips of codes and their (N, E) unit embeddings -> (N,) one minus the cosine."""
        return 1.0 - F.cosine_similarity(self(stoch)[:, 0], embedding, dim=-1)


def spread_clips(sequences: Tensor, frames_per_clip: int) -> Tensor:
    """The clips of sequences that begin every half clip, the last at the sequence's end.

    Args:
        sequences: (B, T, ...) codes or frames, T at least L.
        frames_per_clip: L.

    Returns:
        (B, N, L, ...).
    """
    every = max(1, frames_per_clip // 2)
    first = (sequences.shape[1] - frames_per_clip) % every
    return sequences[:, first:].unfold(1, frames_per_clip, every).movedim(-1, 2)
