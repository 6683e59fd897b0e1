"""Compares our environments with arrays recorded from the original ones.

    python tests/parity/check_env.py REWARDS.npz FRAMES.npz [--only DOMAIN ...]

One line per task and array: largest error, tolerance, verdict. What was recorded and is not built, or has no comparison
here, prints `missing`. The exit code is 1 when anything is off or missing; `--only` looks at some bodies alone.

Frames are compared byte by byte where the recording's Mesa version runs, and by their mean difference elsewhere, since
graphics cards differ by a few grey levels along edges.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import mujoco
import numpy as np

import genrl.envs  # noqa: F401 - chooses the OpenGL system
from genrl.envs.domain import MODULES, get_domain
from genrl.envs.environment import make_env, state_rewards
from genrl.envs.gl import gl_version
from genrl.envs.physics import get_state
from genrl.envs.rendering import render_states
from genrl.envs.tasks import TASKS

sys.path.insert(0, str(Path(__file__).parents[2]))  # where this file is run as a command
from tests.parity import check_env_arms  # noqa: E402

TOLERANCE = 1e-9
"""Rewards and transitions repeat the recorded arithmetic on the same MuJoCo."""

MODEL_TOLERANCE = 1e-12
FRAME_TOLERANCE = 2.0
"""Mean grey levels, where another OpenGL system draws."""

TASK_INPUTS = {"qpos", "qvel", "act", "action", "source"}

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
    """Rewards, transitions and clocks of one task of a suite body; every recorded array is used or compared."""
    env = make_env(task, frames=False)
    model, data = env.physics.model.ptr, env.physics.data.ptr
    states = recorded_states(arrays)
    sub_steps = int(arrays["n_sub_steps"])
    next_states = np.empty_like(states)
    for i, state in enumerate(states):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.act[:] = np.split(state, [model.nq, model.nq + model.nv])
        data.ctrl[:] = arrays["action"][i]
        mujoco.mj_step(model, data, sub_steps)
        next_states[i] = get_state(env.physics)
    next_qpos, next_qvel, next_act = np.split(next_states, [model.nq, model.nq + model.nv], axis=1)
    ours: dict[str, np.ndarray | float] = {
        "reward": state_rewards(task, states),
        "next_qpos": next_qpos,
        "next_qvel": next_qvel,
        "next_act": next_act,
        "next_reward": state_rewards(task, next_states),
        "control_timestep": env.domain.control_timestep,
        "n_sub_steps": round(env.domain.control_timestep / model.opt.timestep),
        "step_limit": env.domain.control_steps,
    }
    for name, theirs in arrays.items():
        if name in ours:
            report.compare(f"{task}/{name}", ours[name], theirs, TOLERANCE)
        elif name not in TASK_INPUTS:
            report.verdict(f"{task}/{name}", "neither used nor compared", False)


def recorded_states(arrays: Arrays) -> np.ndarray:
    """(N, S) states of a group of arrays."""
    return np.concatenate([arrays[name] for name in ("qpos", "qvel", "act") if name in arrays], axis=1)


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


def check_rewards(groups: Mapping[str, Arrays], report: Report) -> None:
    """Everything in a file of rewards."""
    for group, arrays in groups.items():
        domain = _domain(group)
        if group.startswith("model/") and domain in MODULES:
            check_model(domain, arrays, report)
        elif group in check_env_arms.SCENES and arrays:
            check_env_arms.check_scene(group, arrays, report)
        elif group in TASKS and arrays:
            if common := check_env_arms.check_task(group, arrays, report):
                check_task(group, common, report)
        else:
            report.absent(group)


def check_frames(groups: Mapping[str, Arrays], report: Report, backend: str) -> None:
    """Everything in a file of frames."""
    recorded = re.search(r"Mesa ([\d.]+)", backend)
    running = re.search(r"Mesa ([\d.]+)", gl_version())
    same = recorded is not None and running is not None and recorded[1] == running[1]
    print(f"frames: recorded on {backend}, running {gl_version()}")
    for group, arrays in groups.items():
        if _domain(group) not in MODULES:
            report.absent(f"frames of {group}")
            continue
        theirs = arrays["frames"]
        if group in check_env_arms.SCENES:
            check_env_arms.check_picture(group, arrays, report)
            ours = render_states(group, recorded_states(arrays), "paper", theirs.shape[1])
        else:
            ours = draw(str(arrays["task"]), recorded_states(arrays), theirs.shape[1])
        if same:
            differing = int((ours != theirs).sum())
            report.verdict(f"frames of {group}", f"{differing} bytes differ", differing == 0)
        else:
            difference = float(np.abs(ours.astype(int) - theirs.astype(int)).mean())
            report.verdict(f"frames of {group}", f"mean difference {difference:.2f}", difference < FRAME_TOLERANCE)


def draw(task: str, states: np.ndarray, size: int) -> np.ndarray:
    """Frames of a task's states, whose activations were not recorded: they do not show."""
    missing = make_env(task, frames=False).state().size - states.shape[1]
    return render_states(task, np.pad(states, ((0, 0), (0, missing))), "paper", size)


def recorded_groups(arrays: Arrays, only: Sequence[str] | None) -> dict[str, Arrays]:
    """Arrays by task, model or group of frames; a task that is listed but has none is there too."""
    listed = [str(task) for name in arrays if name.startswith("meta/tasks") for task in arrays[name]]
    groups: dict[str, dict[str, np.ndarray]] = {name: {} for name in listed}
    for name, array in arrays.items():
        group, member = name.rsplit("/", 1)
        groups.setdefault(group, {})[member] = array
    return {name: groups[name] for name in sorted(groups) if name != "meta" and (only is None or _domain(name) in only)}


def _domain(group: str) -> str:
    """Body of a group such as `walker_run`, `model/walker` or `walker_suite`."""
    return group.removeprefix("model/").split("_")[0]


def main(argv: list[str] | None = None) -> int:
    """Compares both files; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare our environments with recorded arrays.")
    parser.add_argument("rewards", type=Path, metavar="REWARDS.npz")
    parser.add_argument("frames", type=Path, metavar="FRAMES.npz")
    parser.add_argument("--only", nargs="+", metavar="DOMAIN", help="bodies to look at; all unless given")
    options = parser.parse_args(argv)
    report = Report()
    rewards, frames = (load_arrays(file) for file in (options.rewards, options.frames))
    check_rewards(recorded_groups(rewards, options.only), report)
    check_frames(recorded_groups(frames, options.only), report, str(frames["meta/backend"]))
    print(f"{report.compared} compared, {report.off} off, {report.missing} missing")
    return 1 if report.off or report.missing or not report.compared else 0


def load_arrays(file: Path) -> Arrays:
    """All arrays of a file."""
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


if __name__ == "__main__":
    sys.exit(main())
