"""Categorical latents and two-hot scalars."""

from __future__ import annotations

import math

import pytest
import torch

from genrl.nn.distributions import (
    TwoHot,
    entropy,
    kl_divergence,
    mixed_probs,
    straight_through,
    symexp,
    symlog,
    tempered_draw,
)


def test_mixed_probs_of_a_certain_class_keep_one_percent_for_all() -> None:
    probs = mixed_probs(torch.tensor([1000.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(probs, torch.tensor([0.9925, 0.0025, 0.0025, 0.0025]))


def test_samples_follow_the_mixed_probabilities() -> None:
    logits = torch.tensor([0.0, math.log(3.0)]).expand(20_000, 2)
    share = straight_through(logits)[:, 1].mean().item()
    # p = 0.99 * 0.75 + 0.005; four standard errors of 20,000 draws.
    assert share == pytest.approx(0.7475, abs=4 * math.sqrt(0.7475 * 0.2525 / 20_000))


def test_tempered_draws_sharpen_the_probabilities_and_are_modes_at_zero() -> None:
    logits = torch.tensor([0.0, math.log(3.0)]).expand(20_000, 2)
    generator = torch.Generator().manual_seed(0)
    for temperature, share in ((1.0, 0.75), (0.5, 0.9)):  # 3 : 1, and its square 9 : 1.
        drawn = tempered_draw(logits, torch.tensor(temperature), generator)
        error = 4 * math.sqrt(share * (1 - share) / 20_000)
        assert drawn[:, 1].mean().item() == pytest.approx(share, abs=error)
    assert tempered_draw(logits, torch.zeros(20_000, 1), generator)[:, 1].all()


def test_a_sample_is_one_hot_and_its_gradient_is_that_of_the_probabilities() -> None:
    logits = torch.randn(5, 3, 4, requires_grad=True)
    weight = torch.randn(5, 3, 4)
    (straight_through(logits, mode=True) * weight).sum().backward()
    twin = logits.detach().requires_grad_()
    (mixed_probs(twin) * weight).sum().backward()
    torch.testing.assert_close(logits.grad, twin.grad)
    one_hot = straight_through(logits).detach()
    torch.testing.assert_close(one_hot.sum(-1), torch.ones(5, 3))
    assert ((one_hot - one_hot.round()).abs() < 1e-6).all()


def test_kl_of_a_distribution_with_itself_is_zero_and_of_two_coins_is_known() -> None:
    logits = torch.randn(2, 3, 5)
    assert kl_divergence(logits, logits).abs().max() < 1e-6
    p, q = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[0.0, 0.0]])
    a, b = 0.99 * 0.25 + 0.005, 0.99 * 0.75 + 0.005
    assert kl_divergence(p, q).item() == pytest.approx(a * math.log(a / 0.5) + b * math.log(b / 0.5), rel=1e-5)


def test_entropy_of_uniform_variables_adds_up() -> None:
    assert entropy(torch.zeros(3, 8)).item() == pytest.approx(3 * math.log(8))


def test_symlog_and_symexp_undo_each_other() -> None:
    x = torch.tensor([-1e6, -2.0, 0.0, 0.5, 1e6])
    torch.testing.assert_close(symexp(symlog(x)), x)


def test_two_hot_of_a_value_on_a_bucket_is_the_log_probability_of_that_bucket() -> None:
    two_hot = TwoHot(num_buckets=5, limit=2.0)  # buckets -2, -1, 0, 1, 2
    logits = torch.randn(5)
    value = symexp(torch.tensor(1.0))
    assert two_hot.log_prob(logits, value).item() == pytest.approx(logits.log_softmax(-1)[3].item(), rel=1e-5)


def test_two_hot_between_buckets_and_beyond_the_ends() -> None:
    two_hot = TwoHot(num_buckets=5, limit=2.0)
    logits = torch.randn(5)
    log_probs = logits.log_softmax(-1)
    quarter = two_hot.log_prob(logits, symexp(torch.tensor(0.25)))
    assert quarter.item() == pytest.approx((0.75 * log_probs[2] + 0.25 * log_probs[3]).item(), rel=1e-4)
    assert two_hot.log_prob(logits, torch.tensor(1e9)).item() == pytest.approx(log_probs[4].item(), rel=1e-5)
    assert two_hot.log_prob(logits, torch.tensor(-1e9)).item() == pytest.approx(log_probs[0].item(), rel=1e-5)


def test_a_two_hot_mean_is_not_rounded_to_bfloat16() -> None:
    logits = torch.randn(3, 255)
    exact = TwoHot().mean(logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert TwoHot().mean(logits).equal(exact)


def test_two_hot_mean_of_zero_logits_is_zero() -> None:
    assert TwoHot().mean(torch.zeros(3, 255)).abs().max() < 1e-4
