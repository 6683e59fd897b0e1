"""Compares our environments with arrays recorded from the original ones.

    python tests/parity/check_env.py REWARDS.npz FRAMES.npz

One line per task and array: largest error, tolerance, verdict. Tasks and bodies that are not built print `missing`,
which is no failure. The exit code is 1 when anything that was compared is off.

Frames are compared byte by byte where the recording's Mesa version runs, and by their mean difference elsewhere, since
graphics cards differ by a few grey levels along edges.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import mujoco
import numpy as np

import genrl.envs  # noqa: F401 - chooses the OpenGL system
from genrl.envs.domain import MODULES, get_domain
from genrl.envs.environment import make_env, state_rewards
from genrl.envs.gl import gl_version
from genrl.envs.rendering import render_states
from genrl.envs.tasks import TASKS

sys.path.insert(0, str(Path(__file__).parents[2]))  # where this file is run as a command
from tests.parity import check_env_arms  # noqa: E402

TOLERANCE = 1e-9
"""Rewards and transitions repeat the recorded arithmetic on the same MuJoCo."""

MODEL_TOLERANCE = 1e-12
FRAME_TOLERANCE = 2.0
"""Mean grey levels, where another OpenGL system draws."""

TASK_INPUTS = {"qpos", "qvel", "action", "source"}
FRAME_GROUPS = {"walker": "walker", "walker_suite": "walker", "kitchen": "kitchen", "jaco": "jaco"}
"""Body that draws each group of frames."""

Arrays = Mapping[str, np.ndarray]


class Report:
    """Prints a line per comparison and keeps count."""

    def __init__(self) -> None:
        self.compared = self.off = self.missing = 0

    def compare(self, name: str, ours: np.ndarray | float, theirs: np.ndarray, tolerance: float) -> None:
        """Largest absolute error against a tolerance; shapes must agree, and 0 means equality of any type."""
        ours = np.asarray(ours)
        if ours.shape != theirs.shape:
            self.verdict(name, f"shape {ours.shape}, recorded {theirs.shape}", False)
        elif theirs.dtype.kind in "US":
            self.verdict(name, "names", bool((ours == theirs).all()))
        else:
            error = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max(initial=0.0))
            self.verdict(name, f"error {error:.1e} tolerance {tolerance:.0e}", error <= tolerance)

    def verdict(self, name: str, measured: str, good: bool) -> None:
        """One compared array."""
        self.compared += 1
        self.off += not good
        print(f"{name:44s} {measured:36s} {'ok' if good else 'OFF'}")

    def absent(self, name: str) -> None:
        """Something recorded that is not built."""
        self.missing += 1
        print(f"{name:44s} missing")


def check_task(task: str, arrays: Arrays, report: Report) -> None:
    """Rewards, transitions and clocks of one task; every recorded array is used or compared."""
    env = make_env(task, frames=False)
    model, data = env.physics.model.ptr, env.physics.data.ptr
    states = np.concatenate([arrays["qpos"], arrays["qvel"]], axis=1)
    sub_steps = int(arrays["n_sub_steps"])
    next_qpos, next_qvel = np.empty_like(arrays["qpos"]), np.empty_like(arrays["qvel"])
    for i, state in enumerate(states):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = state[: model.nq], state[model.nq :]
        data.ctrl[:] = arrays["action"][i]
        mujoco.mj_step(model, data, sub_steps)
        next_qpos[i], next_qvel[i] = data.qpos, data.qvel
    ours: dict[str, np.ndarray | float] = {
        "reward": state_rewards(task, states),
        "next_qpos": next_qpos,
        "next_qvel": next_qvel,
        "next_reward": state_rewards(task, np.concatenate([next_qpos, next_qvel], axis=1)),
        "control_timestep": env.domain.control_timestep,
        "n_sub_steps": round(env.domain.control_timestep / model.opt.timestep),
        "step_limit": env.domain.control_steps,
    }
    for name, theirs in arrays.items():
        if name in ours:
            report.compare(f"{task}/{name}", ours[name], theirs, TOLERANCE)
        elif name not in TASK_INPUTS:
            report.verdict(f"{task}/{name}", "neither used nor compared", False)


def check_model(domain: str, arrays: Arrays, report: Report) -> None:
    """Numbers of a compiled model."""
    physics = get_domain(domain).load(domain)
    model = physics.model.ptr
    kinds = {"body": model.nbody, "joint": model.njnt, "geom": model.ngeom, "actuator": model.nu}
    for name, theirs in arrays.items():
        kind = name.removesuffix("_names")
        if kind in kinds and name.endswith("_names"):
            ours = np.array([physics.model.id2name(i, kind) for i in range(kinds[kind])])
        elif name.startswith(("opt_", "stat_")):
            holder, field = name.split("_", 1)
            ours = np.asarray(getattr(getattr(model, holder), field))
        else:
            ours = np.asarray(getattr(model, name))
        report.compare(f"model/{domain}/{name}", ours, theirs, MODEL_TOLERANCE)


def check_rewards(arrays: Arrays, report: Report) -> None:
    """Everything in a file of rewards."""
    for group in sorted({_group(name) for name in arrays} - {"meta"}):
        members = {name[len(group) + 1 :]: array for name, array in arrays.items() if _group(name) == group}
        if group in TASKS:
            if common := check_env_arms.check_task(group, members, report):
                check_task(group, common, report)
        elif group in check_env_arms.SCENES:
            check_env_arms.check_scene(group, members, report)
        elif group.startswith("model/") and group.removeprefix("model/") in MODULES:
            check_model(group.removeprefix("model/"), members, report)
        else:
            report.absent(group)


def check_frames(arrays: Arrays, report: Report) -> None:
    """Everything in a file of frames."""
    recorded = re.search(r"Mesa ([\d.]+)", str(arrays["meta/backend"]))
    running = re.search(r"Mesa ([\d.]+)", gl_version())
    same = recorded is not None and running is not None and recorded[1] == running[1]
    print(f"frames: recorded on {arrays['meta/backend']}, running {gl_version()}")
    for group in sorted({_group(name) for name in arrays} - {"meta"}):
        if group not in FRAME_GROUPS:
            report.absent(f"frames of {group}")
            continue
        states = np.concatenate([arrays[f"{group}/qpos"], arrays[f"{group}/qvel"]], axis=1)
        theirs = arrays[f"{group}/frames"]
        if group in check_env_arms.SCENES:
            members = {name[len(group) + 1 :]: array for name, array in arrays.items() if _group(name) == group}
            check_env_arms.check_picture(group, members, report)
        ours = render_states(FRAME_GROUPS[group], states, "paper", size=theirs.shape[1])
        if same:
            differing = int((ours != theirs).sum())
            report.verdict(f"frames of {group}", f"{differing} bytes differ", differing == 0)
        else:
            difference = float(np.abs(ours.astype(int) - theirs.astype(int)).mean())
            report.verdict(f"frames of {group}", f"mean difference {difference:.2f}", difference < FRAME_TOLERANCE)


def _group(name: str) -> str:
    return name.rsplit("/", 1)[0]


def main(argv: list[str] | None = None) -> int:
    """Compares both files; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare our environments with recorded arrays.")
    parser.add_argument("rewards", type=Path, metavar="REWARDS.npz")
    parser.add_argument("frames", type=Path, metavar="FRAMES.npz")
    options = parser.parse_args(argv)
    report = Report()
    for file, check in ((options.rewards, check_rewards), (options.frames, check_frames)):
        with np.load(file, allow_pickle=False) as arrays:
            check({name: arrays[name] for name in arrays.files}, report)
    print(f"{report.compared} compared, {report.off} off, {report.missing} missing")
    return 1 if report.off or not report.compared else 0


if __name__ == "__main__":
    sys.exit(main())
