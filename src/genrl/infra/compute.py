"""Devices, precision and threads."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from genrl.infra.errors import UserError

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]


def pick_device(name: str = "auto") -> torch.device:
    """Device of that name; `auto` is the GPU where there is one.

    Raises:
        UserError: If the name is unknown, or CUDA is asked for and absent.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device must be auto, cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is usable here; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def autocast(device: torch.device, precision: str = "float32") -> AbstractContextManager[object]:
    """Context in which matrix products and convolutions run in the given precision; parameters stay float32.

    Raises:
        UserError: If the precision is neither float32 nor bfloat16.
    """
    if precision == "float32":
        return nullcontext()
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    raise UserError(f"--precision must be float32 or bfloat16, got {precision!r}")


def quiet_threads(num_threads: int = 1) -> None:
    """Limit torch's threads: on busy cores a second one costs far more than it gains (workers, tests, actors)."""
    torch.set_num_threads(num_threads)
