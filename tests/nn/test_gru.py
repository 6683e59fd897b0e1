"""The LayerNorm-GRU: sequences against single steps, gradients against autograd and finite differences."""

from __future__ import annotations

import torch
from torch import Tensor

from genrl.nn.gru import LayerNormGRU


def stepwise(gru: LayerNormGRU, x: Tensor, hidden: Tensor, keep: Tensor) -> Tensor:
    """One step after the other, with autograd's own gradients."""
    states = []
    for t in range(x.shape[1]):
        hidden = gru.step(x[:, t], hidden * keep[:, t, None])
        states.append(hidden)
    return torch.stack(states, dim=1)


def test_a_whole_sequence_equals_one_step_after_the_other_with_all_its_gradients() -> None:
    gru = LayerNormGRU(4, 6)
    torch.nn.init.normal_(gru.norm.weight)
    torch.nn.init.normal_(gru.norm.bias)
    x, hidden = torch.randn(3, 7, 4, requires_grad=True), torch.randn(3, 6, requires_grad=True)
    keep = (torch.rand(3, 7) > 0.3).float()
    weight = torch.randn(3, 7, 6)
    inputs = [x, hidden, *gru.parameters()]
    one, many = gru.sequence(gru.project(x), hidden, keep), stepwise(gru, x, hidden, keep)
    torch.testing.assert_close(one, many)
    for ours, theirs in zip(
        torch.autograd.grad((one * weight).sum(), inputs),
        torch.autograd.grad((many * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_without_resets_every_step_keeps_the_state() -> None:
    gru = LayerNormGRU(4, 6)
    x, hidden = torch.randn(2, 5, 4), torch.randn(2, 6)
    torch.testing.assert_close(gru.sequence(gru.project(x), hidden), stepwise(gru, x, hidden, torch.ones(2, 5)))


def test_in_bfloat16_states_stay_float32_and_near() -> None:
    gru = LayerNormGRU(8, 16)
    x, hidden = torch.randn(2, 5, 8), torch.randn(2, 16)
    exact = gru.sequence(gru.project(x), hidden)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = gru.sequence(gru.project(x), hidden)
    rough.sum().backward()
    assert rough.dtype == torch.float32 and gru.gates.weight.grad.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.05


def test_a_fresh_gru_keeps_most_of_its_state() -> None:
    gru = LayerNormGRU(2, 3)
    torch.nn.init.zeros_(gru.gates.weight)
    hidden = torch.ones(1, 3)
    # All gates zero: candidate tanh(0) = 0, update sigmoid(-1) = 0.2689.
    torch.testing.assert_close(gru.step(torch.zeros(1, 2), hidden), hidden * (1 - torch.sigmoid(torch.tensor(-1.0))))


def test_in_bfloat16_a_step_is_as_near_to_float32_as_a_sequence() -> None:
    gru = LayerNormGRU(8, 16)
    x, hidden = torch.randn(50, 5, 8), torch.randn(50, 16)
    exact = gru.step(x[:, 0], hidden)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        projected = gru.project(x)
        step, sequence = gru.step(x[:, 0], hidden), gru.sequence(projected, hidden)[:, 0]
        assert gru.sequence(projected, hidden.bfloat16()).dtype == torch.float32
    # Only the products are rounded, in both.
    assert step.dtype == torch.float32
    assert (step - exact).square().mean() < 1.1 * (sequence - exact).square().mean() < 1e-5
