"""The optimiser step of the Dreamer family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    """Clip, decay, Adam, in this order; all of a step's numbers stay on the device, so that a graph can hold it.

    Parameters without a gradient are decayed all the same: what is handed over is decayed.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> None:
        self.config = config
        self.parameters: list[Tensor] = list(parameters)
        device = self.parameters[0].device
        # A GPU's kernel reads a float32; on a CPU the rate is as exact as a plain number.
        kind = torch.float64 if device.type == "cpu" else torch.float32
        self._rate = torch.full((), config.learning_rate, dtype=kind, device=device)
        on_gpu = device.type == "cuda"
        self.adam = torch.optim.Adam(
            self.parameters, config.learning_rate, eps=config.eps, fused=True, capturable=on_gpu
        )
        self.adam.param_groups[0]["lr"] = self._rate
        # Without a graph too, which torch would warn of.
        self.adam._warned_capturable_if_run_uncaptured = True

    def set_rate(self, scale: float) -> None:
        """Multiplies the learning rate of the steps from now on (schedules)."""
        self._rate.fill_(self.config.learning_rate * scale)

    def step(self) -> Tensor:
        """One step from the gradients in place, which are then cleared; nothing moves if their norm is not finite.

        Returns:
            () total gradient norm before clipping.
        """
        norms, _ = step_together({"": self})
        return norms[""]

    def move(self, finite: Tensor) -> None:
        """Decay and Adam, from clipped gradients, which are then cleared.

        Args:
            finite: () bool on the device; where it is False nothing moves.
        """
        if self.config.weight_decay:
            with torch.no_grad():
                factor = torch.where(finite, 1.0 - self.config.weight_decay, 1.0)
                torch._foreach_mul_(self.parameters, factor)
        # As a gradient scaler tells it: the kernel then leaves parameters, moments and the count of steps alone.
        self.adam.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    @property
    def gradients(self) -> list[Tensor]:
        """Those in place."""
        return [p.grad for p in self.parameters if p.grad is not None]

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


def step_together(
    optimizers: Mapping[str, Optimizer], finite: Tensor | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """One step of each, or of none: nothing moves if one norm is not finite.

    Args:
        optimizers: By name.
        finite: () bool on the device, whether the losses are; where they are not, nothing moves either.

    Returns:
        Total gradient norms before clipping, by name; and () bool on the device, whether parameters moved.
    """
    norms = {name: own.clip(own.gradients) for name, own in optimizers.items()}
    every = [norm.isfinite().all() for norm in norms.values()]
    sound = torch.stack(every if finite is None else [*every, finite]).all()
    for own in optimizers.values():
        own.move(sound)
    return norms, sound
