"""Devices, precision and threads."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from genrl.infra.errors import UserError

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]
"""Of matrix products and convolutions; auto is bfloat16 where the hardware multiplies it, else float32."""


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
        UserError: If the precision is none of auto, float32 and bfloat16.
    """
    if precision == "auto":
        precision = fast_precision(device)
    if precision == "float32":
        return nullcontext()
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    raise UserError(f"--precision must be auto, float32 or bfloat16, got {precision!r}")


def fast_precision(device: torch.device) -> Literal["float32", "bfloat16"]:
    """bfloat16 where the hardware multiplies it: GPUs, CPUs with AMX or AVX-512 BF16; others emulate it, slowly."""
    if device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return "bfloat16"
    return "float32"


def quiet_threads(num_threads: int = 1) -> None:
    """Limit torch's threads: on busy cores a second one costs far more than it gains (workers, tests, actors)."""
    torch.set_num_threads(num_threads)


def prepare(device: torch.device) -> None:
    """Settings for many updates of the same shapes."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # Tries the algorithms of a convolution once.
    else:
        reuse_memory()


def reuse_memory() -> None:
    """Let the C allocator keep freed memory for the next update.

    glibc gives every freed block of more than 32 MB back to the system at once; the next one of its size then costs a
    page fault and a page of zeros for each 4 kB of every update. Elsewhere than on glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Names of the options in malloc.h."""
