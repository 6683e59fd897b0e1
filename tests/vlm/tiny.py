"""A mini VLM with few weights, and frames of noise."""

from __future__ import annotations

import torch

from genrl.vlm.mini import MiniVLM
from genrl.vlm.tokens import TokenVectors
from genrl.vlm.towers import MiniVLMConfig

TINY = MiniVLMConfig(embed_dim=16, channels=(4, 8, 8, 8), feature_dim=16, hidden_dim=32)


def tiny_vlm(seed: int = 0) -> MiniVLM:
    """Random weights from a seed, exactly those that `save` would keep."""
    torch.manual_seed(seed)
    model = MiniVLM(TINY, TokenVectors.load())
    model.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})
    return model.eval().requires_grad_(False)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """uint8 pictures of noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=generator)
