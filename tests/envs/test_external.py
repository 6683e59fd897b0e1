from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from genrl.envs.external import ExternalEnv, View
from genrl.envs.tasks import TASKS, get_task, is_external
from genrl.infra.errors import UserError

HERE = "tests.envs.own_env"
DIAL, SWITCH = f"{HERE}:Dial-v0", f"{HERE}:Switch-v0"


def brightness(frame: np.ndarray) -> int:
    assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8
    return int(frame[0, 0, 0])


def test_names_of_the_suite_and_ids_of_gymnasium_are_told_apart() -> None:
    assert not any(is_external(name) for name in (*TASKS, "walker", "walker_fly"))
    assert all(is_external(name) for name in (DIAL, "Pendulum-v1", "ALE/Pong-v5"))
    task = get_task(DIAL)
    assert (task.name, task.domain, task.prompt, task.score_max) == (DIAL, DIAL, None, None)


def test_frames_rewards_and_ends_are_those_of_the_environment() -> None:
    env = ExternalEnv(DIAL, action_repeat=2)
    assert (env.camera, env.look, env.control_timestep, env.episode_steps) == ("default", "own", 0.1, 10)
    first = brightness(env.reset(seed=3)[0])
    steps = [env.step(np.array([1.0, 2.0])) for _ in range(5)]
    assert [brightness(step[0]) - first for step in steps] == [20, 40, 60, 80, 90]
    assert [step[1] for step in steps] == [402.0] * 4 + [201.0], "the last env step ends after one of two"
    assert [step[2:4] for step in steps] == [(False, False)] * 4 + [(True, False)]
    with pytest.raises(RuntimeError, match="reset"):
        env.step(np.zeros(2))
    assert brightness(env.reset(seed=3)[0]) == first != brightness(env.reset(seed=4)[0])


def test_actions_come_in_its_own_units_and_are_kept_within_its_bounds() -> None:
    env = ExternalEnv(DIAL)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.to_units(np.float32([-1, 1])), [-2, 10])
    np.testing.assert_array_equal(env.to_units(np.float32([0.5, 0])), [1, 5])
    assert env.step(np.array([9.0, -9.0]))[1] == 2.0
    with pytest.raises(ValueError, match="2 finite numbers"):
        env.step(np.array([np.nan, 0]))


def test_choices_are_one_hot() -> None:
    env = ExternalEnv(SWITCH)
    env.reset(seed=0)
    assert env.discrete and env.action_space.shape == (3,)
    assert [env.step(env.to_units(action))[1] for action in np.eye(3, dtype=np.float32)] == [5, 6, 7]


def test_episodes_are_cut_off_where_asked_for_and_must_end_somehow() -> None:
    env = ExternalEnv(f"{HERE}:Endless-v0", episode_steps=3)
    env.reset(seed=0)
    assert [env.step(np.zeros(2))[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    with pytest.raises(UserError, match="no time limit of its own; give one with --episode-steps"):
        ExternalEnv(f"{HERE}:Endless-v0")


def test_camera_and_size_reach_the_environment_and_have_names() -> None:
    view = View(camera="back", size=100)
    env = ExternalEnv(DIAL, view)
    frame, _ = env.reset(seed=0)
    assert int(frame[0, 0, 2]) - int(frame[0, 0, 0]) == 100
    assert (env.camera, env.look) == ("back", "own-100")
    assert View.of(env.camera, env.look) == view and View.of("default", "own") == View()
    for look in ("fast", "own-", "own-x", "ownership"):
        with pytest.raises(UserError, match=f"'{look}' are not drawn by an environment itself"):
            View.of("default", look)


@pytest.mark.parametrize(
    ("name", "view", "said"),
    [
        ("Nowhere-v0", View(), "--env Nowhere-v0 cannot be made: .*Nowhere"),
        ("no_package:Env-v0", View(), "cannot be made: No module named 'no_package'"),
        ("CartPole-v1", View(camera="front"), "CartPole-v1 cannot be made with camera_name='front': .*camera_name"),
        (f"{HERE}:Blind-v0", View(), "does not draw itself: its `metadata` name no render mode rgb_array"),
        (f"{HERE}:Keys-v0", View(), r"takes actions from MultiDiscrete.*; a bounded Box or Discrete is needed"),
        (f"{HERE}:Throttle-v0", View(), r"takes actions from Box.*; a bounded Box or Discrete is needed"),
    ],
)
def test_what_does_not_fit_is_named(name: str, view: View, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ExternalEnv(name, view)


def test_a_camera_that_a_mujoco_model_lacks_is_refused() -> None:
    pytest.importorskip("imageio", reason="Gymnasium's MuJoCo environments need gymnasium[mujoco]")
    assert ExternalEnv("Hopper-v5", View(camera="track")).camera == "track"
    with pytest.raises(UserError, match="Hopper-v5 has no camera 'truck': choose from track"):
        ExternalEnv("Hopper-v5", View(camera="truck"))


def test_a_drawing_that_is_no_picture_is_refused() -> None:
    env = ExternalEnv(f"{HERE}:Sketch-v0")
    with pytest.raises(UserError, match=r"Sketch-v0 draws float64 \(7,\)"):
        env.reset()


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_environments_of_gymnasium_are_seen(name: str) -> None:
    pytest.importorskip("pygame", reason="classic control needs gymnasium[classic-control]")
    env = ExternalEnv(name, action_repeat=2)
    first, _ = env.reset(seed=0)
    action = env.action_space.high if not env.discrete else np.float32([0, 1])
    later = [env.step(action)[0] for _ in range(4)][-1]
    assert first.std() > 5 and not np.array_equal(first, later)
    env.close()


def test_gymnasium_finds_nothing_wrong() -> None:
    check_env(ExternalEnv(DIAL), skip_render_check=True)
