"""The general policy: binding to a prompt, files, learning towards many goals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from genrl.behavior.actor_critic import ActorCriticConfig
from genrl.behavior.general import GeneralLearner, GeneralPolicy, GoalPolicy
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.start_states import StartConfig, data_free_starts
from genrl.infra.errors import UserError
from genrl.infra.optim import OptimizerConfig
from genrl.models.state import LatentState
from tests.models.tiny import tiny_model

SIZES = ActorCriticConfig(
    num_layers=2, hidden_dim=16, horizon=6, actor=OptimizerConfig(3e-3, 1e-5), critic=OptimizerConfig(3e-3, 1e-5)
)


def general_policy(discrete: bool = False) -> GeneralPolicy:
    """With a critic and a target critic that are not zero."""
    torch.manual_seed(1)
    sizes = replace(SIZES, gradient="reinforce") if discrete else SIZES
    policy = GeneralPolicy.for_model(tiny_model(discrete=discrete), sizes)
    for parameter in policy.networks.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    policy.networks.normalizer.quantiles.copy_(torch.tensor([0.5, 3.0]))
    return policy


@pytest.mark.parametrize("discrete", [False, True])
def test_a_bound_policy_is_the_general_one_at_that_embedding(discrete: bool) -> None:
    policy = general_policy(discrete)
    embedding = F.normalize(torch.randn(policy.embed_dim), dim=-1)
    bound, features = policy.bind(embedding), torch.randn(7, policy.feature_dim)
    inputs = torch.cat([features, policy.context(embedding).expand(7, -1)], dim=-1)
    torch.testing.assert_close(bound.actor.best(features), policy.networks.actor.best(inputs))
    torch.testing.assert_close(bound.critic(features), policy.networks.critic(inputs))
    torch.testing.assert_close(bound.target_value(features), policy.networks.target_value(inputs))
    assert bound.normalizer.quantiles.tolist() == [0.5, 3.0]


def test_each_row_acts_towards_its_own_goal() -> None:
    policy = general_policy()
    goals, features = F.normalize(torch.randn(3, policy.embed_dim), dim=-1), torch.randn(3, policy.feature_dim)
    together = policy.actor(goals).best(features)
    alone = torch.cat([policy.bind(goal).actor.best(features[i : i + 1]) for i, goal in enumerate(goals)])
    torch.testing.assert_close(together, alone)


def test_learning_from_a_bound_policy_leaves_the_general_one_as_it_is() -> None:
    policy, model = general_policy(), tiny_model()
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    embedding = F.normalize(torch.randn(1, policy.embed_dim), dim=-1)
    learner = BehaviorLearner(
        model, model.target(embedding, 7, False), BehaviorConfig(SIZES, window=3), policy.bind(embedding[0])
    )
    learner.update(data_free_starts(model, learner.actor_critic.actor, StartConfig(num_starts=8)))
    assert all(value.equal(before[name]) for name, value in policy.state_dict().items())


def test_a_file_gives_the_same_policy_back(tmp_path: Path) -> None:
    policy, model = general_policy(), tiny_model()
    policy.save(tmp_path / "whole")
    policy.save(tmp_path / "half", torch.float16)
    embedding, features = torch.ones(policy.embed_dim), torch.randn(5, policy.feature_dim)
    expected = policy.bind(embedding).actor.best(features)
    whole, half = (GeneralPolicy.load(tmp_path / name, model) for name in ("whole", "half"))
    assert whole.bind(embedding).actor.best(features).equal(expected)
    torch.testing.assert_close(half.bind(embedding).actor.best(features), expected, atol=0.02, rtol=0)
    # The slow copy is not kept: it begins as the critic.
    torch.testing.assert_close(
        whole.networks.target_critic(torch.ones(1, 30)), policy.networks.critic(torch.ones(1, 30))
    )


def test_a_policy_of_another_model_is_refused(tmp_path: Path) -> None:
    general_policy().save(tmp_path / "policy")
    with pytest.raises(UserError, match="do not fit the model"):
        GeneralPolicy.load(tmp_path / "policy", tiny_model(embed_dim=12))
    tiny_model().save(tmp_path / "model")
    with pytest.raises(UserError, match="no general policy"):
        GeneralPolicy.load(tmp_path / "model", tiny_model())


def test_learning_reaches_different_goals_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    model = tiny_model()
    dynamics = model.world_model.rssm.dynamics
    with torch.no_grad():
        # A world in which the action decides the next sample.
        for parameter in dynamics.parameters():
            parameter.mul_(3.0)
        dynamics.input[0].weight[:, -3:].mul_(5.0)
    actions = torch.tensor([[0.9, -0.9, 0.9], [-0.9, 0.9, -0.9]])
    start = dynamics.zero_state(2, torch.device("cpu"))
    with torch.no_grad():
        reached = dynamics.rollout(start, actions[:, None].expand(-1, 7, -1), mode=True)
    goals = F.normalize(torch.randn(2, model.spec.embed_dim), dim=-1)
    pick = torch.arange(128) % 2
    monkeypatch.setattr(
        GeneralLearner, "_target", staticmethod(lambda _, goal, config: reached.map(lambda x: x[pick[: len(goal)]]))
    )
    config = BehaviorConfig(SIZES, alignment="none", window=3)
    policy = GeneralPolicy.for_model(model, SIZES)
    learner = GeneralLearner(model, policy, config)
    starts = dynamics.zero_state(128, torch.device("cpu"))
    rewards = [learner.update_towards(starts, goals[pick])["imagined/reward"].item() for _ in range(200)]
    assert sum(rewards[-10:]) / 10 > sum(rewards[:10]) / 10 + 0.04
    means = policy.actor(goals).best(start.features)
    assert (means[0] - means[1]).abs().max() > 0.3  # what to do depends on the goal


def test_an_acting_policy_remembers_what_was_really_done() -> None:
    torch.manual_seed(0)
    model, frames = tiny_model(), torch.randint(256, (2, 2, 64, 64, 3), dtype=torch.uint8).numpy()
    policy = GoalPolicy(model, general_policy())
    goals = F.normalize(torch.randn(2, model.spec.embed_dim), dim=-1)
    policy.reset(2)
    first, logits = policy.act(frames[0], goals)
    assert first.shape == (2, 3) and first.abs().max() <= 1
    torch.testing.assert_close(logits, model.world_model.encode(torch.from_numpy(frames[0]))[0])
    state = policy._state
    other = torch.full_like(first, 0.5)
    policy.action = other
    policy.act(frames[1], goals)
    expected = model.world_model.rssm.dynamics.step(LatentState(*vars(state).values()), other, mode=True).deter
    torch.testing.assert_close(policy._state.deter, expected)
