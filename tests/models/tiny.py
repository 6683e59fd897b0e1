"""A tiny foundation model for tests."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

from genrl.data.batch import SequenceBatch
from genrl.models.foundation import FoundationConfig, FoundationModel, ModelSpec
from genrl.models.rssm import RssmConfig
from genrl.models.world_model import WorldModelConfig


def tiny_model(
    action_dim: int = 3,
    embed_dim: int = 10,
    discrete: bool = False,
    frames_per_clip: int = 4,
    ensemble: int = 0,
    code: Literal["sample", "probabilities"] = "sample",
) -> FoundationModel:
    """Model of a few thousand parameters, trainable."""
    rssm = RssmConfig(deter_dim=8, hidden_dim=8, num_variables=3, num_classes=4, ensemble=ensemble, code=code)
    bounds = ((-1.0,) * action_dim, (1.0,) * action_dim)
    spec = ModelSpec(
        "walker", "fast", "side", action_dim, 2, 0.025, *bounds, discrete, "test", "0", embed_dim, frames_per_clip
    )
    return FoundationModel(FoundationConfig(WorldModelConfig(rssm=rssm, cnn_depth=2)), spec)


def tiny_batch(batch_size: int = 2, window: int = 8, action_dim: int = 3, embed_dim: int = 10) -> SequenceBatch:
    """Windows of noise."""
    shape = (batch_size, window)
    return SequenceBatch(
        frames=torch.randint(256, (*shape, 64, 64, 3), dtype=torch.uint8),
        action=torch.rand(*shape, action_dim) * 2 - 1,
        reward=torch.zeros(shape),
        is_first=torch.zeros(shape, dtype=torch.bool),
        embedding=F.normalize(torch.randn(*shape, embed_dim), dim=-1),
    )
