"""The LayerNorm-GRU of the Dreamer family: one step, and whole sequences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrl.nn.recurrence import NORM_EPS, UPDATE_BIAS, gru_sequence


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
        self.norm = nn.LayerNorm(3 * hidden_dim, NORM_EPS)

    def project(self, x: Tensor) -> Tensor:
        """(..., I) inputs -> (..., 3D) their share of the gates."""
        return F.linear(x, self.gates.weight[:, : self.input_dim])

    def step(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(..., I) input and (..., D) state -> (..., D) next state, by one product for both."""
        gates = self.gates(torch.cat([x, hidden], dim=-1))
        # Under autocast only the product is rounded, as in `sequence`: errors of the gates would add up over time.
        reset, candidate, update = self.norm(gates.to(hidden.dtype)).chunk(3, dim=-1)
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
        states, *_ = gru_sequence(projected.transpose(0, 1), hidden.float(), keep.T, weight, scale, shift)
        return states.transpose(0, 1)
