"""Returns of acting at random and of doing nothing in every task: what stands beside the benchmark's score 0.

    python recipes/reference_returns.py [--domain DOMAIN ...]

Twenty episodes of each agent and task: twelve minutes for all bodies. Writes
docs/task_returns.json, from which recipes/model_cards.py makes the table in docs/tasks.md and
tests/envs/test_conformance.py takes its bounds. Bodies that are not named keep their numbers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean

import numpy as np

from genrl.envs.domain import MODULES
from genrl.envs.environment import BodyEnv, make_env
from genrl.envs.tasks import TASKS
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


def episode(env: BodyEnv, agent: str, seed: int, max_steps: int) -> list[float]:
    """Reward of every env step of one episode."""
    env.reset(seed=seed)
    rewards = []
    for action in actions(env, agent, seed, max_steps):
        _, reward, terminated, truncated, _ = env.step(action)
        rewards.append(reward)
        if terminated or truncated:
            break
    return rewards


def measure(task: str) -> dict[str, dict[str, float]]:
    """Agent -> mean, least and largest return of whole episodes, least and largest of their first steps."""
    env = make_env(task, frames=False, evaluation=True)
    numbers = {}
    for agent in AGENTS:
        episodes = [episode(env, agent, seed, env.episode_steps) for seed in range(EPISODES)]
        whole = [sum(rewards) for rewards in episodes]
        first = [sum(rewards[:FIRST_STEPS]) for rewards in episodes]
        numbers[agent] = {
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
    for task in TASKS.values():
        if task.domain in domains:
            known[task.name] = measure(task.name)
            print(task.name, flush=True)
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
