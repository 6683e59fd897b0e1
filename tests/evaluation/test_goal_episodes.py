"""Episodes towards goals: what led where, how long goals are held."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genrl.evaluation.environments import Steps
from genrl.evaluation.goal_episodes import SETTLING_STEPS, GoalConfig, follow_goals


class CountingEnvironments:
    """The state is (number of steps, first action entry of the last one); the second episode ends early."""

    def __init__(self, count: int, ends: int) -> None:
        self.count, self.ends, self.steps = count, ends, 0

    def reset(self) -> Steps:
        self.steps = 0
        return self._answer(np.zeros((self.count, 2)))

    def step(self, actions: np.ndarray) -> Steps:
        self.steps += 1
        return self._answer(actions)

    def _answer(self, actions: np.ndarray) -> Steps:
        frames = np.full((self.count, 64, 64, 3), self.steps % 256, np.uint8)
        states = np.stack([np.full(self.count, self.steps), actions[:, 0]], 1).astype(float)
        over = np.arange(self.count) == 1
        return Steps(frames, np.zeros(self.count), states, over & (self.steps >= self.ends))


class EchoPolicy:
    """Acts as its goal says."""

    action_dim = 2

    def reset(self, count: int) -> None:
        self.told = []

    def act(self, frames: np.ndarray, goals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.action = goals[:, :2].clone()
        return self.action, goals[:, None, :].repeat(1, 2, 1)


def run(config: GoalConfig, steps: int = 100, ends: int = 1000):
    numbers = iter(range(1, 10_000))
    draw = lambda n: torch.tensor([[next(numbers) / 1000, 0.0, 1.0] for _ in range(n)])  # noqa: E731
    environments = CountingEnvironments(3, ends)
    return follow_goals(EchoPolicy(), environments, draw, 3, steps, config, np.random.default_rng(0))  # type: ignore[arg-type]


def test_an_action_stands_at_the_frame_it_led_to() -> None:
    episodes = run(GoalConfig(noise=(0.2,)))
    assert episodes.frames.shape == (3, 101, 64, 64, 3) and episodes.lengths.tolist() == [101] * 3
    assert (episodes.actions[:, 0] == 0).all()
    np.testing.assert_allclose(episodes.actions[:, 1:, 0], episodes.states[:, 1:, 1])
    assert episodes.states[0, :, 0].tolist() == list(range(101))
    # Shaky: not what the goal says, but near it.
    off = episodes.actions[:, 1:, 0] - episodes.goals[:, :-1, 0].numpy()
    assert 0.15 < off.std() < 0.25


def test_goals_are_held_as_long_as_asked() -> None:
    goals = run(GoalConfig(hold=(5, 9), noise=(0.0,)), steps=300).goals[..., 0]
    for row in goals:
        changes = torch.nonzero(row[1:] != row[:-1]).flatten()
        held = changes.diff()
        assert held.min() >= 5 and held.max() <= 9 and len(set(held.tolist())) > 2


def test_an_episode_that_ends_early_is_cut_there() -> None:
    episodes = run(GoalConfig(), steps=60, ends=40)
    assert episodes.lengths.tolist() == [61, 41, 61]
    assert [len(episode) for episode in episodes.episodes()] == [61, 41, 61]


def test_windows_lie_within_one_goal_that_has_been_followed_for_a_while() -> None:
    episodes = run(GoalConfig(hold=(40, 60), noise=(0.0,)), steps=300)
    logits, goals = episodes.windows(10)
    assert len(goals) > 10 and logits.shape[:2] == (len(goals), 10)
    # The policy writes its goal into the logits.
    assert (logits[:, :, 0] == goals[:, None]).all()
    numbers = episodes.goals[..., 0]
    for goal in goals:
        rows = (numbers == goal[0]).sum(1).max()
        assert rows >= SETTLING_STEPS + 10


def test_without_goals_held_for_long_there_are_no_windows() -> None:
    logits, goals = run(GoalConfig(hold=(2, 3)), steps=60).windows(10)
    assert len(goals) == 0 and len(logits) == 0


@pytest.mark.parametrize("options", [{"hold": (0, 5)}, {"hold": (6, 5)}, {"noise": ()}, {"noise": (-0.1,)}])
def test_senseless_options_are_refused(options) -> None:
    with pytest.raises(ValueError, match="hold|noise"):
        GoalConfig(**options)
