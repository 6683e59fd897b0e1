"""Seconds per model update and per behaviour update, at any sizes, on any device.

    python benchmarks/update_speed.py --out benchmarks/results/update_speed_cpu.json
    python benchmarks/update_speed.py --preset paper --device cuda --precision bfloat16

A model update is one forward and backward pass and one optimiser step each of world model and connector + aligner; a
behaviour update one imagination with reward, alignment, both losses and both optimiser steps. The data are random: time
does not depend on their values. The machine's matrix-product rate is measured in the same run, before and after, so
that a busy machine shows.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from measuring import count_flop, describe_machine, matmul_rate, options_of, report, time_calls

from genrl.behavior.actor_critic import ActorCriticConfig
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.start_states import StartConfig, data_free_starts
from genrl.data.batch import SequenceBatch
from genrl.infra.compute import DeviceName, Precision, pick_device, prepare
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
    device: DeviceName = "auto"
    threads: int = 0
    """CPU threads; 0 leaves torch's choice."""
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
    spec = ModelSpec(
        "benchmark", "none", "", config.action_dim, 1, 1.0,
        (-1.0,) * config.action_dim, (1.0,) * config.action_dim, False, "none", "", config.embed_dim, 8,
    )  # fmt: skip
    result: dict[str, object] = {
        "config": options_of(config),
        "machine": describe_machine(device),
        "matmul_gflops_before": matmul_gflops(device),
    }
    model = FoundationModel(foundation, spec).to(device)
    result["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    if "model" in config.parts:
        learner = FoundationLearner(model, FoundationLearnerConfig(precision=config.precision))
        batch = random_batch(batch_size, window, config, device)
        result["model_update_seconds"] = measure(lambda: learner.update(batch), config.repeats, device)
        result["model_update_gflop"] = count_flop(lambda: learner.update(batch)) / 1e9
    if "behavior" in config.parts:
        prompt = torch.nn.functional.normalize(torch.randn(1, config.embed_dim, device=device), dim=-1)
        target = model.target(prompt, behavior.actor_critic.horizon + 1, align=True)
        policy_learner = BehaviorLearner(model, target, behavior)
        given = random_starts(starts.num_starts, foundation.world_model.rssm, device)

        def update() -> None:
            drawn = config.start_states == "data_free"
            actor = policy_learner.actor_critic.actor
            policy_learner.update(data_free_starts(model, actor, starts) if drawn else given)

        result["behavior_update_seconds"] = measure(update, config.repeats, device)
        result["behavior_update_gflop"] = count_flop(update) / 1e9
    result["matmul_gflops_after"] = matmul_gflops(device)
    if device.type == "cuda":
        result["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    report(result, config.out)
    return result


def sizes(config: SpeedConfig) -> tuple[FoundationConfig, BehaviorConfig, StartConfig, int, int]:
    """Model, behaviour, starts, batch size and window, from flags or a preset."""
    if config.preset != "custom":
        from genrl.presets import PRESETS

        pretrain, learn = PRESETS["pretrain"][config.preset], PRESETS["learn"][config.preset]
        return pretrain.model, learn.behavior, learn.starts, pretrain.joint.batch_size, pretrain.joint.window
    rssm = RssmConfig(config.deter, config.hidden, config.variables, config.classes)
    foundation = FoundationConfig(WorldModelConfig(rssm=rssm, cnn_depth=config.cnn_depth))
    actor_critic = ActorCriticConfig(num_layers=config.layers, hidden_dim=config.units, horizon=config.horizon)
    behavior = BehaviorConfig(actor_critic, precision=config.precision)
    return foundation, behavior, StartConfig(num_starts=config.starts), config.batch_size, config.window


def random_batch(batch_size: int, window: int, config: SpeedConfig, device: torch.device) -> SequenceBatch:
    """Windows of noise."""
    shape = (batch_size, window)
    embedding = torch.nn.functional.normalize(torch.randn(*shape, config.embed_dim), dim=-1)
    return SequenceBatch(
        frames=torch.randint(256, (*shape, 64, 64, 3), dtype=torch.uint8),
        action=torch.rand(*shape, config.action_dim) * 2 - 1,
        is_first=torch.zeros(shape, dtype=torch.bool),
        embedding=embedding,
    ).to(device)


def random_starts(count: int, rssm: RssmConfig, device: torch.device) -> LatentState:
    """(count, ...) states with random samples."""
    logits = torch.randn(count, rssm.num_variables, rssm.num_classes, device=device)
    stoch = torch.nn.functional.one_hot(logits.argmax(-1), rssm.num_classes).float()
    return LatentState(torch.randn(count, rssm.deter_dim, device=device).tanh(), stoch, logits)


def measure(function: Callable[[], object], repeats: int, device: torch.device) -> dict[str, float]:
    """Median, fastest and slowest of `repeats` calls after two to warm up."""
    timed = time_calls(function, repeats, device, warmup=2)
    return {"median": statistics.median(timed), "fastest": min(timed), "slowest": max(timed)}


def matmul_gflops(device: torch.device) -> float:
    """Best rate of float32 matrix products, in GFLOP/s."""
    return matmul_rate(2048, device, warmup=2) / 1e9


if __name__ == "__main__":
    main(tyro.cli(SpeedConfig))
