"""Text embeddings to where the video embedding of the same meaning would be, learnt without text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrl.nn.noise import normal


@dataclass(frozen=True)
class AlignerConfig:
    """Maps text embeddings onto the video embeddings of the same meaning."""

    noise: float = 0.5
    """Share of a random direction mixed into a video embedding to imitate a text one, in [0, 1]."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.noise <= 1.0:
            raise ValueError(f"aligner.noise must lie in [0, 1], got {self.noise}")


class ResidualBlock(nn.Module):
    """`silu(LN(Linear(x))) + P(x)`; P is the identity if sizes agree, else a Linear."""

    def __init__(self, input_dim: int, output_dim: int, plain: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(input_dim, output_dim)
        self.norm = None if plain else nn.LayerNorm(output_dim)
        self.skip = nn.Identity() if input_dim == output_dim else nn.Linear(input_dim, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) -> (..., output_dim)."""
        hidden = self.linear(x)
        if self.norm is not None:
            hidden = F.silu(self.norm(hidden))
        return hidden + self.skip(x)


class Aligner(nn.Module):
    """A small U-Net of residual blocks with a bottleneck of half the embedding. Paper: GenRL, section 3.

    The block without norm and activation is the first of the way up, as in the released code.
    """

    def __init__(self, config: AlignerConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        half = embed_dim // 2
        self.down = nn.ModuleList([ResidualBlock(embed_dim, embed_dim), ResidualBlock(embed_dim, half)])
        self.middle = nn.Sequential(ResidualBlock(half, half), ResidualBlock(half, half))
        self.up = nn.ModuleList(
            [ResidualBlock(2 * half, embed_dim, plain=True), ResidualBlock(2 * embed_dim, embed_dim)]
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """(..., E) -> (..., E), not normalised."""
        outer = self.down[0](embedding)
        inner = self.down[1](outer)
        x = self.up[0](torch.cat([self.middle(inner), inner], dim=-1))
        return self.up[1](torch.cat([x, outer], dim=-1))

    def align(self, embedding: Tensor) -> Tensor:
        """(..., E) text embeddings -> (..., E) unit embeddings that stand where videos stand."""
        return F.normalize(self(embedding).float(), dim=-1)

    def corrupt(self, embedding: Tensor, noise: Tensor | None = None) -> Tensor:
        """Imitates a text embedding: `normalise((1 - n) e + n normalise(noise))` with n the configured share."""
        noise = normal(embedding.shape, embedding.device) if noise is None else noise
        share = self.config.noise
        return F.normalize((1 - share) * embedding + share * F.normalize(noise, dim=-1), dim=-1)

    def loss(self, embedding: Tensor, noise: Tensor | None = None) -> Tensor:
        """(..., E) unit video embeddings -> (...,) one minus the cosine of the denoised with the clean one."""
        return 1.0 - F.cosine_similarity(self.align(self.corrupt(embedding, noise)), embedding, dim=-1)
