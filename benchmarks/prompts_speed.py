"""Seconds per prompt when several prompts learn at once, over the shipped model, on any device.

    python benchmarks/prompts_speed.py --out benchmarks/results/prompts_speed_cpu.json

For each number of prompts N a few updates of `genrl learn` (preset `mini`, data-free starts included) are timed with
all N in one batched program; the median update is scaled to the preset's budget and divided by N. The first column is
one prompt alone. The machine's matrix-product rate is measured in the same run.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import tyro
from measuring import describe_machine, matmul_rate, options_of, report, time_calls

from genrl.behavior.learner import BehaviorLearner
from genrl.envs.tasks import TASKS
from genrl.infra.captured import WARM_UP
from genrl.infra.compute import DeviceName, pick_device, prepare
from genrl.models.state import LatentState
from genrl.presets import PRESETS
from genrl.run.learn import make_learner, start_drawer
from genrl.run.prompting import load_model


@dataclass(frozen=True)
class PromptsConfig:
    """What to time."""

    model: str = "walker-mini"
    preset: str = "mini"
    numbers: tuple[int, ...] = (1, 4, 16)
    """Prompts at once."""
    repeats: int = 10
    """Timed updates; the median is reported."""
    device: DeviceName = "auto"
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""
    out: Annotated[Path | None, tyro.conf.arg(help="JSON file to write.")] = None


def main(config: PromptsConfig) -> dict[str, object]:
    """Times every number of prompts; prints and returns the result."""
    device = pick_device(config.device)
    prepare(device)
    if config.threads:
        torch.set_num_threads(config.threads)
    model = load_model(config.model, device)
    texts = list(dict.fromkeys(str(task.prompt) for task in TASKS.values() if task.prompt))
    learn = replace(PRESETS["learn"][config.preset], model=config.model)
    rows = []
    for number in config.numbers:
        prompts = [model.prompt(texts[index % len(texts)]) for index in range(number)]
        learner = make_learner(model, prompts, learn)
        update = partial(one_update, learner, start_drawer(model, learner, None, learn))
        seconds = statistics.median(time_calls(update, config.repeats, device, warmup=WARM_UP + 3))
        per_prompt = seconds * learn.updates / number
        rows.append({"prompts": number, "update_seconds": seconds, "seconds_per_prompt": per_prompt})
    result = {
        "config": options_of(config),
        "machine": describe_machine(device),
        "matmul_gflops": matmul_rate(2048, device, warmup=2) / 1e9,
        "updates": learn.updates,
        "rows": rows,
        "gain": rows[0]["seconds_per_prompt"] / rows[-1]["seconds_per_prompt"],
    }  # fmt: skip
    report(result, config.out)
    return result


def one_update(learner: BehaviorLearner, draw_starts: Callable[[int], LatentState]) -> None:
    """What `genrl learn` does in an update."""
    learner.update(draw_starts(0))


if __name__ == "__main__":
    main(tyro.cli(PromptsConfig))
