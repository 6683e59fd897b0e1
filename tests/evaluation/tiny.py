"""A foundation model and a policy of the walker with a few random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from genrl.behavior.actor_critic import Actor
from genrl.behavior.policy import Policy
from genrl.models.foundation import FoundationConfig, FoundationModel, ModelSpec
from genrl.models.rssm import RssmConfig
from genrl.models.world_model import WorldModelConfig

SPEC = ModelSpec(
    domain="walker",
    look="fast",
    camera="side",
    action_dim=6,
    action_repeat=2,
    control_timestep=0.025,
    action_low=(-1.0,) * 6,
    action_high=(1.0,) * 6,
    discrete=False,
    vlm="mini",
    vlm_checksum="",
    embed_dim=8,
    frames_per_clip=8,
)


def tiny_model(spec: ModelSpec = SPEC) -> FoundationModel:
    torch.manual_seed(0)
    rssm = RssmConfig(deter_dim=16, hidden_dim=16, num_variables=4, num_classes=4)
    return FoundationModel(FoundationConfig(WorldModelConfig(rssm=rssm, cnn_depth=2)), spec).eval()


def tiny_policy(spec: ModelSpec = SPEC) -> Policy:
    model = tiny_model(spec)
    actor = Actor(model.config.world_model.rssm.feature_dim, spec.action_dim, spec.discrete, 1, 16)
    return Policy.build(model, actor, 1, 16)


def saved_policy(directory: Path, spec: ModelSpec = SPEC) -> Path:
    tiny_policy(spec).save(directory, prompt="standing up straight", model="tiny")
    return directory
