"""Learns and scores the benchmark's prompts over a model: the table of its model card.

    python recipes/score_model.py --model walker-mini --out scores

For every task of the model's domain with a prompt and score bounds, and every seed: a policy from the task's prompt,
data-free, with the options of a `genrl learn` preset, then its final score over some episodes. Beside each: the scores
of doing nothing and of random actions, groundability, imagined reward, seconds. Goes on when run again. Writes
OUT/scores.json and OUT/scores.md.
"""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import tyro

from genrl.envs.tasks import domain_tasks, get_task
from genrl.evaluation.rollouts import ConstantPolicy, RandomPolicy
from genrl.evaluation.scores import summarise
from genrl.infra.checkpoint import atomic_write
from genrl.presets import PRESETS
from genrl.run.evaluate import EvaluateConfig, evaluate, run_episodes
from genrl.run.learn import learn
from genrl.run.prompting import load_model


@dataclass(frozen=True)
class ScoreConfig:
    """What to score."""

    model: str = "walker-mini"
    out: Path = Path("scores")
    tasks: tuple[str, ...] = ()
    """By default every task of the groups behaviour and generalisation of the model's domain."""
    seeds: tuple[int, ...] = (0, 1, 2)
    preset: str = "mini"
    updates: int | None = None
    """By default the preset's."""
    episodes: int = 10
    jobs: int = 2
    """Policies learnt at the same time, on one thread each."""


def main(config: ScoreConfig) -> None:
    """Learns, scores, writes both files."""
    model = load_model(config.model)
    spec = model.model.spec
    tasks = [get_task(name) for name in config.tasks] or [
        task for task in domain_tasks(spec.domain) if task.group != "extra" and task.prompt
    ]
    context = multiprocessing.get_context("spawn")
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    with ProcessPoolExecutor(config.jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        pairs = [(task.name, seed) for seed in config.seeds for task in tasks]
        jobs = {pool.submit(score_one, config, *pair): pair for pair in pairs}
        references = {task.name: pool.submit(score_references, config, task.name) for task in tasks}
        for job in as_completed(jobs):
            rows[jobs[job]] = job.result()
            print(jobs[job], f"{rows[jobs[job]]['score']:.2f}", flush=True)
        reference_rows = {name: job.result() for name, job in references.items()}
    table = []
    for task in tasks:
        ground = model.groundability(str(task.prompt))
        seeds = [rows[task.name, seed] for seed in config.seeds]
        row = {"task": task.name, "prompt": task.prompt, "cosine": ground.cosine, "z_score": ground.z_score}
        table.append(row | reference_rows[task.name] | {"seeds": seeds, "score": mean(s["score"] for s in seeds)})
    average = mean(row["score"] for row in table)
    result = {"config": vars(config) | {"out": str(config.out)}, "tasks": table, "mean": average}
    atomic_write(config.out / "scores.json", json.dumps(result, indent=2) + "\n")
    atomic_write(config.out / "scores.md", markdown(result, config))
    print((config.out / "scores.md").read_text())


def score_one(config: ScoreConfig, task: str, seed: int) -> dict[str, Any]:
    """One policy: learnt, evaluated."""
    prompt = str(get_task(task).prompt)
    directory = config.out / f"{task}-seed{seed}"
    preset = PRESETS["learn"][config.preset]
    options = replace(
        preset, model=config.model, prompt=(prompt,), seed=seed, out=directory, updates=config.updates or preset.updates
    )
    (result,) = learn(options)
    evaluation = evaluate(EvaluateConfig(result.policy, task, config.episodes, seed, workers=1))
    return {
        "seed": seed,
        "score": evaluation.score,
        "return": evaluation.mean_return,
        "imagined_reward": result.imagined_reward,
        "updates": result.updates,
        "seconds": result.seconds,
    }


def score_references(config: ScoreConfig, name: str) -> dict[str, Any]:
    """Scores of doing nothing and of acting at random, in the model's look."""
    spec, task = load_model(config.model).model.spec, get_task(name)
    agents = {"nothing": ConstantPolicy(np.zeros(spec.action_dim, np.float32)), "random": RandomPolicy(spec.action_dim)}
    returns = {
        label: run_episodes(agent, spec, task.name, config.episodes, seed=0, workers=1, label=label).returns
        for label, agent in agents.items()
    }
    return {label: summarise(values, task).score for label, values in returns.items()}


def markdown(result: dict[str, Any], config: ScoreConfig) -> str:
    """The table of a model card."""
    seeds = " / ".join(map(str, config.seeds))
    lines = [
        f"| task | prompt | score, mean | seeds {seeds} | nothing | random | z-score | imagined reward | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["tasks"]:
        scores = " / ".join(f"{seed['score']:.2f}" for seed in row["seeds"])
        reward = mean(seed["imagined_reward"] for seed in row["seeds"])
        seconds = mean(seed["seconds"] for seed in row["seeds"])
        lines.append(
            f"| {row['task']} | {row['prompt']} | {row['score']:.2f} | {scores} | {row['nothing']:.2f} | "
            f"{row['random']:.2f} | {row['z_score']:+.1f} | {reward:.2f} | {seconds:.0f} |"
        )
    lines.append(f"| mean | | {result['mean']:.2f} | | | | | | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(tyro.cli(ScoreConfig))
