"""States of the recurrent state-space model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LatentState:
    """One state of the recurrent state-space model, or any batch of them.

    Attributes:
        deter: (..., D) recurrent state h_t.
        stoch: (..., S, K) one-hot sample of s_t with straight-through gradients, or probabilities (`RssmConfig.code`).
        logits: (..., S, K) unnormalised log-probabilities that stoch was drawn from.
    """

    deter: Tensor
    stoch: Tensor
    logits: Tensor

    @property
    def features(self) -> Tensor:
        """(..., F) what heads, actor and critic read."""
        return torch.cat([self.stoch.flatten(-2), self.deter], dim=-1)

    def map(self, function: Callable[[Tensor], Tensor]) -> LatentState:
        """Applies a function of leading axes (indexing, reshaping) to every tensor."""
        return LatentState(function(self.deter), function(self.stoch), function(self.logits))

    def detach(self) -> LatentState:
        """The same values without gradients."""
        return self.map(Tensor.detach)

    def flatten(self) -> LatentState:
        """(B, T, ...) -> (B*T, ...)."""
        return self.map(lambda x: x.flatten(0, 1))


def grouped(x: Tensor, num_groups: int) -> Tensor:
    """(N * B, ...) rows, those of a group together -> (N, B, ...)."""
    return x.unflatten(0, (num_groups, -1))


def stack_states(states: Sequence[LatentState], dim: int = 1) -> LatentState:
    """Stacks states along a new axis, time by default."""
    return LatentState(
        torch.stack([state.deter for state in states], dim),
        torch.stack([state.stoch for state in states], dim),
        torch.stack([state.logits for state in states], dim),
    )


def cat_states(states: Sequence[LatentState], dim: int = 0) -> LatentState:
    """Concatenates states along an axis."""
    return LatentState(
        torch.cat([state.deter for state in states], dim),
        torch.cat([state.stoch for state in states], dim),
        torch.cat([state.logits for state in states], dim),
    )
