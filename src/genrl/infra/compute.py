"""Devices, precision and threads."""

from __future__ import annotations

import copy
import ctypes
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, Literal, TypeVar, cast

import torch
from torch import nn

from genrl.infra.errors import UserError

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16"]
"""Of matrix products and convolutions; auto is bfloat16 where the hardware multiplies it, else float32."""

Module = TypeVar("Module", bound=nn.Module)


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
    if chosen_precision(device, precision) == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def chosen_precision(device: torch.device, precision: str) -> Literal["float32", "bfloat16"]:
    """What a precision means on a device.

    Raises:
        UserError: If it is none of auto, float32 and bfloat16.
    """
    if precision == "auto":
        return fast_precision(device)
    if precision in ("float32", "bfloat16"):
        return cast(Literal["float32", "bfloat16"], precision)
    raise UserError(f"--precision must be auto, float32 or bfloat16, got {precision!r}")


class Rounded(Generic[Module]):
    """A frozen module for many calls within one `autocast`, which would round its matrices anew at each of them.

    Args:
        module: Whose function is wanted; it may change between calls of `refresh`.
        precision: Of the autocast. With float32 the module itself is taken.

    Attributes:
        module: The same function, with its matrices rounded.
    """

    def __init__(self, module: Module, precision: Literal["float32", "bfloat16"]) -> None:
        self.module = module if precision == "float32" else copy.deepcopy(module).requires_grad_(False)
        pairs = zip(self.module.parameters(), module.parameters(), strict=True)
        self._pairs = [(own, source) for own, source in pairs if own is not source]
        for own, _ in self._pairs:
            # Norms and biases stay in float32: vectors cost nothing, and norms are computed so.
            if own.ndim > 1:
                own.data = own.data.to(torch.bfloat16)

    @torch.no_grad()
    def refresh(self) -> None:
        """Takes in what the module has become."""
        if self._pairs:
            own, sources = zip(*self._pairs, strict=True)
            torch._foreach_copy_(own, sources)


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
