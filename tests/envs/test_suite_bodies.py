"""Stickman, cheetah and quadruped where they differ from the walker; rewards on answers worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from genrl.envs import cheetah, quadruped, stickman
from genrl.envs.environment import make_env
from genrl.envs.physics import set_state

CHEETAH, QUADRUPED = cheetah.REWARDS, quadruped.REWARDS


def test_the_stickman_has_the_mass_of_its_sizes() -> None:
    model = stickman.build_stickman()
    assert model.body_mass.sum() == pytest.approx(34.8939314, abs=1e-7)
    capsule = 1000 * np.pi * 0.06**2 * (0.5 + 4 / 3 * 0.06)
    assert model.body("torso").mass[0] == pytest.approx(capsule, rel=1e-12)


def test_a_hand_punches_in_either_direction() -> None:
    physics = stickman.load_physics("stickman")
    with physics.reset_context():
        physics.named.data.qvel["left_shoulder"] = 4.0
    straight = physics.hand_speed()
    with physics.reset_context():
        physics.named.data.qvel["right_shoulder"] = -4.0
    # The hand hangs 0.6 below the shoulder.
    assert straight == pytest.approx(4.0 * 0.6) and physics.hand_speed() == pytest.approx(straight)


def test_a_cheetah_settles_before_an_episode() -> None:
    env = make_env("cheetah_run", frames=False)
    env.reset(seed=0)
    data = env.physics.data
    assert data.time == 0 and data.ncon > 0
    assert np.abs(data.qvel).max() < 5 and 0 < env.physics.height("torso") < 1


def test_running_and_flipping_of_a_cheetah_are_linear_from_zero() -> None:
    forwards = SimpleNamespace(forward_speed=lambda: 4.0, spin=lambda: 2.0)
    assert CHEETAH["cheetah_run"](forwards) == pytest.approx(0.4)
    assert CHEETAH["cheetah_flip"](forwards) == CHEETAH["cheetah_flipping"](forwards) == pytest.approx(0.4)
    assert CHEETAH["cheetah_run_backward"](forwards) == CHEETAH["cheetah_flip_backward"](forwards) == 0
    backwards = SimpleNamespace(forward_speed=lambda: -12.0, spin=lambda: -2.5)
    assert CHEETAH["cheetah_run_backward"](backwards) == 1.0
    assert CHEETAH["cheetah_flip_backward"](backwards) == pytest.approx(0.5)
    assert CHEETAH["cheetah_flipping"](backwards) == 0, "one direction alone counts"


def test_a_cheetah_stands_on_either_foot_and_lies_with_both_in_the_air() -> None:
    for feet in ((1.0, 0.1), (0.1, 1.0)):
        assert cheetah.standing(SimpleNamespace(foot_heights=lambda feet=feet: feet)) == 1.0
    assert cheetah.standing(SimpleNamespace(foot_heights=lambda: (0.5, 0.1))) == pytest.approx(0.1)
    # The sum of the feet's heights counts, so that one is enough.
    lying = SimpleNamespace(height=lambda body: 0.1, foot_heights=lambda: (0.45, 0.0))
    assert cheetah.lying_down(lying) == 1.0
    flat = SimpleNamespace(height=lambda body: 0.1, foot_heights=lambda: (0.225, 0.0))
    assert cheetah.lying_down(flat) == pytest.approx((1 + 0.1) / 2)


def spider(
    up: float = 1.0, velocity: tuple[float, ...] = (0.0, 0.0, 0.0), centre: float = 0.0, **more: object
) -> SimpleNamespace:
    return SimpleNamespace(
        uprightness=lambda: up, torso_velocity=lambda: np.array(velocity), centre_height=lambda: centre, **more
    )


def test_a_quadruped_is_paid_for_its_own_forward_speed_while_upright() -> None:
    assert QUADRUPED["quadruped_stand"](spider(up=0.5)) == 0.75
    assert QUADRUPED["quadruped_walk"](spider(velocity=(0.5, 0, 0))) == 1.0
    assert QUADRUPED["quadruped_walk"](spider(up=0.0, velocity=(0.0, 9, 0))) == pytest.approx(0.5 * 0.5)
    assert QUADRUPED["quadruped_run"](spider(velocity=(2.5, 0, 0))) == pytest.approx(0.75)
    assert QUADRUPED["quadruped_run"](spider(velocity=(-5.0, 0, 0))) == 0
    assert QUADRUPED["quadruped_roll"](spider(velocity=(0, 0.3, -0.4))) == 1.0
    assert QUADRUPED["quadruped_roll_fast"](spider(velocity=(0, 0, -2.5))) == pytest.approx(0.75)
    assert QUADRUPED["quadruped_jump"](spider(centre=0.5)) == pytest.approx(0.75)


def test_two_legs_is_a_step_in_the_height_of_the_others() -> None:
    def on_two_legs(*heights: float) -> float:
        return quadruped.two_legs(spider(toe_heights=lambda: sorted(heights)))

    assert on_two_legs(0.8, 0.1, 0.8, 0.1) == 1.0
    assert on_two_legs(0.8, 0.1, 0.79, 0.1) == 0.0
    assert on_two_legs(0.9, 0.5, 0.9, 0.5) == pytest.approx(0.1)
    assert quadruped.lie_down(SimpleNamespace(height=lambda body: 0.5)) == pytest.approx(0.1)


def test_a_quadruped_starts_turned_anyhow_and_just_above_the_floor() -> None:
    env = make_env("quadruped_stand", frames=False)
    ups = []
    for seed in range(30):
        env.reset(seed=seed)
        physics = env.physics
        ups.append(physics.uprightness())
        assert physics.data.ncon == 0 and (physics.data.qpos[7:] == 0).all() and (physics.data.qvel == 0).all()
        assert np.linalg.norm(physics.data.qpos[3:7]) == pytest.approx(1)
        physics.data.qpos[2] -= quadruped.START_STEP
        mujoco.mj_fwdPosition(physics.model.ptr, physics.data.ptr)
        assert physics.data.ncon > 0
    assert min(ups) < -0.6 and max(ups) > 0.6


def test_the_state_of_a_quadruped_holds_what_decides_its_future() -> None:
    env, other = (make_env("quadruped_walk", frames=False) for _ in range(2))
    env.reset(seed=0)
    for action in np.random.default_rng(0).uniform(-1, 1, (20, 12)):
        env.step(action)
    state = env.state()
    assert state.shape == (23 + 22 + 12,) and np.abs(state[45:]).max() > 0.1
    ends = [env.step(np.zeros(12))[4]["state"]]
    for forget in (False, True):
        other.reset(seed=1)
        start = state.copy()
        start[45:] *= not forget
        set_state(other.physics, start)
        ends.append(other.step(np.zeros(12))[4]["state"])
    # The solver starts from another guess.
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-5)
    assert np.abs(ends[2] - ends[0])[:45].max() > 0.1
