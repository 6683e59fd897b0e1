"""What the benchmarks share: time on a device, the machine's rate and name, the file of a result."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

import genrl.nn.recurrence  # noqa: F401  # Registers the operators.


def time_calls(function: Callable[[], object], repeats: int, device: torch.device, warmup: int = 1) -> list[float]:
    """Seconds of each of `repeats` calls after some to warm up."""
    seconds = []
    for _ in range(warmup + repeats):
        synchronise(device)
        began = time.perf_counter()
        function()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return seconds[warmup:]


def count_flop(function: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions of one call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@register_flop_formula(torch.ops.genrl.gru_sequence)
def _forward_flop(projected: torch.Size, *_: object, **__: object) -> int:
    """Of the product with the recurrent weight at every step, from shapes."""
    steps, batch, width = projected
    return 2 * steps * batch * width * (width // 3)


@register_flop_formula(torch.ops.genrl.gru_sequence_backward)
def _backward_flop(grad_after: torch.Size, *_: object, **__: object) -> int:
    """Of the products for the gradients of states and weight."""
    steps, batch, units = grad_after
    return 2 * 2 * steps * batch * 3 * units * units


def prepare_profiler(device: torch.device) -> None:
    """Before anything is captured: kernels of graphs made earlier than the first profile need not show in it."""
    largest_costs(lambda: torch.ones(1, device=device), device)


def largest_costs(function: Callable[[], object], device: torch.device, count: int = 12) -> dict[str, float]:
    """Milliseconds of a call by kernel (on a CPU by operation), the largest ones."""
    calls, on_gpu = 5, device.type == "cuda"
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CUDA] if on_gpu else [activity.CPU]) as profile:
        for _ in range(calls):
            function()
        synchronise(device)
    rows = profile.key_averages()
    spent = {row.key: (row.self_device_time_total if on_gpu else row.self_cpu_time_total) / calls / 1e3 for row in rows}
    largest = sorted(spent.items(), key=lambda item: -item[1])[:count]
    return {name[:100]: round(milliseconds, 3) for name, milliseconds in largest}


def matmul_rate(size: int, device: torch.device, dtype: torch.dtype = torch.float32, warmup: int = 1) -> float:
    """Best rate of products of two square matrices, in FLOP/s: how busy a machine is shows in it."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(time_calls(lambda: a @ b, 5, device, warmup))


def synchronise(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """Model of the GPU or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def options_of(config: object) -> dict[str, object]:
    """A configuration, ready for JSON, without where the results go, which is a place on one machine."""
    asked = {name: value for name, value in vars(config).items() if name not in ("out", "figure")}
    return {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}


def describe_machine(device: torch.device) -> dict[str, object]:
    """Hardware and versions."""
    return {"device": device_name(device), "threads": torch.get_num_threads(), "torch": torch.__version__}


def report(result: Mapping[str, object], out: Path | None) -> None:
    """Prints a result, and writes it where asked to."""
    print(json.dumps(result, indent=2))
    keep(result, out)


def keep(result: Mapping[str, object], out: Path | None) -> None:
    """Writes a result where asked to."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n")
