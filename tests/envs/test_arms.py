from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from genrl.envs.appearance import Appearance
from genrl.envs.domain import get_domain
from genrl.envs.environment import BodyEnv, make_env
from genrl.envs.rendering import render_states
from genrl.infra.errors import UserError

needs_kitchen = pytest.mark.skipif(find_spec("gymnasium_robotics") is None, reason="needs the extra `kitchen`")


def open_microwave(env: BodyEnv, angle: float) -> None:
    """Opens the door by hand; the sensors read it at once."""
    env.physics.data.qpos[22] = angle
    env.physics.forward()


@needs_kitchen
def test_the_arm_moves_at_two_radians_a_second_from_where_it_was_read() -> None:
    env = make_env("kitchen_slide", action_repeat=1, frames=False)
    env.reset(seed=0)
    env.physics.random = None
    env.physics.forward()
    before = env.physics.data.qpos[:9].copy()
    action = np.array([0.5, 0, 0, 0, 0, 0, -1, 0, -1])
    env.step(action)
    control = env.physics.data.ctrl
    np.testing.assert_allclose(control[:7], before[:7] + action[:7] * 2 * 0.08)
    assert control[7] == 0.04 and control[8] == 0.0, "the first finger starts beyond its bound of 0.04"


@needs_kitchen
def test_readings_are_off_by_a_tenth_of_each_joints_amplitude() -> None:
    env = make_env("kitchen_slide", frames=False)
    errors = np.stack([env.reset(seed=seed)[0][:30] - env.physics.data.qpos for seed in range(200)])
    largest = np.abs(errors).max(0)
    expected = np.repeat([0.01, 0.0005, 0.00005, 0.0005, 0.01, 0.0005, 0.01, 0.0005], [9, 2, 6, 3, 3, 3, 3, 1])
    np.testing.assert_allclose(largest, expected, rtol=0.05)
    assert (np.abs(errors.mean(0)) < 0.15 * expected).all()


@needs_kitchen
def test_every_kitchen_episode_starts_in_the_same_pose_and_a_seed_repeats_its_noise() -> None:
    env = make_env("kitchen_light", frames=False)
    action = np.linspace(-1, 1, 9)

    def episode(seed: int) -> list[np.ndarray]:
        return [env.reset(seed=seed)[1]["state"], *(env.step(action)[4]["state"] for _ in range(5))]

    one, other, again = episode(1), episode(2), episode(1)
    np.testing.assert_array_equal(one[0], other[0])
    assert (one[0][30:] == 0).all()
    assert not np.array_equal(one[-1], other[-1])
    np.testing.assert_array_equal(one, again)


@needs_kitchen
def test_while_data_are_collected_the_reward_is_minus_the_distance_until_the_object_has_arrived() -> None:
    env = make_env("kitchen_microwave", action_repeat=1, frames=False, report=("kitchen_microwave", "kitchen_slide"))
    still = np.zeros(9)
    env.reset(seed=0)
    reward, terminated = env.step(still)[1:3]
    assert reward == pytest.approx(-0.75, abs=0.02) and not terminated
    open_microwave(env, -0.7)
    reward, terminated = env.step(still)[1:3]
    assert -0.25 < reward < 0 and not terminated, "the step that arrives still pays the distance"
    *_, terminated, truncated, info = env.step(still)
    assert info["rewards"][0] == 0 and info["rewards"][1] == pytest.approx(-0.37, abs=0.01)
    open_microwave(env, 0.0)
    assert env.step(still)[1] == 0, "closing it again costs nothing"
    env.reset(seed=0)
    assert env.step(still)[1] < -0.7


@needs_kitchen
def test_in_an_evaluation_success_pays_one_and_ends_the_episode() -> None:
    env = make_env("kitchen_microwave", action_repeat=2, frames=False, evaluation=True)
    env.reset(seed=0)
    assert env.step(np.zeros(9))[1:4] == (0.0, False, False)
    open_microwave(env, -0.7)
    assert env.step(np.zeros(9))[1:4] == (1.0, True, False)
    with pytest.raises(RuntimeError, match="the episode is over"):
        env.step(np.zeros(9))
    env.reset()
    assert [env.step(np.zeros(9))[2:4] for _ in range(140)] == [(False, False)] * 139 + [(False, True)]


@needs_kitchen
@pytest.mark.gl
def test_the_kitchen_is_drawn_by_a_camera_of_our_own_and_in_its_own_looks_only() -> None:
    env = make_env("kitchen_burner")
    frame, info = env.reset(seed=0)
    assert env.camera == "free" and frame.shape == (64, 64, 3) and frame.std() > 40
    with pytest.raises(UserError, match="kitchen has no other looks"):
        render_states("kitchen", info["state"][None], "fast", appearance=Appearance())


def test_without_the_model_file_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from genrl.envs import kitchen

    monkeypatch.setattr(kitchen, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'genrl-mfwm\[kitchen\]'"):
        make_env("kitchen_burner", frames=False)


@pytest.mark.parametrize(
    ("task", "place"),
    [
        ("jaco_reach_top_left", (-0.09, 0.09)),
        ("jaco_reach_top_right", (0.09, 0.09)),
        ("jaco_reach_bottom_left", (-0.09, -0.09)),
        ("jaco_reach_bottom_right", (0.09, -0.09)),
    ],
)
def test_the_brick_lies_in_the_place_of_the_task_and_the_hand_above_the_table(task: str, place: tuple) -> None:
    env = make_env(task, frames=False)
    turns, hands = [], []
    for seed in range(8):
        env.reset(seed=seed)
        physics = env.physics
        np.testing.assert_allclose(physics.brick(), (*place, 0.0), atol=1e-3)
        turns.append(physics.data.qpos[12])
        hands.append(physics.hand().copy())
        assert (physics.data.qvel[:9] == 0).all()
    low, high = np.min(hands, axis=0), np.max(hands, axis=0)
    assert (low > [-0.101, -0.101, 0.199]).all() and (high < [0.101, 0.101, 0.401]).all()
    assert (high - low > 0.03).all() and np.ptp(turns) > 0.5


def test_jaco_is_paid_for_the_hand_at_the_brick() -> None:
    domain = get_domain("jaco")
    physics = domain.load("jaco_reach_top_left")
    with physics.reset_context():
        domain.start(physics, np.random.default_rng(0))
    reward = domain.rewards["jaco_reach_top_left"]

    def put_brick(away: float) -> float:
        physics.data.qpos[9:12] = physics.hand() + [away, 0, 0]
        physics.forward()
        return reward(physics)

    assert put_brick(0.0) == put_brick(0.049) == 1.0
    assert put_brick(0.1) == pytest.approx(0.1, abs=1e-9), "0.05 beyond the radius of 0.05 is the margin"


@pytest.mark.gl
def test_jaco_is_drawn_from_the_close_camera() -> None:
    env = make_env("jaco_reach_top_left")
    frame, _ = env.reset(seed=0)
    assert env.camera == "front_close" and frame.shape == (64, 64, 3)
    red = (frame[..., 0] > 120) & (frame[..., 1:].max(-1) < 60)
    assert 3 < red.sum() < 60, "the brick is in the picture"
