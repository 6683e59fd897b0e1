"""Draws the contact sheet of docs/tasks.md: every task of the registry in a state that it rewards.

    python recipes/task_sheet.py [--out docs/images/tasks.png]

The state is the best of those recorded from the original environments (tests/data), unless it dips into the floor, and
of some episodes of doing nothing and of acting at random. The number is its reward.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import numpy as np
from reference_returns import AGENTS, actions

from genrl.envs.domain import get_domain
from genrl.envs.environment import make_env, state_rewards
from genrl.envs.physics import set_state
from genrl.envs.rendering import render_states
from genrl.envs.tasks import TASKS
from genrl.infra.media import video_grid, write_png

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "tests" / "data" / "env_rewards.npz"
EPISODES, STEPS = 4, 200
"""Episodes of each agent, and the env steps of each at most."""
DEEPEST = 0.06
"""Metres that a body may dip into the floor."""
COLUMNS, SIZE = 7, 128


def best_state(task: str) -> np.ndarray:
    """(S,) the state with the highest reward."""
    states = visited_states(TASKS[task].domain)
    recorded = recorded_states(task)
    if len(recorded):
        states = np.concatenate([states, recorded])
    return states[state_rewards(task, states).argmax()]


@cache
def visited_states(domain: str) -> np.ndarray:
    """(N, S) states of episodes of doing nothing and of acting at random."""
    env = make_env(get_domain(domain).plain_task, frames=False)
    states, steps = [], min(STEPS, env.episode_steps)
    for agent in AGENTS:
        for seed in range(EPISODES):
            env.reset(seed=seed)
            states += [env.step(action)[4]["state"] for action in actions(env, agent, seed, steps)]
    return np.stack(states)


def recorded_states(task: str) -> np.ndarray:
    """(N, S) recorded states of a task that do not dip into the floor."""
    with np.load(RECORDED) as arrays:
        if f"{task}/reward" not in arrays:
            return np.empty((0, 0))
        parts = [arrays[f"{task}/{name}"] for name in ("qpos", "qvel", "act") if f"{task}/{name}" in arrays]
    physics = make_env(task, frames=False).physics
    kept = []
    for state in np.concatenate(parts, axis=1):
        set_state(physics, state)
        if min(physics.data.ptr.contact.dist, default=0) >= -DEEPEST:
            kept.append(state)
    return np.stack(kept)


def main(out: Path) -> None:
    """Draws every task and writes the sheet."""
    pictures, labels = [], []
    for task in TASKS:
        state = best_state(task)[None]
        pictures.append(render_states(task, state, "paper", SIZE))
        labels.append(f"{task.replace('_', ' ')} {state_rewards(task, state)[0]:.2f}")
    write_png(out, video_grid(pictures, labels, columns=COLUMNS)[0])
    print(f"{out}: {len(TASKS)} tasks")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the contact sheet of all tasks.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "tasks.png")
    main(parser.parse_args().out)
