"""The ensemble of dynamics heads: what it measures, and that it learns from its inputs without touching them."""

from __future__ import annotations

import math

import pytest
import torch

from genrl.models.ensemble import DynamicsEnsemble


@pytest.fixture
def ensemble() -> DynamicsEnsemble:
    torch.manual_seed(0)
    return DynamicsEnsemble(deter_dim=6, num_members=4, num_variables=3, num_classes=5, hidden_dim=8)


def test_equal_members_do_not_disagree(ensemble: DynamicsEnsemble) -> None:
    with torch.no_grad():
        ensemble.weight.zero_()
    assert ensemble.disagreement(torch.randn(2, 7, 6)).abs().max() < 1e-5


def test_members_that_are_sure_of_different_classes_disagree_by_the_logarithm_of_their_number(
    ensemble: DynamicsEnsemble,
) -> None:
    with torch.no_grad():
        ensemble.weight.zero_()
        sure = 50.0 * torch.eye(4, 5)
        ensemble.bias.copy_(sure.repeat(1, 3)[:, None])
    disagreement = ensemble.disagreement(torch.randn(9, 6))
    # The uniform share of 0.01 in every distribution takes a little off log 4.
    torch.testing.assert_close(disagreement, torch.full((9,), math.log(4)), rtol=0.05, atol=0)


def test_the_members_learn_where_there_are_data_and_disagree_elsewhere(ensemble: DynamicsEnsemble) -> None:
    seen = torch.randn(64, 6)
    posterior = 3.0 * torch.randn(64, 3, 5)
    optimizer = torch.optim.Adam(ensemble.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        ensemble.loss(seen, posterior).mean().backward()
        optimizer.step()
    assert ensemble.disagreement(5 * torch.randn(64, 6)).mean() > 1.5 * ensemble.disagreement(seen).mean()


def test_its_loss_moves_neither_states_nor_posterior(ensemble: DynamicsEnsemble) -> None:
    deter, posterior = torch.randn(2, 3, 6, requires_grad=True), torch.randn(2, 3, 3, 5, requires_grad=True)
    loss = ensemble.loss(deter, posterior)
    assert loss.shape == (2, 3)
    loss.sum().backward()
    assert deter.grad is None and posterior.grad is None and ensemble.weight.grad is not None


def test_gradients_of_the_disagreement_flow_to_the_states(ensemble: DynamicsEnsemble) -> None:
    deter = torch.randn(2, 6, requires_grad=True)
    ensemble.disagreement(deter).sum().backward()
    assert deter.grad is not None and deter.grad.abs().sum() > 0
