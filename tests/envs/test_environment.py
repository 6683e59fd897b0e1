from __future__ import annotations

from importlib.util import find_spec

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from genrl.envs.environment import make_env, state_rewards
from genrl.envs.tasks import TASKS
from genrl.infra.errors import UserError


@pytest.mark.parametrize("task", TASKS)
def test_conformance(task: str) -> None:
    if TASKS[task].domain == "kitchen" and find_spec("gymnasium_robotics") is None:
        pytest.skip("needs the extra `kitchen`")
    env = make_env(task, frames=False)
    observation, info = env.reset(seed=3)
    assert env.observation_space.contains(observation)
    assert env.action_space.shape == (env.physics.model.nu,)
    assert (env.action_space.low == -1).all() and (env.action_space.high == 1).all()
    starts = [info["state"]]
    env.action_space.seed(3)
    for _ in range(20):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation) and np.isfinite(observation).all()
        assert np.isfinite(info["state"]).all() and info["state"].dtype == np.float64
        if task in env.domain.success:
            assert -4 < reward <= 0, "two control steps, each minus a distance"
        else:
            assert 0 <= reward <= 2, "two control steps, each in [0, 1]"
        assert not terminated and not truncated
    for seed in (None, None, 3):
        starts.append(env.reset(seed=seed)[1]["state"])
    alike = env.domain.name == "kitchen"  # always the same pose
    assert np.array_equal(starts[0], starts[1]) == np.array_equal(starts[1], starts[2]) == alike
    np.testing.assert_array_equal(starts[0], starts[3])


@pytest.mark.gl
def test_a_seed_gives_the_same_episode_twice_to_the_last_pixel() -> None:
    def episode() -> tuple[list[np.ndarray], list[float]]:
        env = gymnasium.make("genrl/walker_walk-v0")
        frames, rewards = [env.reset(seed=5)[0]], []
        for action in np.random.default_rng(0).uniform(-1, 1, (12, 6)).astype(np.float32):
            frame, reward, *_ = env.step(action)
            frames.append(frame)
            rewards.append(float(reward))
        return frames, rewards

    one, other = episode(), episode()
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1] == other[1]
    assert one[0][0].shape == (64, 64, 3) and one[0][0].dtype == np.uint8
    assert not np.array_equal(one[0][0], one[0][-1])


@pytest.mark.gl
def test_gymnasium_finds_nothing_wrong() -> None:
    check_env(gymnasium.make("genrl/walker_stand-v0", disable_env_checker=True).unwrapped, skip_render_check=True)


def test_an_episode_has_500_steps_and_stepping_on_is_an_error() -> None:
    env = make_env("walker_run", frames=False)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(6))
    env.reset(seed=0)
    ends = [env.step(np.zeros(6, np.float32))[2:4] for _ in range(500)]
    assert ends == [(False, False)] * 499 + [(False, True)]
    with pytest.raises(RuntimeError, match="the episode is over"):
        env.step(np.zeros(6))
    env.reset()
    env.step(np.zeros(6))


def test_an_odd_action_repeat_still_ends_after_1000_control_steps() -> None:
    env = make_env("walker_run", frames=False, action_repeat=300)
    env.reset(seed=0)
    assert env.episode_steps == 4
    assert [env.step(np.zeros(6))[3] for _ in range(4)] == [False, False, False, True]


def test_one_step_adds_the_rewards_of_two_control_steps() -> None:
    report = ("walker_stand", "walker_lying_down")
    single = make_env("walker_stand", action_repeat=1, frames=False, report=report)
    double = make_env("walker_stand", action_repeat=2, frames=False, report=report)
    single.reset(seed=1)
    double.reset(seed=1)
    for action in np.random.default_rng(1).uniform(-1, 1, (10, 6)):
        one, two = single.step(action), single.step(action)
        both = double.step(action)
        assert both[1] == pytest.approx(one[1] + two[1], abs=1e-12)
        np.testing.assert_allclose(both[4]["rewards"], one[4]["rewards"] + two[4]["rewards"], atol=1e-12)
        np.testing.assert_array_equal(both[4]["state"], two[4]["state"])
        assert both[4]["rewards"][0] == both[1]


def test_rewards_of_states_are_those_that_the_environment_gave() -> None:
    env = make_env("walker_sit_knees", action_repeat=1, frames=False)
    env.reset(seed=2)
    steps = [env.step(action) for action in np.random.default_rng(2).uniform(-1, 1, (15, 6))]
    rewards = state_rewards("walker_sit_knees", np.stack([step[4]["state"] for step in steps]))
    # Stored velocities are of the step's end, as are the rewards.
    np.testing.assert_allclose(rewards, [step[1] for step in steps], atol=1e-12)


def test_starts_are_uniform_over_the_limited_joints_and_the_pitch() -> None:
    env = make_env("walker_stand", frames=False)
    states = np.stack([env.reset(seed=seed)[1]["state"] for seed in range(400)])
    joints = np.deg2rad([[0, 0], [0, 0], [-180, 180]] + 2 * [[-20, 100], [-150, 0], [-45, 45]])
    qpos, qvel = states[:, :9], states[:, 9:]
    assert (qvel == 0).all() and (qpos[:, :2] == 0).all()
    for joint, (low, high) in list(zip(qpos.T, joints, strict=True))[2:]:
        assert low <= joint.min() and joint.max() <= high
        quartiles = np.quantile((joint - low) / (high - low), [0.25, 0.5, 0.75])
        np.testing.assert_allclose(quartiles, [0.25, 0.5, 0.75], atol=0.08)  # about three standard errors


@pytest.mark.parametrize("action", [np.zeros(5), np.full(6, np.nan), np.zeros((1, 6))])
def test_actions_of_another_size_or_not_finite_are_refused(action: np.ndarray) -> None:
    env = make_env("walker_stand", frames=False)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="6 finite numbers"):
        env.step(action)


def test_bad_options_are_named() -> None:
    with pytest.raises(UserError, match="action_repeat"):
        make_env("walker_stand", action_repeat=0)
    with pytest.raises(UserError, match="unknown look 'pretty': choose from paper, fast"):
        make_env("walker_stand", look="pretty")  # type: ignore[arg-type]
