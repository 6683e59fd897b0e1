from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from genrl.envs.environment import make_env
from genrl.evaluation.rollouts import ConstantPolicy, RandomPolicy, check_spec, rollout
from genrl.infra.errors import UserError
from tests.evaluation.tiny import SPEC


class BrightnessPolicy:
    """Acts on what it sees, so that wrong frames give wrong returns."""

    def reset(self, seed: int = 0, num_episodes: int | None = None) -> None:
        self.calls: list[int] = []

    def act(self, frame: np.ndarray) -> np.ndarray:
        self.calls.append(len(frame))
        brightness = frame.reshape(len(frame), -1).mean(1, keepdims=True) / 255 - 0.3
        return (brightness * np.arange(1, 7)).astype(np.float32)


@pytest.mark.gl
def test_returns_are_those_of_stepping_the_environments_by_hand_however_many_workers_there_are() -> None:
    # 25 control steps in each env step make the episode short.
    repeat, policy = 25, BrightnessPolicy()
    alone = rollout(policy, "walker_stand", episodes=3, seed=5, action_repeat=repeat, workers=1)
    assert policy.calls == [3] * 40
    spread = rollout(policy, "walker_stand", episodes=3, seed=5, action_repeat=repeat, workers=2)

    returns, first_frames, first_states = [], [], []
    env = make_env("walker_stand", "fast", repeat)
    for index in range(3):
        frame, info = env.reset(seed=5 + index)
        rewards, over = [], False
        while not over:
            if index == 0:
                first_frames.append(frame)
                first_states.append(info["state"])
            frame, reward, _, over, info = env.step(policy.act(frame[None])[0])
            rewards.append(reward)
        if index == 0:
            first_frames.append(frame)
            first_states.append(info["state"])
        returns.append(sum(rewards))

    for result in (alone, spread):
        np.testing.assert_allclose(result.returns, returns, rtol=1e-12)
        assert result.lengths.tolist() == [40, 40, 40]
        assert np.array_equal(result.frames, np.stack(first_frames))
        assert np.array_equal(result.states, np.stack(first_states))
    assert len(set(returns)) == 3


@pytest.mark.gl
@pytest.mark.skipif(find_spec("gymnasium_robotics") is None, reason="needs the extra `kitchen`")
def test_the_kitchen_is_scored_by_success_not_by_the_distance_that_collecting_is_paid_for() -> None:
    result = rollout(ConstantPolicy(np.zeros(9)), "kitchen_slide", 1, action_repeat=70, workers=1)
    assert result.lengths.tolist() == [4] and result.returns.tolist() == [0.0]


@pytest.mark.gl
def test_progress_counts_env_steps() -> None:
    seen: list[int] = []
    rollout(ConstantPolicy(np.zeros(6)), "walker_run", 1, action_repeat=250, progress=seen.append)
    assert seen == [1, 2, 3, 4]


def test_constant_policy_repeats_its_action_for_every_episode() -> None:
    action = np.array([0.5, -1.0], np.float32)
    assert ConstantPolicy(action).act(np.zeros((3, 4, 4, 3), np.uint8)).tolist() == [[0.5, -1.0]] * 3


def test_random_policy_is_uniform_and_repeats_itself_after_a_reset() -> None:
    policy, frames = RandomPolicy(2), np.zeros((5000, 1, 1, 3), np.uint8)
    policy.reset(seed=3, num_episodes=5000)
    first, second = policy.act(frames), policy.act(frames)
    policy.reset(seed=3, num_episodes=5000)
    assert np.array_equal(policy.act(frames), first)
    assert not np.array_equal(first, second)
    quarters, _ = np.histogram(first, bins=4, range=(-1, 1))
    assert quarters.sum() == first.size and quarters.min() > 0.23 * first.size


def test_a_fitting_spec_is_accepted() -> None:
    check_spec(SPEC, "walker_stand", "fast", 2)


@pytest.mark.parametrize(
    ("change", "look", "repeat", "message"),
    [
        ({"domain": "stickman"}, "fast", 2, "task of walker, but the policy was made for stickman"),
        ({}, "paper", 2, "look 'paper' asked for"),
        ({}, "fast", 4, "action repeat 4, but the policy was made for 2"),
        ({"action_dim": 5}, "fast", 2, "action dim 6, but the policy was made for 5"),
        ({"action_high": (2.0,) * 6}, "fast", 2, "action high"),
    ],
)
def test_a_policy_made_for_something_else_is_refused(change: dict, look: str, repeat: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_spec(dataclasses.replace(SPEC, **change), "walker_stand", look, repeat)


def test_unknown_tasks_and_numbers_below_one_are_refused() -> None:
    policy = ConstantPolicy(np.zeros(6))
    with pytest.raises(UserError, match="did you mean walker_stand"):
        rollout(policy, "walker_stnd")
    with pytest.raises(UserError, match="--episodes"):
        rollout(policy, "walker_stand", episodes=0)
    with pytest.raises(UserError, match="--seed"):
        rollout(policy, "walker_stand", seed=-1)
    with pytest.raises(UserError, match="--workers"):
        rollout(policy, "walker_stand", workers=0)


@pytest.mark.gl
def test_an_error_in_a_worker_is_raised_here() -> None:
    with pytest.raises(ValueError, match="6 finite numbers"):
        rollout(ConstantPolicy(np.zeros(4)), "walker_stand", episodes=2, workers=2)


@pytest.mark.gl
def test_workers_do_not_run_the_users_script_once_more(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\n"
        "from genrl.evaluation.rollouts import ConstantPolicy, rollout\n"
        "print('script runs')\n"
        "policy = ConstantPolicy(np.zeros(6))\n"
        "print(rollout(policy, 'walker_stand', episodes=2, action_repeat=500, workers=2).lengths)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "script runs\n[2 2]\n"
