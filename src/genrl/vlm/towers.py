"""The two towers of the mini VLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrl.vlm.tokens import TokenVectors

READ_SHARPNESS = 20.0
"""What cosines with concepts are multiplied with before the softmax that reads a text as a mixture of them."""


@dataclass(frozen=True)
class MiniVLMConfig:
    """Sizes of the mini VLM."""

    embed_dim: int = 256
    frames_per_clip: int = 8
    image_size: int = 64
    channels: tuple[int, ...] = (16, 32, 64, 128)
    """Channels of the convolutions; each halves the image."""
    feature_dim: int = 128
    """Length of the feature of one pair of frames."""
    hidden_dim: int = 256
    """Of the video tower's mixing."""
    token_dim: int = 256
    """Hidden width of what is learnt for each token."""
    text_hidden_dim: int = 512
    text_dropout: float = 0.1
    """Share of tokens, and of entries that a token's residual sees, dropped in training."""

    def __post_init__(self) -> None:
        if self.frames_per_clip < 2:
            raise ValueError(f"frames_per_clip must be 2 or more, got {self.frames_per_clip}")
        if self.image_size % 2 ** len(self.channels):
            raise ValueError(f"image_size must be divisible by {2 ** len(self.channels)}, got {self.image_size}")


class VideoTower(nn.Module):
    """Pairs of neighbouring frames through a CNN, then all pairs of the clip through an MLP.

    A pair is the unit because motion shows in the difference of two frames long before it shows in what a network
    says of each. Pairs of one episode are shared by all clips that hold them, so that a clip at every frame costs one
    CNN pass a frame.
    """

    def __init__(self, config: MiniVLMConfig) -> None:
        super().__init__()
        self.num_pairs = config.frames_per_clip - 1
        layers: list[nn.Module] = []
        before = 6
        for channels in config.channels:
            layers += [nn.Conv2d(before, channels, 3, stride=2, padding=1), nn.GroupNorm(1, channels), nn.SiLU()]
            before = channels
        side = config.image_size // 2 ** len(config.channels)
        # Frames come with their channels last; weights in that order too make the CPU twice as fast.
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pair_head = nn.Sequential(
            nn.Linear(before * side * side, config.feature_dim), nn.LayerNorm(config.feature_dim)
        )
        self.mixer = nn.Sequential(
            nn.Linear(self.num_pairs * config.feature_dim, config.hidden_dim),
            nn.LayerNorm(config.hidden_dim),
            nn.SiLU(),
            nn.Linear(config.hidden_dim, config.embed_dim),
        )
        self.average = nn.Linear(config.feature_dim, config.embed_dim)

    def encode_pairs(self, frames: Tensor) -> Tensor:
        """Features of neighbouring frames: (N, L, h, w, 3) uint8 -> (N, L - 1, feature_dim)."""
        images = frames.float().div_(255).sub_(0.5)
        pairs = torch.cat([images[:, 1:], 2 * (images[:, 1:] - images[:, :-1])], dim=-1)  # (N, L - 1, h, w, 6)
        features = self.convolutions(pairs.flatten(0, 1).permute(0, 3, 1, 2))
        return self.pair_head(features.flatten(1)).unflatten(0, pairs.shape[:2])

    def mix(self, pairs: Tensor) -> Tensor:
        """Unit embedding of clips from the features of their pairs: (N, L - 1, feature_dim) -> (N, E)."""
        return F.normalize(self.mixer(pairs.flatten(1)) + self.average(pairs.mean(1)), dim=-1)

    def forward(self, clips: Tensor) -> Tensor:
        """Unit embedding of clips, (N, L, h, w, 3) uint8 -> (N, E)."""
        return self.mix(self.encode_pairs(clips))


class TextTower(nn.Module):
    """Frozen token vectors, each moved and weighed by what was learnt, their mean, and a projection.

    What words mean is in the frozen vectors. A residual for each token, which sees its two neighbours, and a weight
    that says how much it counts are enough to tell thousands of wordings apart; the mean and a nearly plain projection
    keep wordings that training never saw near those that it saw.

    A word that no caption comes near still lands beside what it means, in a direction that no clip was ever drawn to.
    `read` takes that away: it gives a text as a mixture of the concepts that the tower knows.

    Attributes:
        concepts: (C, E) unit embeddings of what captions mean, kept when training ends; None before.
    """

    concepts: Tensor | None

    def __init__(self, config: MiniVLMConfig, tokens: TokenVectors) -> None:
        super().__init__()
        self.tokens = tokens
        self.dropout = config.text_dropout
        self.scale = tokens.dim**0.5  # unit vectors become entries of unit size
        moved, counts = nn.Linear(config.token_dim, tokens.dim), nn.Linear(64, 1)
        for last in (moved, counts):  # begins as the weighted mean of the frozen vectors
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.residual = nn.Sequential(
            nn.Dropout(config.text_dropout), nn.Linear(3 * tokens.dim, config.token_dim), nn.SiLU(), moved
        )
        self.attention = nn.Sequential(nn.Linear(tokens.dim, 64), nn.SiLU(), counts)
        self.project = nn.Linear(tokens.dim, config.embed_dim)
        self.bend = nn.Sequential(
            nn.Linear(tokens.dim, config.text_hidden_dim),
            nn.SiLU(),
            nn.Linear(config.text_hidden_dim, config.embed_dim),
        )
        self.register_buffer("concepts", None)

    def pool(self, texts: Sequence[str]) -> Tensor:
        """Unit mean of the token vectors of each text, (N, dim); in training single tokens are dropped."""
        vectors, weights = self.tokens(texts)
        if self.training:
            kept = weights * (torch.rand_like(weights) >= self.dropout)
            weights = torch.where(kept.sum(-1, keepdim=True) > 0, kept, weights)
        scaled = vectors * self.scale
        before, after = F.pad(scaled, (0, 0, 1, 0))[:, :-1], F.pad(scaled, (0, 0, 0, 1))[:, 1:]
        moved = vectors + self.residual(torch.cat([before, scaled, after], dim=-1))
        weights = weights * self.attention(scaled).squeeze(-1).exp()
        return F.normalize((moved * weights.unsqueeze(-1)).sum(1), dim=-1)

    def unlearnt(self, texts: Sequence[str]) -> Tensor:
        """Unit mean of the frozen token vectors of each text, (N, dim): words before any training here."""
        vectors, weights = self.tokens(texts)
        return F.normalize((vectors * weights.unsqueeze(-1)).sum(1), dim=-1)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Unit embedding of texts, (N, E)."""
        pooled = self.pool(texts)
        return F.normalize(self.project(pooled) + self.bend(pooled), dim=-1)

    def read(self, texts: Sequence[str]) -> Tensor:
        """Unit embedding of texts, (N, E), as mixtures of `concepts`, the nearest counting most."""
        embeddings = self(texts)
        if self.concepts is None:
            return embeddings
        shares = F.softmax(READ_SHARPNESS * embeddings @ self.concepts.mT, dim=-1)
        return F.normalize(shares @ self.concepts, dim=-1)
