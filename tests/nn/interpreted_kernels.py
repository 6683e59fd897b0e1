"""The GRU's kernels in Triton's interpreter, against the exact recurrence; run with TRITON_INTERPRET=1.

Prints a JSON object of relative errors: of the kernels and of torch's own operations, by precision and quantity.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

from genrl.nn import gru_kernels, recurrence

STEPS, ROWS, UNITS = 7, 5, 48
NAMES = ("states", "projected", "hidden", "weight", "scale", "shift")


def exact(
    projected: Tensor, hidden: Tensor, keep: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, grad: Tensor
) -> list[Tensor]:
    """States and gradients in float64, by autograd."""
    inputs = [x.double().requires_grad_() for x in (projected, hidden, weight, scale, shift)]
    projected, hidden, weight, scale, shift = inputs
    states = []
    for t in range(STEPS):
        hidden = hidden * keep[t, :, None].double()
        gates = torch.nn.functional.layer_norm(projected[t] + hidden @ weight.T, (3 * UNITS,), scale, shift)
        reset, candidate, update = gates.chunk(3, -1)
        hidden = torch.lerp(hidden, torch.tanh(torch.sigmoid(reset) * candidate), torch.sigmoid(update - 1))
        states.append(hidden)
    result = torch.stack(states)
    return [result.detach(), *torch.autograd.grad((result * grad).sum(), inputs)]


def by_operator(grad: Tensor, dtype: torch.dtype, *inputs: Tensor) -> list[Tensor]:
    """States and gradients of the operator, whichever way it computes them."""
    states, *kept = recurrence.gru_sequence(*inputs)
    _, _, keep, *parameters = inputs
    return [states, *recurrence.gru_sequence_backward(grad, *kept, keep, *parameters, dtype)]


def main() -> None:
    """Prints the errors."""
    torch.manual_seed(0)
    errors: dict[str, dict[str, dict[str, float]]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        inputs = (
            torch.randn(STEPS, ROWS, 3 * UNITS).to(dtype),
            torch.randn(ROWS, UNITS),
            (torch.rand(STEPS, ROWS) > 0.3).float(),
            torch.randn(3 * UNITS, UNITS) * 0.1,
            torch.rand(3 * UNITS) + 0.5,
            torch.randn(3 * UNITS) * 0.1,
        )
        grad = torch.randn(STEPS, ROWS, UNITS)
        right = exact(*inputs, grad)
        for way, kernels in (("torch", False), ("kernels", True)):
            recurrence.kernels = lambda device, kernels=kernels: gru_kernels if kernels else None
            found = by_operator(grad, dtype, *inputs)
            errors.setdefault(str(dtype), {})[way] = {
                name: float((own.double() - best).norm() / best.norm())
                for name, own, best in zip(NAMES, found, right, strict=True)
            }
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
