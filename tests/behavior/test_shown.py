"""The reward for what imagination shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from genrl.behavior.actor_critic import ActorCriticConfig
from genrl.behavior.general import GeneralLearner, GeneralPolicy
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.shown import ShownConfig, ShownReward
from genrl.behavior.stacked import StackedLearner
from genrl.behavior.start_states import StartConfig, data_free_starts
from genrl.infra.optim import OptimizerConfig
from genrl.models.foundation import FoundationModel
from tests.codes import fixed_view, random_codes
from tests.models.tiny import tiny_model

SIZES = ActorCriticConfig(
    num_layers=1, hidden_dim=16, horizon=6, actor=OptimizerConfig(3e-3, 1e-5), critic=OptimizerConfig(3e-3, 1e-5)
)
SHOWN = ShownConfig(share=1.0, ramp=0, trajectories=8, units=32, optimizer=OptimizerConfig(3e-3, weight_decay=0.0))
CONFIG = BehaviorConfig(SIZES, window=3, alignment="none", shown=SHOWN)
VIEW = fixed_view(10)


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, 10), dim=-1)


def plain_model() -> FoundationModel:
    """A model whose pictures are its codes, which is what `VIEW` looks at."""
    model = tiny_model()
    model.decode = lambda stoch: stoch  # type: ignore[method-assign]
    return model


def make_learner(goals: torch.Tensor, config: BehaviorConfig = CONFIG) -> BehaviorLearner:
    model = plain_model()
    shown = ShownReward(model, goals, VIEW, config.shown)
    return BehaviorLearner(model, model.target(goals, SIZES.horizon + 1, align=False), config, None, shown)


def some_starts(learner: BehaviorLearner, count: int = 16):
    return data_free_starts(learner.model, learner.actor_critic.actor, StartConfig(num_starts=count))


def test_a_step_has_the_cosine_of_the_clip_that_ends_there() -> None:
    goals, codes = unit(2), random_codes(6, 7)
    shown = ShownReward(plain_model(), goals, VIEW, SHOWN)
    reward = shown.reward(codes)
    embedding = shown.connector(codes)  # clips of four: the first whole one ends at step 3
    for row in range(6):
        cosines = embedding[row] @ goals[row // 3]  # three rows of the first goal, then three of the second
        torch.testing.assert_close(reward[row], torch.cat([cosines[:1].expand(3), cosines]))


def test_it_learns_what_the_vlm_sees_and_tells_how_well_it_knew() -> None:
    torch.manual_seed(0)
    goal = unit(1)
    shown = ShownReward(plain_model(), goal, VIEW, SHOWN)
    told = [shown.learn(random_codes(8, 7)) for _ in range(300)]
    agreement = [float(metrics["shown/agreement"]) for metrics in told]
    assert sum(agreement[-10:]) / 10 > 0.85 > agreement[0] + 0.3
    codes = random_codes(8, 4)
    seen = shown.learn(codes)["shown/seen"]
    torch.testing.assert_close(seen, (VIEW(codes) @ goal[0]).mean())


def test_rows_of_several_goals_are_told_apart() -> None:
    codes, goals = random_codes(8, 4), unit(2)
    shown = ShownReward(plain_model(), goals, VIEW, SHOWN)
    cosines = VIEW(codes) * goals.repeat_interleave(4, 0)
    torch.testing.assert_close(shown.learn(codes)["shown/seen"], cosines.sum(-1).mean())


def test_the_share_rises_while_the_connector_learns() -> None:
    shown = ShownReward(plain_model(), unit(1), VIEW, replace(SHOWN, share=0.6, ramp=4))
    assert [round(shown.share(update), 3) for update in (0, 1, 2, 4, 9)] == [0.0, 0.15, 0.3, 0.6, 0.6]


def controllable(learner: BehaviorLearner) -> torch.Tensor:
    """Makes a world in which the action decides the next code; returns (T, S, K) what one certain action leads to."""
    dynamics = learner.model.world_model.rssm.dynamics
    with torch.no_grad():
        for parameter in dynamics.parameters():
            parameter.mul_(3.0)
        dynamics.input[0].weight[:, -3:].mul_(5.0)
        action = torch.tensor([[0.9, -0.9, 0.9]])[:, None].expand(-1, 7, -1)
        return dynamics.rollout(dynamics.zero_state(1, torch.device("cpu")), action, True).stoch[0]


def test_learning_raises_what_the_vlm_sees_of_the_prompt() -> None:
    torch.manual_seed(3)
    learner = make_learner(unit(1))
    assert learner.shown is not None
    learner.shown.goals = VIEW(controllable(learner)[None, :4])
    starts = learner.model.world_model.rssm.dynamics.zero_state(128, torch.device("cpu"))
    seen = [learner.update(starts)["shown/seen"].item() for _ in range(150)]
    assert sum(seen[-20:]) / 20 > sum(seen[:20]) / 20 + 0.1


def test_learning_a_policy_does_not_move_the_reversed_connector() -> None:
    learner = make_learner(unit(1))
    assert learner.shown is not None
    losses, metrics = learner.losses(learner.imagine(some_starts(learner)))
    before = {name: value.clone() for name, value in learner.shown.connector.state_dict().items()}
    learner.step(losses)
    assert all(value.equal(before[name]) for name, value in learner.shown.connector.state_dict().items())
    assert -1 <= metrics["imagined/shown"] <= 1


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_critic_is_taught_the_blend_of_both_rewards(share: float) -> None:
    torch.manual_seed(1)
    # Without a future the critic's target is the reward itself.
    sizes = replace(SIZES, discount=1e-9)
    learner = make_learner(unit(1), replace(CONFIG, actor_critic=sizes, shown=replace(SHOWN, share=share, ramp=1)))
    learner.num_updates = 1
    trajectory = learner.imagine(some_starts(learner))
    reward = learner.reward(trajectory.states)
    if learner.shown is not None:
        reward = (1 - share) * reward + share * learner.shown.reward(trajectory.states.stoch)
    expected = learner.actor_critic.critic_loss(trajectory.states.features.detach()[:, :-1], reward[:, :-1].detach())
    torch.testing.assert_close(learner.losses(trajectory)[0]["loss/critic"], expected)


def test_a_learner_resumes_with_its_reversed_connector() -> None:
    goals = unit(1)
    one, two = make_learner(goals), make_learner(goals)
    two.model.load_state_dict(one.model.state_dict())
    two.target = one.target
    one.update(some_starts(one))
    two.load_state({name: value.clone() for name, value in one.state_tensors().items()}, one.state_meta())
    for learner in (one, two):
        torch.manual_seed(5)
        learner.update(some_starts(learner))
    tensors = one.state_tensors()
    assert any(name.startswith("shown.connector") for name in tensors)
    assert all(value.equal(tensors[name]) for name, value in two.state_tensors().items())


def test_several_prompts_learn_over_one_reversed_connector() -> None:
    model, goals = plain_model(), unit(3)
    shown = ShownReward(model, goals, VIEW, SHOWN)
    networks = [make_learner(unit(1)).actor_critic for _ in range(3)]
    learner = StackedLearner(model, model.target(goals, 7, align=False), CONFIG, networks, shown)
    starts = data_free_starts(model, learner.actor_critic.actor, StartConfig(num_starts=4), 3)
    metrics = learner.update(starts)
    assert metrics["imagined/shown"].shape == (3,) and metrics["shown/seen"].isfinite()


def test_a_general_policy_is_rewarded_towards_the_goal_of_each_row() -> None:
    model = plain_model()
    learner = GeneralLearner(model, GeneralPolicy.for_model(model, SIZES), CONFIG, VIEW)
    goals = unit(16)
    learner.update_towards(model.world_model.rssm.dynamics.zero_state(16, torch.device("cpu")), goals)
    assert learner.shown is not None and learner.shown.goals.equal(goals)


def test_a_share_needs_somebody_who_sees_and_a_whole_clip() -> None:
    model = plain_model()
    target = model.target(unit(1), 7, align=False)
    with pytest.raises(ValueError, match="behavior.shown.share needs"):
        BehaviorLearner(model, target, CONFIG)
    short = replace(CONFIG, actor_critic=replace(SIZES, horizon=2), window=2)
    with pytest.raises(ValueError, match="whole clip of 4 frames"):
        BehaviorLearner(model, target, short, None, ShownReward(model, unit(1), VIEW, SHOWN))


@pytest.mark.parametrize("wrong", [{"share": 1.1}, {"share": -0.1}, {"ramp": -1}, {"trajectories": 0}, {"units": 0}])
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="behavior.shown"):
        ShownConfig(**wrong)
