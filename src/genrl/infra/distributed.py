"""Several processes that train one model: who this one is, and what all of them agree on.

`torchrun` starts the processes and tells each its rank; without it there is one, and everything here costs nothing.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genrl.infra.errors import UserError


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Attributes:
        rank: Of this process; the first one, 0, leads: it alone writes.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints, metrics and progress."""
        return self.rank == 0

    def share(self, count: int, option: str) -> int:
        """This process's part of a count.

        Raises:
            UserError: If it cannot be divided evenly.
        """
        if count % self.size:
            raise UserError(f"{option} {count} cannot be divided among {self.size} processes; choose a multiple")
        return count // self.size

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over all processes in the backward pass."""
        if self.size == 1:
            return module
        # Stages leave parts of the model out, which then have no gradient.
        return DistributedDataParallel(module, find_unused_parameters=True)

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """() values averaged over all processes, detached, in one exchange."""
        detached = {name: value.detach().float() for name, value in values.items()}
        if self.size == 1 or not detached:
            return detached
        stacked = torch.stack(list(detached.values()))
        dist.all_reduce(stacked)
        return dict(zip(detached, (stacked / self.size).unbind(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set anywhere."""
        return bool(self._reduce(int(flag))) if self.size > 1 else flag

    def from_leader(self, number: int) -> int:
        """The leader's number."""
        return self._reduce(number if self.leads else 0) if self.size > 1 else number

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, one after another along the first axis."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def _reduce(self, number: int) -> int:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        value = torch.tensor([number], device=device)
        dist.all_reduce(value)
        return int(value)


ALONE = World()


def join_world(device: torch.device) -> tuple[World, torch.device]:
    """Joins the processes that `torchrun` (or Ray Train) started together with this one.

    Args:
        device: What was asked for; with CUDA each process on a machine takes its own card.

    Returns:
        The world, of one process where nothing was started together, and the device to use.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 and not dist.is_initialized():
        return ALONE, device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return World(dist.get_rank(), dist.get_world_size()), device
