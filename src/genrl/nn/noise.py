"""Random numbers of a batch, or of this process's share of one.

Where several processes each compute some rows of a batch, each draws the noise of all rows and keeps its own: together
they compute what one process would have computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_share = (0, 1)
"""Which of how many equal shares of the rows this process computes."""


@contextmanager
def share_of_rows(rank: int, size: int) -> Iterator[None]:
    """Inside, noise is that of the `rank`-th of `size` equal shares of a batch."""
    global _share
    before, _share = _share, (rank, size)
    try:
        yield
    finally:
        _share = before


def uniform(
    shape: Sequence[int], device: torch.device, generator: torch.Generator | None = None, dim: int = 0
) -> Tensor:
    """Uniform in [0, 1); the rows lie along `dim`. What has a generator of its own is no part of a batch."""
    if generator is not None:
        return torch.rand(*shape, device=device, generator=generator)
    return _own_rows(torch.rand(_whole(shape, dim), device=device), dim)


def normal(shape: Sequence[int], device: torch.device, dim: int = 0) -> Tensor:
    """Standard normal; the rows lie along `dim`."""
    return _own_rows(torch.randn(_whole(shape, dim), device=device), dim)


def _whole(shape: Sequence[int], dim: int) -> list[int]:
    return [count * _share[1] if axis == dim else count for axis, count in enumerate(shape)]


def _own_rows(whole: Tensor, dim: int) -> Tensor:
    rank, size = _share
    return whole if size == 1 else whole.chunk(size, dim)[rank]
