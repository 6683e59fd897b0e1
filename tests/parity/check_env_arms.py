"""What `check_env.py` compares of the arms alone: the kitchen and Jaco."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from genrl.envs.domain import FreeCamera, get_domain
from genrl.envs.environment import BodyEnv, make_env, set_state, state_rewards
from genrl.envs.tasks import TASKS

if TYPE_CHECKING:
    from tests.parity.check_env import Report

TOLERANCE = 1e-9
SCENES = ("kitchen", "jaco")
ARM_JOINTS = 9
PLACES = ("tool_center_point", "target")

Arrays = Mapping[str, np.ndarray]


def check_task(task: str, arrays: Arrays, report: Report) -> Arrays:
    """Compares what only tasks of this kind have; returns the arrays that are left, for the check that all share."""
    domain = TASKS[task].domain
    if domain == "kitchen":
        check_kitchen(task, arrays, report)
        return {}
    if domain == "jaco":
        check_places(task, arrays, report)
        return {name: array for name, array in arrays.items() if name not in PLACES}
    return arrays


def check_kitchen(task: str, arrays: Arrays, report: Report) -> None:
    """Transitions, distances and both rewards of one kitchen task, by stepping the environment with exact sensors."""
    from genrl.envs.kitchen import GOALS

    goal = GOALS[task]
    dense, evaluation = (make_env(task, action_repeat=1, frames=False, evaluation=mode) for mode in (False, True))
    rows = [step_kitchen(dense, state, action) for state, action in zip(states(arrays), arrays["action"], strict=True)]
    sparse = [step_kitchen(evaluation, s, a)[1] for s, a in zip(states(arrays), arrays["action"], strict=True)]
    after = np.stack([row[0] for row in rows])
    nq = arrays["qpos"].shape[1]
    ours: dict[str, np.ndarray | float] = {
        "next_qpos": after[:, :nq],
        "next_qvel": after[:, nq:],
        "distance": np.array([row[2] for row in rows]),
        "reward_dense": np.array([row[1] for row in rows]),
        "reward_sparse": np.array(sparse),
        "goal": np.array(goal.positions),
        "goal_qpos_index": np.array(goal.joints),
        "threshold": goal.threshold,
    }
    compare_all(task, ours, arrays, {"qpos", "qvel", "action"}, report)


def step_kitchen(env: BodyEnv, state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, float, float]:
    """State, reward and distance one control step after a state."""
    from genrl.envs.kitchen import GOALS

    env.reset(seed=0)
    env.physics.random = None
    with env.physics.reset_context():
        env.physics.data.qpos[:], env.physics.data.qvel[:] = np.split(state, [env.physics.model.nq])
    reward = env.step(action)[1]
    return env.state(), reward, env.physics.distance(GOALS[env.task.name])


def check_places(name: str, arrays: Arrays, report: Report) -> None:
    """World positions of Jaco's hand and brick at each state."""
    physics = get_domain("jaco").load("jaco")
    ours = []
    for state in states(arrays):
        set_state(physics, state)
        ours.append((physics.hand().copy(), physics.brick().copy()))
    for key, positions in zip(PLACES, zip(*ours, strict=True), strict=True):
        report.compare(f"{name}/{key}", np.stack(positions), arrays[key], TOLERANCE)


def check_scene(domain: str, arrays: Arrays, report: Report) -> None:
    """Joints in their order, and the pose that the kitchen starts from."""
    env = make_env(next(task for task in TASKS if TASKS[task].domain == domain), frames=False)
    model = env.physics.model
    names = np.array([model.id2name(joint, "joint").rpartition(":")[2] for joint in range(model.njnt)])
    pose = env.reset(seed=0)[1]["state"][: model.nq]
    ours: dict[str, np.ndarray | float] = {"joint_names": names, "reset_qpos": pose}
    if domain == "kitchen":  # gymnasium-robotics has other names for the objects' joints
        recorded = arrays["joint_names"]
        ours["joint_names"] = np.concatenate([names[:ARM_JOINTS], recorded[ARM_JOINTS : len(names)]])
    compare_all(domain, ours, arrays, set(), report)


def check_picture(group: str, arrays: Arrays, report: Report) -> None:
    """The camera of a group of frames, and what else was recorded beside them."""
    camera = get_domain(group).camera
    if isinstance(camera, FreeCamera):
        ours: dict[str, np.ndarray | float] = {
            f"camera_{name}": np.asarray(getattr(camera, name), np.float64)
            for name in ("lookat", "distance", "azimuth", "elevation")
        }
    else:
        physics = get_domain(group).load(group)
        view = physics.model.ptr.camera(camera)
        ours = {"camera_name": np.array(view.name), "camera_pos": view.pos}
        rewards = [state_rewards(str(t), s[None])[0] for t, s in zip(arrays["task"], states(arrays), strict=True)]
        ours["reward"] = np.array(rewards)
        check_places(f"frames of {group}", arrays, report)
    used = {"qpos", "qvel", "frames", "size", "task", *PLACES}
    compare_all(f"frames of {group}", ours, arrays, used, report)


def compare_all(
    name: str, ours: Mapping[str, np.ndarray | float], arrays: Arrays, used: set[str], report: Report
) -> None:
    """Compares every recorded array that was not used otherwise."""
    for key, theirs in arrays.items():
        if key in ours:
            report.compare(f"{name}/{key}", ours[key], theirs, TOLERANCE)
        elif key not in used:
            report.verdict(f"{name}/{key}", "neither used nor compared", False)


def states(arrays: Arrays) -> np.ndarray:
    """(N, nq + nv)."""
    return np.concatenate([arrays["qpos"], arrays["qvel"]], axis=1)
