"""Video tower of InternVideo2: a plain vision transformer over all patches of a clip.

Submodules carry the names of the published weights, so that a state dict needs no renaming.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrl.vlm.internvideo2_config import InternVideo2Config
from genrl.vlm.internvideo2_positions import sincos_positions

RMS_EPS = 1e-6
POOL_EPS = 1e-5
LAYER_SCALE = 1e-5
"""What the scale of a branch is before training."""


class VideoTower(nn.Module):
    """Normalised frames -> tokens -> one feature a clip."""

    def __init__(self, config: InternVideo2Config) -> None:
        super().__init__()
        dim, grid = config.vision_dim, config.grid
        self.frames_per_clip = config.frames_per_clip
        self.patch_embed = PatchEmbedding(dim, config.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(sincos_positions(dim, config.frames_per_clip, grid))
        self.img_pos_embed = nn.Parameter(sincos_positions(dim, 1, grid))
        self.blocks = nn.ModuleList(
            Block(dim, config.vision_heads, config.vision_mlp_dim) for _ in range(config.vision_depth)
        )
        self.clip_projector = AttentionPooling(dim, config.pool_heads, config.pool_dim)

    def encode(self, patches: Tensor) -> Tensor:
        """Tokens of clips whose patches are embedded already.

        Args:
            patches: (N, T, G*G, D) with T of the model, or 1 for pictures, which have a position table of their own.

        Returns:
            (N, 1 + T*G*G, D), the class token first, then frame by frame, row by row. There is no final norm.
        """
        num_frames = patches.shape[1]
        assert num_frames in (1, self.frames_per_clip), num_frames
        positions = self.img_pos_embed if num_frames == 1 else self.pos_embed
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches.flatten(1, 2)], dim=1) + positions
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def forward(self, clips: Tensor) -> Tensor:
        """Tokens of normalised clips: (N, T, 3, h, w) -> (N, 1 + T*G*G, D)."""
        return self.encode(self.patch_embed(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]))


class PatchEmbedding(nn.Module):
    """Squares of one frame, each mapped linearly."""

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        # The published kernel has a depth of one frame: frames are embedded one by one.
        self.proj = nn.Conv3d(3, dim, (1, patch_size, patch_size), stride=(1, patch_size, patch_size))
        self.patch_size = patch_size

    def forward(self, frames: Tensor) -> Tensor:
        """(N, 3, h, w) -> (N, G*G, D), row by row."""
        patches = F.conv2d(frames, self.proj.weight.squeeze(2), self.proj.bias, stride=self.patch_size)
        return patches.flatten(2).mT


class RMSNorm(nn.Module):
    """Division by the root mean square, in float32; the weight multiplies what was cast back."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = RMS_EPS

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return F.rms_norm(x.float(), self.weight.shape, eps=self.eps).to(x.dtype) * self.weight


class LayerScale(nn.Module):
    """A factor a channel, applied in float32."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return (x.float() * self.gamma.float()).to(x.dtype)


class Attention(nn.Module):
    """Self-attention over all tokens; queries and keys are normalised over all channels, before the heads part."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_norm = RMSNorm(dim)
        self.k_norm = RMSNorm(dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, M, D) -> (N, M, D)."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj(attend(self.q_norm(q), self.k_norm(k), v, self.num_heads))


class Mlp(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each after a norm, scaled and added."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm1 = RMSNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.ls1 = LayerScale(dim)
        self.norm2 = RMSNorm(dim)
        self.mlp = Mlp(dim, mlp_dim)
        self.ls2 = LayerScale(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, M, D) -> (N, M, D)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class CrossAttention(nn.Module):
    """Attention of given queries to given keys and values."""

    def __init__(self, dim: int, num_heads: int, out_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        # The published file keeps these biases apart from their weights.
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.q_bias, self.k_bias, self.v_bias = (nn.Parameter(torch.zeros(dim)) for _ in range(3))
        self.proj = nn.Linear(dim, out_dim)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(N, Q, D), (N, M, D), (N, M, D) -> (N, Q, out_dim)."""
        q = F.linear(queries, self.q.weight, self.q_bias)
        k = F.linear(keys, self.k.weight, self.k_bias)
        v = F.linear(values, self.v.weight, self.v_bias)
        return self.proj(attend(q, k, v, self.num_heads))


class AttentionPooling(nn.Module):
    """One feature of all tokens; the query is their mean, the class token's included."""

    def __init__(self, dim: int, num_heads: int, out_dim: int) -> None:
        super().__init__()
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(dim, eps=POOL_EPS) for _ in range(3))
        self.cross_attn = CrossAttention(dim, num_heads, out_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, M, D) -> (N, out_dim)."""
        query = tokens.mean(dim=1, keepdim=True)
        pooled = self.cross_attn(self.norm1_q(query), self.norm1_k(tokens), self.norm1_v(tokens))
        return pooled.squeeze(1)


def attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    """Multi-head attention of (N, Q, D) to (N, M, D), channels head by head, scaled by head_dim^-0.5; (N, Q, D)."""
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
