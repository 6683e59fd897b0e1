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
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import tyro
from model_cards import score_table

from genrl.envs.tasks import domain_tasks, get_task
from genrl.evaluation.rollouts import ConstantPolicy, RandomPolicy
from genrl.evaluation.scores import summarise
from genrl.infra.checkpoint import atomic_write
from genrl.infra.compute import Precision
from genrl.presets import PRESETS
from genrl.run.evaluate import EvaluateConfig, evaluate, run_episodes
from genrl.run.learn import learn, slug
from genrl.run.prompting import load_model


@dataclass(frozen=True)
class ScoreConfig:
    """What to score."""

    model: str = "walker-mini"
    vlm: str | None = None
    """Where the model's VLM is, if not where it was in training: NAME=WHERE, the directory of a trained mini VLM, or
    package:Class (`genrl vlm list`)."""
    out: Path = Path("scores")
    tasks: tuple[str, ...] = ()
    """By default every task of the groups behaviour and generalisation of the model's domain."""
    wordings: Path | None = None
    """JSON file, task -> wordings, learnt instead of the benchmark's prompts."""
    seeds: tuple[int, ...] = (0, 1, 2)
    preset: str = "mini"
    updates: int | None = None
    """By default the preset's."""
    shown_share: float | None = None
    """Share of the reward that is for what imagination shows (`--behavior.shown.share`); by default the preset's."""
    anchor: float | None = None
    """How strongly a policy is held near the general one (`--behavior.anchor`); by default the preset's."""
    precision: Precision | None = None
    """What policies are learnt in (`--behavior.precision`); by default the preset's."""
    episodes: int = 10
    jobs: int = 2
    """Policies learnt at the same time, on one thread each."""


def main(config: ScoreConfig) -> None:
    """Learns, scores, writes both files."""
    model = load_model(config.model, vlm=config.vlm)
    prompts = chosen_prompts(config, model.model.spec.domain)
    context = multiprocessing.get_context("spawn")
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    with ProcessPoolExecutor(config.jobs, context, initializer=start_worker) as pool:
        triples = [(task, prompt, seed) for seed in config.seeds for task, prompt in prompts]
        jobs = {pool.submit(score_one, config, *triple): triple for triple in triples}
        references = {task: pool.submit(score_references, config, task) for task in dict(prompts)}
        for job in as_completed(jobs):
            rows[jobs[job]] = job.result()
            print(jobs[job], f"{rows[jobs[job]]['score']:.2f}", flush=True)
        reference_rows = {name: job.result() for name, job in references.items()}
    table = []
    for task, prompt in prompts:
        ground = model.groundability(prompt)
        seeds = [rows[task, prompt, seed] for seed in config.seeds]
        row = {"task": task, "prompt": prompt, "cosine": ground.cosine, "z_score": ground.z_score}
        table.append(row | reference_rows[task] | {"seeds": seeds, "score": mean(s["score"] for s in seeds)})
    average = mean(row["score"] for row in table)
    asked = {name: value for name, value in vars(config).items() if name != "out"}  # a place on one machine
    result = {"config": json.loads(json.dumps(asked, default=str)), "tasks": table, "mean": average}
    atomic_write(config.out / "scores.json", json.dumps(result, indent=2) + "\n")
    atomic_write(config.out / "scores.md", score_table(result))
    print((config.out / "scores.md").read_text())


def start_worker() -> None:
    """One thread, and an end with the process that started it: learning goes on where it was when run again."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def chosen_prompts(config: ScoreConfig, domain: str) -> list[tuple[str, str]]:
    """Tasks with their prompts; a task with several wordings comes several times."""
    tasks = [get_task(name) for name in config.tasks] or [
        task for task in domain_tasks(domain) if task.group != "extra" and task.prompt
    ]
    if config.wordings is None:
        return [(task.name, str(task.prompt)) for task in tasks]
    wordings = json.loads(config.wordings.read_text())
    return [(task.name, wording) for task in tasks for wording in wordings[task.name]]


def score_one(config: ScoreConfig, task: str, prompt: str, seed: int) -> dict[str, Any]:
    """One policy: learnt, evaluated."""
    directory = config.out / f"{task}-{slug(prompt)}-seed{seed}"
    preset = PRESETS["learn"][config.preset]
    behavior = preset.behavior
    if config.shown_share is not None:
        behavior = replace(behavior, shown=replace(behavior.shown, share=config.shown_share))
    if config.anchor is not None:
        behavior = replace(behavior, anchor=config.anchor)
    if config.precision is not None:
        behavior = replace(behavior, precision=config.precision)
    options = replace(
        preset,
        behavior=behavior,
        model=config.model,
        vlm=config.vlm,
        prompt=(prompt,),
        seed=seed,
        out=directory,
        updates=preset.updates if config.updates is None else config.updates,
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


if __name__ == "__main__":
    main(tyro.cli(ScoreConfig))
