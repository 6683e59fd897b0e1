"""Triton kernels of a step of the LayerNorm-GRU's recurrence, forwards and backwards.

A step is one matrix product and one kernel: norm, gates, the next state and the next product's input in one pass. A
program of the kernel has one row of the batch, all three gates of it in registers. This file is imported only where
there is a GPU, and with it Triton (`recurrence.kernels`).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from genrl.nn.recurrence import NORM_EPS, UPDATE_BIAS, Given, Kept

NUM_WARPS = 8


def forward_steps(
    projected: Tensor,
    hidden: Tensor,
    keep: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As `recurrence.gru_sequence`."""
    steps, batch, width = projected.shape
    units, dtype = width // 3, projected.dtype
    projected, keep = projected.contiguous(), keep.float().contiguous()
    after, before = (projected.new_empty(steps, batch, units, dtype=torch.float32) for _ in range(2))
    gates = projected.new_empty(steps, batch, width, dtype=torch.float32)
    means, deviations = (projected.new_empty(steps, batch, 1, dtype=torch.float32) for _ in range(2))
    matrix = weight.to(dtype).T
    torch.mul(hidden, keep[0, :, None], out=before[0])
    factor, recurrent = before[0].to(dtype, copy=True), projected.new_empty(batch, width)
    launch = _launcher(_forward_step, batch, units)
    for t in range(steps):
        torch.mm(factor, matrix, out=recurrent)
        last = t + 1 == steps
        following, kept = (before[t], keep[t]) if last else (before[t + 1], keep[t + 1])
        launch(
            projected[t], recurrent, before[t], kept, scale, shift,
            gates[t], means[t], deviations[t], after[t], following, factor, UPDATE_BIAS, NORM_EPS, LAST=last,
        )  # fmt: skip
    return after, before, gates, means, deviations


