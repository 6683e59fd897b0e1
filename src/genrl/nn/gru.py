"""The LayerNorm-GRU of the Dreamer family: one step, and whole sequences with a hand-written backward pass."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

UPDATE_BIAS = -1.0
"""Added to the update gate: a fresh cell keeps most of its state."""


class LayerNormGRU(nn.Module):
    """GRU cell with one LayerNorm over its three gates.

    `u = LN(W [x, h])`, split into reset r, candidate c, update z:
    `h' = z tanh(r c) + (1 - z) h` with sigmoids on r and on `z - 1`.
    The part of W that reads x does not depend on time, so callers project whole sequences at once.
    """

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim
        self.gates = nn.Linear(input_dim + hidden_dim, 3 * hidden_dim, bias=False)
        self.norm = nn.LayerNorm(3 * hidden_dim)

    def project(self, x: Tensor) -> Tensor:
        """(..., I) inputs -> (..., 3D) their share of the gates."""
        return F.linear(x, self.gates.weight[:, : self.input_dim])

    def step(self, projected: Tensor, hidden: Tensor) -> Tensor:
        """(..., 3D) projected input and (..., D) state -> (..., D) next state."""
        recurrent = F.linear(hidden, self.gates.weight[:, self.input_dim :])
        # Under autocast only the products are rounded, as in `sequence`: errors of the gates would add up over time.
        reset, candidate, update = self.norm((projected + recurrent).to(hidden.dtype)).chunk(3, dim=-1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(hidden, candidate, torch.sigmoid(update + UPDATE_BIAS))  # (1 - z) h + z c in one kernel

    def sequence(self, projected: Tensor, hidden: Tensor, keep: Tensor | None = None) -> Tensor:
        """Runs over time.

        Args:
            projected: (B, T, 3D) projected inputs.
            hidden: (B, D) state before the first step.
            keep: (B, T) multiplies the state before each step (0 at a reset), or None for no resets.

        Returns:
            (B, T, D) states after each step.
        """
        if keep is None:
            keep = hidden.new_ones(projected.shape[:2])
        weight = self.gates.weight[:, self.input_dim :]
        scale, shift = self.norm.weight, self.norm.bias
        # Under autocast a network may have given the first state in bfloat16; states are float32.
        states = _Sequence.apply(projected.transpose(0, 1), hidden.float(), keep.T, weight, scale, shift)
        return states.transpose(0, 1)


class _Sequence(torch.autograd.Function):
    """All steps of the recurrence, time-major.

    Autograd through a loop would multiply out, and add up, a gradient of the recurrent weight at every step. Here the
    loop backwards carries the state's gradient alone; the weight's is one matrix product over all steps at the end.
    Products run in the precision of `projected` (bfloat16 under autocast), everything else in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, hidden: Tensor, keep: Tensor, weight: Tensor, scale: Tensor, shift: Tensor
    ) -> Tensor:
        """(T, B, 3D), (B, D), (T, B), (3D, D), (3D,), (3D,) -> (T, B, D)."""
        with torch.autocast(projected.device.type, enabled=False):
            matrix = weight.to(projected.dtype).T
            size = scale.shape
            before, gates, statistics, after = [], [], [], []
            for t in range(projected.shape[0]):
                hidden = hidden * keep[t, :, None]
                summed = (projected[t] + hidden.to(projected.dtype) @ matrix).float()
                normed, mean, deviation = torch.native_layer_norm(summed, size, scale, shift, 1e-5)
                before.append(hidden)
                gates.append(summed)
                statistics.append((mean, deviation))
                reset, candidate, update = normed.chunk(3, dim=-1)
                candidate = torch.tanh(torch.sigmoid(reset) * candidate)
                hidden = torch.lerp(hidden, candidate, torch.sigmoid(update + UPDATE_BIAS))
                after.append(hidden)
            means, deviations = (torch.stack(values) for values in zip(*statistics, strict=True))
            ctx.save_for_backward(
                torch.stack(before), torch.stack(gates), means, deviations, keep, weight, scale, shift
            )
            ctx.dtype = projected.dtype
            return torch.stack(after)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_after: Tensor) -> tuple[Tensor | None, ...]:
        """(T, B, D) -> gradients of the six inputs; `keep` has none."""
        before, gates, means, deviations, keep, weight, scale, shift = ctx.saved_tensors
        matrix = weight.to(ctx.dtype)
        # What does not depend on the state's gradient, for all steps at once.
        whitened = (gates - means) * deviations
        reset, candidate, update = torch.addcmul(shift, whitened, scale).chunk(3, dim=-1)
        reset = torch.sigmoid(reset)
        activated = torch.tanh(reset * candidate)
        update = torch.sigmoid(update + UPDATE_BIAS)
        through_candidate = update * (1 - activated.square())  # d h' / d (r c)
        slopes = torch.cat(
            [
                through_candidate * candidate * reset * (1 - reset),
                through_candidate * reset,
                (activated - before) * update * (1 - update),
            ],
            dim=-1,
        )  # (T, B, 3D): d h' / d (normalised gate)
        carry = (1 - update) * keep[..., None]
        grad_normed, grad_summed = torch.empty_like(slopes), torch.empty_like(slopes)
        grad_hidden = torch.zeros_like(before[0])
        for t in reversed(range(len(before))):
            grad_hidden = grad_hidden + grad_after[t]
            torch.mul(slopes[t].unflatten(-1, (3, -1)), grad_hidden[:, None], out=grad_normed[t].unflatten(-1, (3, -1)))
            scaled = grad_normed[t] * scale
            mean_scaled = scaled.mean(-1, keepdim=True)
            mean_product = (scaled * whitened[t]).mean(-1, keepdim=True)
            torch.mul(scaled - mean_scaled - whitened[t] * mean_product, deviations[t], out=grad_summed[t])
            through_gates = (grad_summed[t].to(ctx.dtype) @ matrix).float()
            grad_hidden = torch.addcmul(through_gates * keep[t, :, None], grad_hidden, carry[t])
        flat = grad_summed.flatten(0, 1).to(ctx.dtype)
        grad_weight = (flat.T @ before.flatten(0, 1).to(ctx.dtype)).to(weight.dtype)
        grad_scale, grad_shift = (grad_normed * whitened).sum((0, 1)), grad_normed.sum((0, 1))
        return grad_summed.to(ctx.dtype), grad_hidden, None, grad_weight, grad_scale, grad_shift
