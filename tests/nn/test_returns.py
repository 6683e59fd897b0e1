"""Lambda returns and their scale."""

from __future__ import annotations

import pytest
import torch

from genrl.nn.returns import ReturnNormalizer, lambda_returns


def test_lambda_one_is_the_discounted_sum_with_the_last_value() -> None:
    returns = lambda_returns(torch.tensor([[1.0, 2.0]]), torch.tensor([[50.0, 8.0]]), 0.5, 1.0)
    torch.testing.assert_close(returns, torch.tensor([[1 + 0.5 * (2 + 0.5 * 8), 2 + 0.5 * 8]]))


def test_lambda_zero_is_one_step() -> None:
    returns = lambda_returns(torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 8.0]]), 0.5, 0.0)
    torch.testing.assert_close(returns, torch.tensor([[6.0, 6.0]]))


def test_a_discount_of_zero_cuts_the_return() -> None:
    discount = torch.tensor([[0.0, 1.0]])
    returns = lambda_returns(torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 8.0]]), discount, 0.9)
    assert returns[0, 0].item() == 1.0


def test_the_scale_of_small_returns_is_one_and_grows_with_large_ones() -> None:
    normalizer = ReturnNormalizer(rate=1.0)
    offset, scale = normalizer.update(torch.linspace(0, 0.1, 101))
    assert scale.item() == 1.0 and offset.item() == pytest.approx(0.005)
    offset, scale = normalizer.update(torch.linspace(0, 100, 101))
    assert scale.item() == pytest.approx(90.0) and offset.item() == pytest.approx(5.0)