def backward_steps(grad_after: Tensor, kept: Kept, given: Given, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """As `recurrence._backward_steps`."""
    before, whitened, deviations = kept
    keep, weight, scale, shift = given
    steps, batch, units = before.shape
    grad_after, keep = grad_after.contiguous(), keep.float().contiguous()
    matrix = weight.to(dtype).contiguous()
    grad_summed, grad_normed = torch.empty_like(whitened, dtype=dtype), torch.empty_like(whitened)
    through, carried = before.new_empty(batch, units, dtype=dtype), torch.empty_like(before[0])
    launch = _launcher(_backward_step, batch, units)
    for t in reversed(range(steps)):
        first = t + 1 == steps
        launch(
            grad_after[t], through, carried, keep[t] if first else keep[t + 1], keep[t], before[t],
            whitened[t], deviations[t], scale, shift, grad_summed[t], grad_normed[t], UPDATE_BIAS, FIRST=first,
        )  # fmt: skip
        torch.mm(grad_summed[t], matrix, out=through)
    return grad_summed, grad_normed, torch.addcmul(carried, through.float(), keep[0, :, None])


def _launcher(kernel: Any, batch: int, units: int) -> Any:
    block = triton.next_power_of_2(units)
    return lambda *args, **flags: kernel[(batch,)](*args, units, BLOCK=block, num_warps=NUM_WARPS, **flags)


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _forward_step(  # type: ignore[no-untyped-def]
    projected, recurrent, before, keep, scale, shift,
    gates, means, deviations, after, following, factor, update_bias, eps,
    units, LAST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    unit = tl.arange(0, BLOCK)
    inside = unit < units
    at, gate = row * units + unit, row * 3 * units + unit
    r = tl.load(projected + gate, inside, 0).to(tl.float32) + tl.load(recurrent + gate, inside, 0).to(tl.float32)
    gate += units
    c = tl.load(projected + gate, inside, 0).to(tl.float32) + tl.load(recurrent + gate, inside, 0).to(tl.float32)
    gate += units
    u = tl.load(projected + gate, inside, 0).to(tl.float32) + tl.load(recurrent + gate, inside, 0).to(tl.float32)
    tl.store(gates + gate - 2 * units, r, inside)
    tl.store(gates + gate - units, c, inside)
    tl.store(gates + gate, u, inside)
    mean = (tl.sum(r, 0) + tl.sum(c, 0) + tl.sum(u, 0)) / (3 * units)
    r, c, u = tl.where(inside, r - mean, 0), tl.where(inside, c - mean, 0), tl.where(inside, u - mean, 0)
    deviation = 1 / tl.sqrt((tl.sum(r * r, 0) + tl.sum(c * c, 0) + tl.sum(u * u, 0)) / (3 * units) + eps)
    tl.store(means + row, mean)
    tl.store(deviations + row, deviation)
    r = r * deviation * tl.load(scale + unit, inside, 0) + tl.load(shift + unit, inside, 0)
    c = c * deviation * tl.load(scale + units + unit, inside, 0) + tl.load(shift + units + unit, inside, 0)
    u = u * deviation * tl.load(scale + 2 * units + unit, inside, 0) + tl.load(shift + 2 * units + unit, inside, 0)
    hidden = tl.load(before + at, inside, 0)
    hidden += tl.sigmoid(u + update_bias) * (_tanh(tl.sigmoid(r) * c) - hidden)
    tl.store(after + at, hidden, inside)
    if not LAST:
        hidden *= tl.load(keep + row)
        tl.store(following + at, hidden, inside)
        tl.store(factor + at, hidden.to(factor.dtype.element_ty), inside)


@triton.jit
def _backward_step(  # type: ignore[no-untyped-def]
    grad_after, through, carried, keep_next, keep, before,
    whitened, deviations, scale, shift, grad_summed, grad_normed, update_bias,
    units, FIRST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    unit = tl.arange(0, BLOCK)
    inside = unit < units
    at, gate = row * units + unit, row * 3 * units + unit
    grad = tl.load(grad_after + at, inside, 0).to(tl.float32)
    if not FIRST:
        grad += tl.load(through + at, inside, 0).to(tl.float32) * tl.load(keep_next + row)
        grad += tl.load(carried + at, inside, 0)
    deviation = tl.load(deviations + row)
    scale_r = tl.load(scale + unit, inside, 0)
    scale_c = tl.load(scale + units + unit, inside, 0)
    scale_u = tl.load(scale + 2 * units + unit, inside, 0)
    white_r = tl.load(whitened + gate, inside, 0)
    white_c = tl.load(whitened + gate + units, inside, 0)
    white_u = tl.load(whitened + gate + 2 * units, inside, 0)
    reset = tl.sigmoid(white_r * scale_r + tl.load(shift + unit, inside, 0))
    candidate = white_c * scale_c + tl.load(shift + units + unit, inside, 0)
    update = tl.sigmoid(white_u * scale_u + tl.load(shift + 2 * units + unit, inside, 0) + update_bias)
    activated = _tanh(reset * candidate)
    through_candidate = grad * update * (1 - activated * activated)
    # Outside the row the gradient is 0, and with it all that follows.
    grad_r = through_candidate * candidate * reset * (1 - reset)
    grad_c = through_candidate * reset
    grad_u = grad * (activated - tl.load(before + at, inside, 0)) * update * (1 - update)
    tl.store(grad_normed + gate, grad_r, inside)
    tl.store(grad_normed + gate + units, grad_c, inside)
    tl.store(grad_normed + gate + 2 * units, grad_u, inside)
    grad_r, grad_c, grad_u = grad_r * scale_r, grad_c * scale_c, grad_u * scale_u
    mean_grad = (tl.sum(grad_r, 0) + tl.sum(grad_c, 0) + tl.sum(grad_u, 0)) / (3 * units)
    product = tl.sum(grad_r * white_r, 0) + tl.sum(grad_c * white_c, 0) + tl.sum(grad_u * white_u, 0)
    product = product / (3 * units)
    kind = grad_summed.dtype.element_ty
    grad_r = (grad_r - mean_grad - white_r * product) * deviation
    grad_c = (grad_c - mean_grad - white_c * product) * deviation
    grad_u = (grad_u - mean_grad - white_u * product) * deviation
    tl.store(grad_summed + gate, grad_r.to(kind), inside)
    tl.store(grad_summed + gate + units, grad_c.to(kind), inside)
    tl.store(grad_summed + gate + 2 * units, grad_u.to(kind), inside)
    tl.store(carried + at, grad * (1 - update) * tl.load(keep + row), inside)
