"""Seconds per model update and per behaviour update, at any sizes, on any device.

    python benchmarks/update_speed.py --out benchmarks/results/update_speed_cpu.json
    python benchmarks/update_speed.py --preset paper --device cuda --precision bfloat16 --frames 50000 --profile

A model update is one forward and backward pass and one optimiser step each of world model and connector + aligner; a
behaviour update one imagination with reward, alignment, both losses and both optimiser steps. The data are random: time
does not depend on their values. With --frames the batches come from an episode store of so many, by the sampler, whose
share is timed too. The machine's matrix-product rate is measured in the same run, before and after, so that a busy
machine shows.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from measuring import (
    count_flop,
    describe_machine,
    keep,
    largest_costs,
    matmul_rate,
    options_of,
    prepare_profiler,
    report,
    time_calls,
)
from store_speed import ACTION_DIM, synthetic_store

from genrl.behavior.actor_critic import ActorCriticConfig
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.start_states import StartConfig, data_free_starts
from genrl.data.batch import SequenceBatch
from genrl.data.sampler import WindowSampler
from genrl.infra.captured import WARM_UP, Captured, Compilation
from genrl.infra.compute import DeviceName, Precision, autocast, pick_device, prepare
from genrl.models.foundation import FoundationConfig, FoundationModel, ModelSpec
from genrl.models.learner import FoundationLearner, FoundationLearnerConfig
from genrl.models.rssm import RssmConfig
from genrl.models.state import LatentState
from genrl.models.world_model import WorldModelConfig


@dataclass(frozen=True)
class SpeedConfig:
    """What to time. The defaults are the sizes at which the original was timed on a CPU."""

    preset: Literal["custom", "mini", "paper"] = "custom"
    """Take all sizes from a preset of `genrl pretrain` and `genrl learn`."""
    cnn_depth: int = 16
    deter: int = 256
    hidden: int = 256
    variables: int = 16
    classes: int = 16
    embed_dim: int = 512
    action_dim: int = 10
    layers: int = 4
    units: int = 256
    batch_size: int = 16
    window: int = 32
    starts: int = 1024
    horizon: int = 16
    start_states: Literal["data_free", "given"] = "given"
    """Whether drawing data-free starts is part of a behaviour update."""
    precision: Precision = "float32"
    compile: Compilation = "auto"
    """Compile and capture updates."""
    device: DeviceName = "auto"
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""
    frames: int = 0
    """Frames of a store that the batches of model updates are read from; 0 takes one batch again and again."""
    resident: bool = True
    """Keep them in the device's memory; without, they are read ahead from disk."""
    profile: bool = False
    """Also list where the time of an update goes."""
    repeats: int = 7
    """Timed updates; the median is reported."""
    parts: tuple[Literal["model", "behavior"], ...] = ("model", "behavior")
    out: Annotated[Path | None, tyro.conf.arg(help="JSON file to write.")] = None


