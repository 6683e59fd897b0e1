"""Seconds per model update with several processes, for the efficiency of `genrl pretrain` under torchrun.

    torchrun --standalone --nproc-per-node 1 benchmarks/devices_speed.py --out benchmarks/results/devices_speed_cpu.json
    torchrun --standalone --nproc-per-node 2 benchmarks/devices_speed.py --out benchmarks/results/devices_speed_cpu.json

The batch is that of all processes together, so that the update is the same. The file gets a row for each number of
processes; `efficiency` is the rate against that of one process, divided by their number. The data are random.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from measuring import describe_machine, matmul_rate, options_of, report, time_calls
from update_speed import SpeedConfig, random_batch

from genrl.infra.compute import DeviceName, fast_precision, pick_device, prepare
from genrl.infra.distributed import join_world
from genrl.models.foundation import FoundationModel, ModelSpec
from genrl.models.learner import FoundationLearner, FoundationLearnerConfig
from genrl.presets import PRESETS

ACTIONS, EMBEDDING = 6, 256


@dataclass(frozen=True)
class DevicesConfig:
    """What to time."""

    preset: str = "mini"
    device: DeviceName = "auto"
    threads: int = 1
    """CPU threads of each process."""
    repeats: int = 15
    """Timed updates; the median is reported."""
    out: Annotated[Path | None, tyro.conf.arg(help="JSON file to add a row to.")] = None


def main(config: DevicesConfig) -> None:
    """Times the update; the leader prints and writes."""
    world, device = join_world(pick_device(config.device))
    prepare(device)
    torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    preset = PRESETS["pretrain"][config.preset]
    spec = ModelSpec(
        "benchmark", "none", "", ACTIONS, 1, 1.0, (-1.0,) * ACTIONS, (1.0,) * ACTIONS, False, "none", "", EMBEDDING, 8
    )
    model = FoundationModel(preset.model, spec).to(device)
    precision = fast_precision(device) if device.type == "cuda" else "float32"
    learner = FoundationLearner(model, FoundationLearnerConfig(precision=precision), world)
    rows = world.share(preset.joint.batch_size, "batch")
    batch = random_batch(rows, preset.joint.window, SpeedConfig(action_dim=ACTIONS, embed_dim=EMBEDDING), device)
    matmul = matmul_rate(1024, device, warmup=2) / 1e9
    seconds = statistics.median(time_calls(lambda: learner.update(batch), config.repeats, device, warmup=3))
    if world.leads:
        row = {"processes": world.size, "update_seconds": seconds, "matmul_gflops_of_a_process": matmul}
        report(add_row(config, row, device), config.out)


def add_row(config: DevicesConfig, row: dict[str, float], device: torch.device) -> dict[str, object]:
    """The file's result with another row, and everybody's efficiency."""
    known = json.loads(config.out.read_text())["rows"] if config.out is not None and config.out.exists() else []
    rows = [old for old in known if old["processes"] != row["processes"]] + [row]
    rows.sort(key=lambda one: one["processes"])
    for one in rows:
        if rows[0]["processes"] == 1:
            one["efficiency"] = rows[0]["update_seconds"] / one["update_seconds"] / one["processes"]
    return {"config": options_of(config), "machine": describe_machine(device), "rows": rows}


if __name__ == "__main__":
    main(tyro.cli(DevicesConfig))
