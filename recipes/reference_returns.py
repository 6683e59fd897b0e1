"""Returns of acting at random and of doing nothing in every task: what stands beside the benchmark's score 0.

    python recipes/reference_returns.py [--domain DOMAIN ...]

Twenty episodes of each agent and body, which give the rewards of all its tasks. Writes docs/task_returns.json, from
which recipes/model_cards.py makes the table in docs/tasks.md and tests/envs/test_conformance.py takes its bounds.
Bodies that are not named keep their numbers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean

import numpy as np

from genrl.envs.domain import MODULES, get_domain
from genrl.envs.environment import BodyEnv, make_env
from genrl.envs.tasks import TASKS, domain_tasks
from genrl.infra.checkpoint import atomic_write

FILE = Path(__file__).parents[1] / "docs" / "task_returns.json"
EPISODES = 20
FIRST_STEPS = 40
"""Env steps after which the return so far is noted: what a quick test can repeat."""
AGENTS = ("nothing", "random")


def actions(env: BodyEnv, agent: str, seed: int, steps: int) -> np.ndarray:
    """(T, A) what an agent does in one episode."""
    shape = (steps, *(env.action_space.shape or ()))
    return np.random.default_rng(seed).uniform(-1, 1, shape) if agent == "random" else np.zeros(shape)


def episode(env: BodyEnv, agent: str, seed: int, max_steps: int) -> np.ndarray:
    """(T, R) rewards of the tasks that the environment reports, at every env step of one episode."""
    env.reset(seed=seed)
    rows = []
    for action in actions(env, agent, seed, max_steps):
        _, _, terminated, truncated, info = env.step(action)
        rows.append(info["rewards"])
        if terminated or truncated:
            break
    return np.stack(rows)


def measure(domain: str) -> dict[str, dict[str, dict[str, float]]]:
    """Task -> agent -> mean, least and largest return, of whole episodes and of their first steps."""
    tasks = [task.name for task in domain_tasks(domain)]
    env = make_env(get_domain(domain).plain_task, frames=False, report=tasks)
    numbers: dict[str, dict[str, dict[str, float]]] = {task: {} for task in tasks}
    for agent in AGENTS:
        episodes = [episode(env, agent, seed, env.episode_steps) for seed in range(EPISODES)]
        for column, task in enumerate(tasks):
            whole = [float(rewards[:, column].sum()) for rewards in episodes]
            first = [float(rewards[:FIRST_STEPS, column].sum()) for rewards in episodes]
            numbers[task][agent] = {
                "mean": round(mean(whole), 3),
                "low": round(min(whole), 3),
                "high": round(max(whole), 3),
                "first_low": round(min(first), 3),
                "first_high": round(max(first), 3),
            }
    return numbers


def main(domains: list[str]) -> None:
    """Measures, and writes the file in the order of the registry."""
    known = json.loads(FILE.read_text())["tasks"] if FILE.exists() else {}
    for domain in domains:
        known |= measure(domain)
        print(f"{domain}: done", flush=True)
    table = {
        "episodes": EPISODES,
        "first_steps": FIRST_STEPS,
        "tasks": {task: known[task] for task in TASKS if task in known},
    }
    atomic_write(FILE, json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the returns of random actions and of doing nothing.")
    parser.add_argument("--domain", nargs="+", choices=MODULES, default=list(MODULES))
    main(parser.parse_args().domain)