def main(config: SpeedConfig) -> dict[str, object]:
    """Times both updates; prints and returns the result."""
    device = pick_device(config.device)
    prepare(device)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    foundation, behavior, starts, batch_size, window = sizes(config)
    action_dim = ACTION_DIM if config.frames else config.action_dim
    spec = ModelSpec(
        "benchmark", "none", "", action_dim, 1, 1.0,
        (-1.0,) * action_dim, (1.0,) * action_dim, False, "none", "", config.embed_dim, 8,
    )  # fmt: skip
    result: dict[str, object] = {
        "config": options_of(config),
        "machine": describe_machine(device),
        "matmul_gflops_before": matmul_gflops(device),
    }
    model = FoundationModel(foundation, spec).to(device)
    result["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    if config.profile:
        prepare_profiler(device)
    for part in config.parts:
        if part == "model":
            result |= time_model(model, config, batch_size, window)
        else:
            result |= time_behavior(model, behavior, starts, config)
        result["matmul_gflops_after"] = matmul_gflops(device)
        if device.type == "cuda":
            result["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        keep(result, config.out)  # Whatever becomes of the next part.
    report(result, config.out)
    return result


def time_model(model: FoundationModel, config: SpeedConfig, batch_size: int, window: int) -> dict[str, object]:
    """Model updates."""
    device = model.device
    options = FoundationLearnerConfig(precision=config.precision, compile=config.compile)
    batch = random_batch(batch_size, window, config, device, model.spec.action_dim)
    # Counted operation by operation, which a graph does not show.
    eager = FoundationLearner(model, replace(options, compile="off"))
    result: dict[str, object] = {"model_update_gflop": count_flop(partial(eager.update, batch)) / 1e9}
    del eager
    gc.collect()  # It is part of a cycle, and has moments.
    learner = FoundationLearner(model, options)
    with batches(config, batch, device) as draw:
        result["model_update_seconds"] = measure(lambda: learner.update(draw()), config.repeats, device)
        if config.frames:
            result["sampler_seconds"] = measure(draw, config.repeats, device)
        if config.profile:
            result["model_update_costs_ms"] = largest_costs(lambda: learner.update(draw()), device)
    return result


def time_behavior(
    model: FoundationModel, behavior: BehaviorConfig, starts: StartConfig, config: SpeedConfig
) -> dict[str, object]:
    """Behaviour updates."""
    device = model.device
    prompt = torch.nn.functional.normalize(torch.randn(1, config.embed_dim, device=device), dim=-1)
    target = model.target(prompt, behavior.actor_critic.horizon + 1, align=True)
    given = random_starts(starts.num_starts, model.config.world_model.rssm, device)
    eager = BehaviorLearner(model, target, replace(behavior, compile="off"))
    learner = BehaviorLearner(model, target, behavior)

    def draw_starts() -> LatentState:
        with autocast(device, config.precision):
            return data_free_starts(model, learner.actor_critic.actor, starts)

    draw = Captured(draw_starts, device, wanted=learner.captures)
    update = partial(one_update, learner, draw if config.start_states == "data_free" else lambda: given)
    result: dict[str, object] = {
        "behavior_update_gflop": count_flop(lambda: eager.update(given)) / 1e9,
        "behavior_update_seconds": measure(update, config.repeats, device),
        "data_free_starts_seconds": measure(draw, config.repeats, device),
    }
    if config.profile:
        result["behavior_update_costs_ms"] = largest_costs(update, device)
    return result


def one_update(learner: BehaviorLearner, draw: Callable[[], LatentState]) -> None:
    """From fresh starts."""
    learner.update(draw())


@contextmanager
def batches(config: SpeedConfig, given: SequenceBatch, device: torch.device) -> Iterator[Callable[[], SequenceBatch]]:
    """What gives the next batch."""
    if not config.frames:
        yield lambda: given
        return
    batch_size, window = given.frames.shape[:2]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store"
        synthetic_store(path, config.frames, config.embed_dim)
        resident = device if config.resident else None
        pinned = device.type == "cuda" and not config.resident
        sampler = WindowSampler([path], window, batch_size, 0, "synthetic", resident, pinned=pinned)
        numbers = count()
        yield lambda: sampler.batch(next(numbers)).to(device)


def sizes(config: SpeedConfig) -> tuple[FoundationConfig, BehaviorConfig, StartConfig, int, int]:
    """Model, behaviour, starts, batch size and window, from flags or a preset."""
    if config.preset != "custom":
        from genrl.presets import PRESETS

        pretrain, learn = PRESETS["pretrain"][config.preset], PRESETS["learn"][config.preset]
        behavior = replace(learn.behavior, precision=config.precision, compile=config.compile)
        return pretrain.model, behavior, learn.starts, pretrain.joint.batch_size, pretrain.joint.window
    rssm = RssmConfig(config.deter, config.hidden, config.variables, config.classes)
    foundation = FoundationConfig(WorldModelConfig(rssm=rssm, cnn_depth=config.cnn_depth))
    actor_critic = ActorCriticConfig(num_layers=config.layers, hidden_dim=config.units, horizon=config.horizon)
    behavior = BehaviorConfig(actor_critic, precision=config.precision, compile=config.compile)
    return foundation, behavior, StartConfig(num_starts=config.starts), config.batch_size, config.window


def random_batch(
    batch_size: int, window: int, config: SpeedConfig, device: torch.device, action_dim: int
) -> SequenceBatch:
    """Windows of noise."""
    shape = (batch_size, window)
    embedding = torch.nn.functional.normalize(torch.randn(*shape, config.embed_dim), dim=-1)
    return SequenceBatch(
        frames=torch.randint(256, (*shape, 64, 64, 3), dtype=torch.uint8),
        action=torch.rand(*shape, action_dim) * 2 - 1,
        is_first=torch.zeros(shape, dtype=torch.bool),
        embedding=embedding,
    ).to(device)


def random_starts(count: int, rssm: RssmConfig, device: torch.device) -> LatentState:
    """(count, ...) states with random samples."""
    logits = torch.randn(count, rssm.num_variables, rssm.num_classes, device=device)
    stoch = torch.nn.functional.one_hot(logits.argmax(-1), rssm.num_classes).float()
    return LatentState(torch.randn(count, rssm.deter_dim, device=device).tanh(), stoch, logits)


def measure(function: Callable[[], object], repeats: int, device: torch.device) -> dict[str, float]:
    """Median, fastest and slowest of `repeats` calls after some to warm up and, on a GPU, to be captured."""
    timed = time_calls(function, repeats, device, warmup=2 if device.type == "cpu" else WARM_UP + 3)
    return {"median": statistics.median(timed), "fastest": min(timed), "slowest": max(timed)}


def matmul_gflops(device: torch.device) -> float:
    """Best rate of float32 matrix products, in GFLOP/s."""
    return matmul_rate(2048, device, warmup=2) / 1e9


if __name__ == "__main__":
    main(tyro.cli(SpeedConfig))
