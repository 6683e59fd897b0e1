"""Policies: acting frame by frame, alone or several at once, and on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from genrl.behavior.actor_critic import Actor
from genrl.behavior.policy import Policy
from genrl.infra.errors import UserError
from tests.models.tiny import tiny_model


def make_policy(code: Literal["sample", "probabilities"] = "sample") -> Policy:
    model = tiny_model(code=code)
    return Policy.build(model, Actor(model.config.world_model.rssm.feature_dim, 3, False, 1, 8), 1, 8)


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, 64, 64, 3), dtype=np.uint8)


def test_acting_follows_the_world_models_posterior_and_the_actors_mean() -> None:
    policy = make_policy()
    policy.reset(seed=3)
    clip = frames(4)
    actions = [policy.act(frame) for frame in clip]
    generator = torch.Generator().manual_seed(3)
    embed = policy.encoder(torch.from_numpy(clip).movedim(-1, 1) / 255.0 - 0.5)
    stoch = torch.stack([policy.rssm.posterior(embed[t : t + 1], generator=generator)[1] for t in range(4)], dim=1)
    before = torch.tensor(np.array([np.zeros(3), *actions[:3]]), dtype=torch.float32)[None]
    is_first = torch.tensor([[True, False, False, False]])
    states, _ = policy.rssm.observe(stoch, stoch, before, is_first)
    expected = policy.actor.best(states.features)[0]
    np.testing.assert_allclose(np.array(actions), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_policy_that_reads_probabilities_leaves_nothing_to_chance(tmp_path: Path) -> None:
    policy = make_policy("probabilities")
    policy.save(tmp_path)
    runs = []
    for seed, reader in enumerate((policy, Policy.load(tmp_path))):
        reader.reset(seed)
        runs.append([reader.act(frame) for frame in frames(3)])
    np.testing.assert_array_equal(runs[0], runs[1])


def test_a_seed_gives_the_same_actions_and_leaves_the_global_generator_alone() -> None:
    policy = make_policy()
    runs = []
    for _ in range(2):
        policy.reset(seed=1)
        state = torch.get_rng_state()
        runs.append([policy.act(frame) for frame in frames(3)])
        assert torch.get_rng_state().equal(state)
    np.testing.assert_array_equal(runs[0], runs[1])


def test_several_episodes_are_driven_at_once() -> None:
    policy = make_policy()
    policy.reset(seed=0, num_episodes=5)
    assert policy.act(frames(5)).shape == (5, 3)


def test_actions_come_in_the_environments_own_units() -> None:
    policy = make_policy()
    policy.spec = type(policy.spec)(**{**vars(policy.spec), "action_low": (0.0, -2.0, -1.0), "action_high": (1, 2, 1)})
    np.testing.assert_allclose(policy.to_units(np.float32([[-1, 0, 5]])), [[0, 0, 1]])


def test_a_policy_on_disk_acts_the_same(tmp_path: Path) -> None:
    policy = make_policy()
    policy.save(tmp_path / "policy", prompt="walking")
    loaded = Policy.load(tmp_path / "policy")
    assert loaded.info["prompt"] == "walking"
    for one in (policy, loaded):
        one.reset(seed=2)
    for frame in frames(3):
        np.testing.assert_array_equal(policy.act(frame), loaded.act(frame))


def test_a_directory_without_a_policy_is_refused_by_name(tmp_path: Path) -> None:
    tiny_model().save(tmp_path / "model")
    with pytest.raises(UserError, match="no policy"):
        Policy.load(tmp_path / "model")
