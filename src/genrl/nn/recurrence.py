"""The recurrence of the LayerNorm-GRU over a whole sequence, with a hand-written backward pass.

It is one operator to torch: a compiler does not unroll its loop. On a GPU a step is one matrix product and one kernel
(`gru_kernels`), elsewhere torch's own operations. Everything is time-major.
"""

from __future__ import annotations

import warnings
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

UPDATE_BIAS = -1.0
"""Added to the update gate: a fresh cell keeps most of its state."""
NORM_EPS = 1e-5

Kept = tuple[Tensor, Tensor, Tensor]
"""For the backward pass: (T, B, D) states before each step, (T, B, 3D) gates whitened by the norm, (T, B, 1) inverse
deviations."""
Given = tuple[Tensor, Tensor, Tensor, Tensor]
"""`keep`, `weight`, `scale` and `shift` of `gru_sequence`."""


@cache
def kernels(device: torch.device) -> ModuleType | None:
    """`gru_kernels` where they run; tries one, which wants a C compiler the first time."""
    if device.type != "cuda":
        return None
    try:
        from genrl.nn import gru_kernels

        example, weight = torch.zeros(1, 1, 48, device=device), torch.zeros(48, 16, device=device)
        hidden, keep, scale = example[0, :, :16], example[..., 0], example[0, 0]
        gru_kernels.forward_steps(example, hidden, keep, weight, scale, scale)
    except Exception as error:
        warnings.warn(f"the GRU's kernels do not run here, which is slower: {error!r}", stacklevel=2)
        return None
    return gru_kernels


@torch.library.custom_op("genrl::gru_sequence", mutates_args=())
def gru_sequence(
    projected: Tensor, hidden: Tensor, keep: Tensor, weight: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Runs over time.

    Products run in the precision of `projected` (bfloat16 under autocast), everything else in float32.

    Args:
        projected: (T, B, 3D) projected inputs.
        hidden: (B, D) state before the first step.
        keep: (T, B) multiplies the state before each step.
        weight: (3D, D) of the recurrent product.
        scale: (3D,) of the norm.
        shift: (3D,) of the norm.

    Returns:
        (T, B, D) states after each step; for the backward pass the states before each step, (T, B, 3D) gates before
        the norm, and (T, B, 1) their means and inverse deviations.
    """
    with torch.autocast(projected.device.type, enabled=False):
        if fast := kernels(projected.device):
            return fast.forward_steps(projected, hidden, keep, weight, scale, shift)
        matrix = weight.to(projected.dtype).T
        before, gates, means, deviations, after = [], [], [], [], []
        for t in range(projected.shape[0]):
            hidden = hidden * keep[t, :, None]
            summed = (projected[t] + hidden.to(projected.dtype) @ matrix).float()
            normed, mean, deviation = torch.native_layer_norm(summed, scale.shape, scale, shift, NORM_EPS)
            before.append(hidden)
            gates.append(summed)
            means.append(mean)
            deviations.append(deviation)
            reset, candidate, update = normed.chunk(3, dim=-1)
            candidate = torch.tanh(torch.sigmoid(reset) * candidate)
            hidden = torch.lerp(hidden, candidate, torch.sigmoid(update + UPDATE_BIAS))
            after.append(hidden)
        return torch.stack(after), torch.stack(before), torch.stack(gates), torch.stack(means), torch.stack(deviations)


@gru_sequence.register_fake
def _(projected: Tensor, hidden: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
    steps, batch, width = projected.shape
    return tuple(hidden.new_empty(steps, batch, size) for size in (width // 3, width // 3, width, 1, 1))


@torch.library.custom_op("genrl::gru_sequence_backward", mutates_args=())
def gru_sequence_backward(
    grad_after: Tensor,
    before: Tensor,
    gates: Tensor,
    means: Tensor,
    deviations: Tensor,
    keep: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `gru_sequence`.

    Autograd through a loop would multiply out, and add up, a gradient of the recurrent weight at every step. Here the
    loop backwards carries the state's gradient alone; the weight's is one matrix product over all steps at the end.

    Args:
        grad_after: (T, B, D).
        before: With the next three, what the forward pass gave.
        gates: As above.
        means: As above.
        deviations: As above.
        keep: With the next three, what the forward pass was given.
        weight: As above.
        scale: As above.
        shift: As above.
        dtype: Precision of the products.

    Returns:
        Gradients of projected inputs, first state, weight, scale and shift.
    """
    with torch.autocast(grad_after.device.type, enabled=False):
        whitened = (gates - means) * deviations
        kept, given = (before, whitened, deviations), (keep, weight, scale, shift)
        fast = kernels(grad_after.device)
        run = _backward_steps if fast is None else fast.backward_steps
        grad_summed, grad_normed, grad_hidden = run(grad_after, kept, given, dtype)
        flat = grad_summed.flatten(0, 1)
        grad_weight = (flat.T @ before.flatten(0, 1).to(dtype)).to(weight.dtype)
        return grad_summed, grad_hidden, grad_weight, (grad_normed * whitened).sum((0, 1)), grad_normed.sum((0, 1))


def _backward_steps(grad_after: Tensor, kept: Kept, given: Given, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """(T, B, 3D) gradients of the gates before (in `dtype`) and after the norm, and (B, D) of the first state."""
    before, whitened, deviations = kept
    keep, weight, scale, shift = given
    matrix = weight.to(dtype)
    # What does not depend on the state's gradient, for all steps at once.
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
        through_gates = (grad_summed[t].to(dtype) @ matrix).float()
        grad_hidden = torch.addcmul(through_gates * keep[t, :, None], grad_hidden, carry[t])
    return grad_summed.to(dtype), grad_normed, grad_hidden


@gru_sequence_backward.register_fake
def _(grad_after: Tensor, before: Tensor, gates: Tensor, *others: Any) -> tuple[Tensor, ...]:
    *_, weight, scale, shift, dtype = others
    projected, hidden = gates.new_empty(gates.shape, dtype=dtype), before.new_empty(before.shape[1:])
    return projected, hidden, torch.empty_like(weight), torch.empty_like(scale), torch.empty_like(shift)


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    projected, _, keep, weight, scale, shift = inputs
    ctx.save_for_backward(*output[1:], keep, weight, scale, shift)
    ctx.dtype = projected.dtype
    # Only the states have a gradient; zeros for what is kept would be as large as the gates.
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad_after: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad_after is None:
        return (None,) * 6
    projected, hidden, *parameters = gru_sequence_backward(grad_after, *ctx.saved_tensors, ctx.dtype)
    return projected, hidden, None, *parameters


gru_sequence.register_autograd(_backward, setup_context=_keep_for_backward)
