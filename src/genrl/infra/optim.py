"""The optimiser step of the Dreamer family."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam with gradient clipping and decay."""

    learning_rate: float = 1e-4
    eps: float = 1e-8
    clip: float = 1000.0
    """Largest total gradient norm."""
    weight_decay: float = 1e-6
    """Share every parameter loses per step; not scaled by the learning rate (DreamerV2)."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"learning-rate must be positive, got {self.learning_rate}")
        if self.clip <= 0:
            raise ValueError(f"clip must be positive, got {self.clip}")


class Optimizer:
    """Clip, decay, Adam, in this order.

    Parameters without a gradient are decayed all the same: what is handed over is decayed.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> None:
        self.config = config
        self.parameters: list[Tensor] = list(parameters)
        self.adam = torch.optim.Adam(self.parameters, lr=config.learning_rate, eps=config.eps, fused=True)

    def step(self, learning_rate_scale: float = 1.0) -> Tensor:
        """One step from the gradients in place, which are then cleared.

        Args:
            learning_rate_scale: Multiplies the learning rate of this step (schedules).

        Returns:
            () total gradient norm before clipping.
        """
        norm = self.clip([p.grad for p in self.parameters if p.grad is not None])
        if self.config.weight_decay:
            with torch.no_grad():
                torch._foreach_mul_(self.parameters, 1.0 - self.config.weight_decay)
        for group in self.adam.param_groups:
            group["lr"] = self.config.learning_rate * learning_rate_scale
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        return norm

    def clip(self, gradients: list[Tensor]) -> Tensor:
        """Scales gradients in place to the largest norm allowed; returns () their norm before."""
        norm = torch.nn.utils.get_total_norm(gradients)
        torch._foreach_mul_(gradients, (self.config.clip / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def state_tensors(self) -> dict[str, Tensor]:
        """Adam's moments and step counts, by parameter index."""
        return {
            f"{index}.{name}": value
            for index, parameter in enumerate(self.parameters)
            for name, value in self.adam.state.get(parameter, {}).items()
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what `state_tensors` gave."""
        for key, value in tensors.items():
            index, name = key.split(".")
            parameter = self.parameters[int(index)]
            # The fused kernel walks through memory: moments must lie in the parameter's own memory format, which a file
            # does not keep.
            like = parameter if value.shape == parameter.shape else value
            self.adam.state[parameter][name] = torch.empty_like(like, device=parameter.device).copy_(value).detach()
