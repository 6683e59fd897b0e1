"""Actor, critic and behaviour updates."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from genrl.behavior.actor_critic import Actor, ActorCritic, ActorCriticConfig
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.start_states import StartConfig, data_free_starts
from genrl.infra.compute import Rounded
from genrl.infra.errors import NonFiniteError
from genrl.infra.optim import OptimizerConfig
from genrl.models.foundation import FoundationModel
from tests.models.tiny import tiny_model

SMALL = ActorCriticConfig(
    num_layers=1, hidden_dim=16, horizon=6, actor=OptimizerConfig(3e-3, 1e-5), critic=OptimizerConfig(3e-3, 1e-5)
)
CONFIG = BehaviorConfig(SMALL, window=3)


def make_learner(config: BehaviorConfig = CONFIG, discrete: bool = False, ensemble: int = 0) -> BehaviorLearner:
    model = tiny_model(discrete=discrete, ensemble=ensemble)
    target = model.target(F.normalize(torch.randn(1, 10), dim=-1), config.actor_critic.horizon + 1, align=True)
    return BehaviorLearner(model, target, config)


def some_starts(learner: BehaviorLearner, count: int = 16):
    return data_free_starts(learner.model, learner.actor_critic.actor, StartConfig(num_starts=count))


def test_a_normal_policy_has_the_density_and_entropy_of_a_normal() -> None:
    actor = Actor(4, 2, False, 1, 8)
    features, action = torch.randn(5, 4), torch.randn(5, 2)
    normal = torch.distributions.Normal(*actor.normal(features))
    torch.testing.assert_close(actor.log_prob(features, action), normal.log_prob(action).sum(-1))
    torch.testing.assert_close(actor.entropy(features), normal.entropy().sum(-1))


def test_a_fresh_policy_has_a_standard_deviation_between_its_bounds() -> None:
    mean, std = Actor(4, 2, False, 1, 8).normal(torch.randn(100, 4) * 10)
    assert mean.abs().max() <= 1 and std.min() >= 0.1 and std.max() <= 1.0


def test_a_clipped_action_lies_in_bounds_and_passes_the_gradient_of_an_unclipped_one() -> None:
    free, clipped = Actor(4, 2, False, 1, 8), Actor(4, 2, False, 1, 8, clip=True)
    clipped.load_state_dict(free.state_dict())
    features, noise = torch.randn(50, 4), 3 * torch.randn(50, 2)
    actions, expected = clipped.sample(features, noise), free.sample(features, noise)
    assert expected.abs().max() > 1
    torch.testing.assert_close(actions, expected.clamp(-1, 1))
    for ours, theirs in zip(
        torch.autograd.grad(actions.sum(), clipped.parameters()),
        torch.autograd.grad(expected.sum(), free.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_bias_sets_the_first_standard_deviation() -> None:
    actor = Actor(4, 2, False, 1, 8, std_bias=-1.0)
    torch.nn.init.zeros_(actor.network.output.weight)
    torch.nn.init.zeros_(actor.network.output.bias)
    torch.testing.assert_close(actor.normal(torch.zeros(1, 4))[1], torch.full((1, 2), 0.1 + 0.9 / (1 + math.e)))


def test_a_discrete_policy_draws_one_hot_actions_of_its_own_probabilities() -> None:
    actor = Actor(4, 3, True, 1, 8)
    features = torch.randn(1, 4).expand(20_000, -1)
    share = actor.sample(features).detach().mean(0)
    expected = actor.log_prob(features[:3], torch.eye(3)).exp()
    torch.testing.assert_close(share, expected, atol=5 * 0.5 / math.sqrt(20_000), rtol=0)


def test_an_update_moves_actor_and_critic_and_never_the_model() -> None:
    learner = make_learner()
    model_before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    before = {name: value.clone() for name, value in learner.actor_critic.state_dict().items()}
    learner.update(some_starts(learner))
    changed = {name.split(".")[0] for name, v in learner.actor_critic.state_dict().items() if not v.equal(before[name])}
    assert {"actor", "critic", "target_critic"} <= changed
    assert all(value.equal(model_before[name]) for name, value in learner.model.state_dict().items())


def test_the_target_critic_is_copied_after_the_first_update_and_then_when_due() -> None:
    learner = make_learner(replace(CONFIG, actor_critic=replace(SMALL, target_update_every=2)))
    same = []
    for _ in range(3):
        learner.update(some_starts(learner))
        critic, target = learner.actor_critic.critic.state_dict(), learner.actor_critic.target_critic.state_dict()
        same.append(all(value.equal(target[name]) for name, value in critic.items()))
    assert same == [True, False, True]


@pytest.mark.parametrize(("gradient", "discrete"), [("dynamics", False), ("reinforce", False), ("reinforce", True)])
def test_learning_raises_the_imagined_reward(gradient: str, discrete: bool) -> None:
    torch.manual_seed(3)
    config = replace(CONFIG, actor_critic=replace(SMALL, gradient=gradient, entropy_scale=1e-3), alignment="none")
    learner = make_learner(config, discrete)
    # A world in which the action decides the next sample: the target is what one certain action leads to.
    dynamics = learner.model.world_model.rssm.dynamics
    with torch.no_grad():
        for parameter in dynamics.parameters():
            parameter.mul_(3.0)
        dynamics.input[0].weight[:, -3:].mul_(5.0)
        action = torch.eye(3)[:1] if discrete else torch.tensor([[0.9, -0.9, 0.9]])
        reached = dynamics.rollout(dynamics.zero_state(1, torch.device("cpu")), action[:, None].expand(-1, 7, -1), True)
    learner.target = reached
    starts = dynamics.zero_state(128, torch.device("cpu"))
    rewards = [learner.update(starts)["imagined/reward"].item() for _ in range(150)]
    assert sum(rewards[-10:]) / 10 > sum(rewards[:10]) / 10 + 0.04


def test_discrete_actions_refuse_gradients_through_the_dynamics() -> None:
    with pytest.raises(ValueError, match="reinforce"):
        ActorCritic(SMALL, 5, 3, discrete=True)


def test_a_reward_that_is_not_finite_moves_nothing() -> None:
    learner = make_learner()
    starts = some_starts(learner)
    starts.deter[0, 0] = float("nan")
    before = {name: v.clone() for name, v in learner.actor_critic.named_parameters()}
    with pytest.raises(NonFiniteError):
        learner.update(starts)
    assert all(value.equal(before[name]) for name, value in learner.actor_critic.named_parameters())


def test_a_learner_resumes_from_its_state() -> None:
    one = make_learner()
    one.update(some_starts(one))
    two = BehaviorLearner(one.model, one.target, CONFIG)
    two.load_state(one.state_tensors(), one.state_meta())
    for learner in (one, two):
        torch.manual_seed(5)
        learner.update(some_starts(learner))
    for name, value in one.actor_critic.state_dict().items():
        assert value.equal(two.actor_critic.state_dict()[name]), name


def test_without_an_average_the_last_actor_acts() -> None:
    learner = make_learner()
    assert learner.actor is learner.actor_critic.actor


def test_the_actor_that_acts_is_the_average_of_those_so_far() -> None:
    learner = make_learner(replace(CONFIG, average=0.7))
    weight = learner.actor_critic.actor.network.output.weight
    seen = [weight.detach().clone()]
    for _ in range(4):
        learner.update(some_starts(learner))
        seen.append(weight.detach().clone())
    # Plain means of two and of three, then a decay of 0.7.
    expected = 0.7 * (0.7 * (seen[0] + seen[1] + seen[2]) / 3 + 0.3 * seen[3]) + 0.3 * seen[4]
    torch.testing.assert_close(learner.actor.network.output.weight, expected)
    other = make_learner(replace(CONFIG, average=0.7))
    other.load_state(learner.state_tensors(), learner.state_meta())
    torch.testing.assert_close(other.actor.network.output.weight, expected)


def test_an_average_that_never_moves_is_refused() -> None:
    with pytest.raises(ValueError, match="behavior.average"):
        BehaviorConfig(average=1.0)


@pytest.mark.parametrize("discrete", [False, True])
def test_an_anchored_policy_stays_near_what_it_goes_on_from(discrete) -> None:
    config = replace(CONFIG, actor_critic=replace(SMALL, gradient="reinforce" if discrete else "dynamics"))
    distances = {}
    for anchor in (0.0, 100.0):
        torch.manual_seed(0)
        free = make_learner(config, discrete)
        start = copy.deepcopy(free.actor_critic.actor)
        learner = BehaviorLearner(free.model, free.target, replace(config, anchor=anchor), free.actor_critic)
        for _ in range(30):
            metrics = learner.update(some_starts(learner))
        features = some_starts(learner, 64).features
        distances[anchor] = learner.actor.distance(start, features).mean().item()
        assert ("actor/distance" in metrics) == bool(anchor)
    assert 0 < distances[100.0] < 0.2 * distances[0.0]


def test_distances_of_policies_are_those_known_by_hand() -> None:
    features = torch.zeros(1, 4)
    one, two = (Actor(4, 2, False, 1, 8) for _ in range(2))
    for actor, means in ((one, (0.5, -0.25)), (two, (0.0, 0.25))):
        torch.nn.init.zeros_(actor.network.output.weight)
        with torch.no_grad():
            actor.network.output.bias.copy_(torch.cat([torch.tensor(means).atanh(), torch.zeros(2)]))
    torch.testing.assert_close(one.distance(two, features), torch.tensor([0.25]))  # (0.5^2 + 0.5^2) / 2
    assert one.distance(one, features) == 0
    one, two = (Actor(4, 2, True, 1, 8) for _ in range(2))
    for actor, logits in ((one, (0.0, 0.0)), (two, (math.log(3.0), 0.0))):
        torch.nn.init.zeros_(actor.network.output.weight)
        with torch.no_grad():
            actor.network.output.bias.copy_(torch.tensor(logits))
    p = torch.tensor([0.75, 0.25]) * 0.99 + 0.005  # the share of the uniform distribution
    torch.testing.assert_close(one.distance(two, features), (0.5 * (0.5 / p).log()).sum()[None])


def test_an_anchor_that_pushes_away_is_refused() -> None:
    with pytest.raises(ValueError, match="anchor"):
        BehaviorConfig(anchor=-1.0)


def test_a_target_that_is_too_short_is_refused() -> None:
    model: FoundationModel = tiny_model()
    with pytest.raises(ValueError, match="horizon"):
        BehaviorLearner(model, model.target(torch.randn(1, 10), 5, align=False), CONFIG)


def test_doubt_takes_the_disagreement_off_the_reward_that_returns_are_made_of() -> None:
    learner = make_learner(replace(CONFIG, doubt=2.0), ensemble=3)
    torch.manual_seed(0)
    trajectory = learner.imagine(some_starts(learner))
    trusting = BehaviorLearner(learner.model, learner.target, CONFIG)
    trusting.actor_critic.load_state_dict(learner.actor_critic.state_dict())
    with torch.no_grad():
        doubted, trusted = learner.losses(trajectory)[1], trusting.losses(trajectory)[1]
    assert doubted["imagined/disagreement"] > 0 and doubted["imagined/reward"] == trusted["imagined/reward"]
    # A fresh critic says 0 everywhere, so that the loss in return is that of the discounted disagreement alone.
    disagreement = learner.model.world_model.rssm.ensemble.disagreement(trajectory.states.deter)[:, :-1]
    ours = learner.config.actor_critic
    weights = torch.stack([torch.arange(6).sub(t).clamp(min=0) for t in range(6)])
    factors = (ours.discount * ours.lambda_) ** weights * (torch.arange(6)[None] >= torch.arange(6)[:, None])
    lost = 2.0 * (disagreement @ factors.T).mean()
    torch.testing.assert_close(trusted["imagined/return"] - doubted["imagined/return"], lost)


def test_doubt_without_an_ensemble_is_refused() -> None:
    with pytest.raises(ValueError, match="ensemble"):
        make_learner(replace(CONFIG, doubt=1.0))


def test_in_bfloat16_imagination_by_rounded_matrices_changes_no_number() -> None:
    learner = make_learner(replace(CONFIG, precision="bfloat16"))
    plain = BehaviorLearner(learner.model, learner.target, learner.config, copy.deepcopy(learner.actor_critic))
    plain._dynamics = Rounded(learner.model.world_model.rssm.dynamics, "float32")
    start = some_starts(learner)
    for _ in range(2):
        torch.manual_seed(0)
        metrics = learner.update(start)
        torch.manual_seed(0)
        torch.testing.assert_close(plain.update(start), metrics, rtol=0, atol=0)
    assert learner._dynamics.module is not plain._dynamics.module
