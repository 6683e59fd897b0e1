"""Several policies at once learn what each would learn alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from genrl.behavior.actor_critic import ActorCritic, ActorCriticConfig
from genrl.behavior.imagination import imagine
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.stacked import StackedLearner, StackedMLP
from genrl.behavior.start_states import StartConfig, data_free_starts
from genrl.infra.optim import OptimizerConfig
from genrl.models.state import LatentState, grouped
from genrl.nn.layers import MLP
from tests.models.tiny import tiny_model

ADAM = OptimizerConfig(3e-3, 1e-5, clip=0.05)
SMALL = ActorCriticConfig(num_layers=2, hidden_dim=16, horizon=6, target_update_every=2, actor=ADAM, critic=ADAM)
CONFIG = BehaviorConfig(SMALL, window=3, average=0.9, anchor=0.1)
NUM, ROWS = 3, 4


def fresh_networks(model, config: BehaviorConfig) -> list[ActorCritic]:
    networks = []
    for seed in range(NUM):
        torch.manual_seed(seed)
        own = ActorCritic(config.actor_critic, model.config.world_model.rssm.feature_dim, 3, model.spec.discrete)
        torch.nn.init.normal_(own.critic.output.weight, std=0.1)
        own.update_target()
        networks.append(own)
    return networks


def given_starts(model, seed: int) -> LatentState:
    generator = torch.Generator().manual_seed(seed)
    rssm = model.config.world_model.rssm
    logits = torch.randn(NUM * ROWS, rssm.num_variables, rssm.num_classes, generator=generator)
    stoch = F.one_hot(logits.argmax(-1), rssm.num_classes).float()
    return LatentState(torch.randn(NUM * ROWS, rssm.deter_dim, generator=generator), stoch, logits)


def without_chance(learner: BehaviorLearner, noise: torch.Tensor) -> None:
    """Imagines with given noise of the actions, and modes of the states."""
    config, dynamics = learner.config.actor_critic, learner.model.world_model.rssm.dynamics
    learner.imagine = lambda start: imagine(dynamics, learner.policy(), start, config.horizon, noise, mode=True)


def test_a_stacked_network_is_each_of_its_networks_on_its_own_rows() -> None:
    networks = [MLP(5, 3, 8, 2) for _ in range(NUM)]
    stacked, x = StackedMLP(networks), torch.randn(NUM * ROWS, 6, 5)
    expected = torch.cat([own(rows) for own, rows in zip(networks, grouped(x, NUM), strict=True)])
    torch.testing.assert_close(stacked(x), expected)
    torch.testing.assert_close(stacked.single(1)(x), networks[1](x))


@pytest.mark.parametrize("reward", ["max_cosine", "neg_mse", "neg_kl"])
def test_each_policy_learns_what_it_would_learn_alone(reward) -> None:
    model, config = tiny_model(), replace(CONFIG, reward=reward)
    torch.manual_seed(9)
    targets = model.target(F.normalize(torch.randn(NUM, 10), dim=-1), SMALL.horizon + 1, align=True)
    together = StackedLearner(model, targets, config, fresh_networks(model, config))
    alone = [
        BehaviorLearner(model, targets.map(lambda x, i=i: x[i : i + 1]), config, own)
        for i, own in enumerate(fresh_networks(model, config))
    ]
    for update in range(4):
        starts, noise = given_starts(model, update), torch.randn(NUM * ROWS, SMALL.horizon, 3)
        without_chance(together, noise)
        metrics = together.update(starts)
        for i, learner in enumerate(alone):
            rows = slice(i * ROWS, (i + 1) * ROWS)
            without_chance(learner, noise[rows])
            own = learner.update(starts.map(lambda x, rows=rows: x[rows]))
            for name, value in own.items():
                torch.testing.assert_close(metrics[name][i], value, rtol=1e-4, atol=1e-5)
    for i, learner in enumerate(alone):
        theirs = together.single_actor(i).state_dict()
        for name, value in learner.actor.state_dict().items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(metrics["loss/actor"][0], metrics["loss/actor"][1])


def test_state_is_taken_back_whole() -> None:
    model = tiny_model()
    targets = model.target(F.normalize(torch.randn(NUM, 10), dim=-1), SMALL.horizon + 1, align=True)

    def learner() -> StackedLearner:
        return StackedLearner(model, targets, CONFIG, fresh_networks(model, CONFIG))

    first, second = learner(), learner()
    first.update(given_starts(model, 0))
    second.load_state({name: value.clone() for name, value in first.state_tensors().items()}, first.state_meta())
    noise = torch.randn(NUM * ROWS, SMALL.horizon, 3)
    for each in (first, second):
        without_chance(each, noise)
    torch.testing.assert_close(first.update(given_starts(model, 1)), second.update(given_starts(model, 1)))


def test_discrete_actions_learn_too() -> None:
    model = tiny_model(discrete=True)
    config = replace(CONFIG, actor_critic=replace(SMALL, gradient="reinforce"))
    targets = model.target(F.normalize(torch.randn(NUM, 10), dim=-1), SMALL.horizon + 1, align=True)
    learner = StackedLearner(model, targets, config, fresh_networks(model, config))
    assert all(
        value.isfinite().all() and value.shape == (NUM,) for value in learner.update(given_starts(model, 0)).values()
    )


def test_starts_are_grouped_by_policy_and_warmed_up_by_its_actor() -> None:
    model = tiny_model()

    class Constant:
        """The first policy pushes one way, the second the other."""

        def sample(self, features: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
            return torch.tensor([1.0, -1.0]).repeat_interleave(len(features) // 2)[:, None].expand(-1, 3)

    torch.manual_seed(0)
    seen = []
    step = model.world_model.rssm.dynamics.step
    model.world_model.rssm.dynamics.step = lambda *given: seen.append(given) or step(*given)
    starts = data_free_starts(model, Constant(), StartConfig(num_starts=8, warmup_steps=2), 2)
    assert starts.deter.shape[0] == 16
    assert len(seen) == 2
    state, action = seen[-1]
    assert action[:8].abs().lt(1).all()  # at random
    assert action[8:12].eq(1).all() and action[12:].eq(-1).all()
    # Of each policy those of uniform actions first.
    last = step(state, action)
    assert starts.deter.equal(last.deter[[*range(4), *range(8, 12), *range(4, 8), *range(12, 16)]])
