"""The optimiser step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from genrl.infra.checkpoint import load_checkpoint, save_checkpoint
from genrl.infra.optim import Optimizer, OptimizerConfig, step_together


def test_gradients_are_clipped_to_the_total_norm_which_is_returned_unclipped() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    optimizer = Optimizer([parameter], OptimizerConfig(learning_rate=1.0, eps=1.0, clip=1.0, weight_decay=0.0))
    assert optimizer.step().item() == pytest.approx(5.0)
    # First Adam step: lr * g / (|g| + eps) with the clipped gradient (0.6, 0.8).
    torch.testing.assert_close(parameter.data, torch.tensor([-0.6 / 1.6, -0.8 / 1.8]), rtol=1e-4, atol=1e-5)


def test_decay_reaches_parameters_without_a_gradient_and_ignores_the_learning_rate() -> None:
    with_gradient, without = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    with_gradient.grad = torch.zeros(1)
    Optimizer([with_gradient, without], OptimizerConfig(learning_rate=1e-9, weight_decay=0.1)).step()
    assert with_gradient.item() == pytest.approx(0.9) and without.item() == pytest.approx(0.9)


def test_moments_survive_a_file_whatever_the_memory_format_of_the_parameter(tmp_path: Path) -> None:
    def start() -> nn.Parameter:
        torch.manual_seed(0)
        return nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))

    def step(parameter: nn.Parameter, optimizer: Optimizer, index: int) -> None:
        gradient = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(index))
        parameter.grad = gradient.to(memory_format=torch.channels_last)
        optimizer.step()

    config = OptimizerConfig(learning_rate=0.1)
    whole = start()
    optimizer = Optimizer([whole], config)
    step(whole, optimizer, 0)
    save_checkpoint(tmp_path / "moments", optimizer.state_tensors(), {})
    resumed = nn.Parameter(whole.detach().clone(memory_format=torch.preserve_format))
    again = Optimizer([resumed], config)
    again.load_state(load_checkpoint(tmp_path / "moments")[0])
    for parameter, one in ((whole, optimizer), (resumed, again)):
        step(parameter, one, 1)
        step(parameter, one, 2)
    assert whole.equal(resumed)


@pytest.mark.parametrize("broken", [0, 1])
def test_of_optimisers_together_none_moves_where_one_norm_or_a_loss_is_not_finite(broken: int) -> None:
    parameters = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizers = {str(i): Optimizer([own], OptimizerConfig(learning_rate=0.1)) for i, own in enumerate(parameters)}

    def step(values: list[float], finite: bool = True) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.grad = torch.full((2,), value)
        return step_together(optimizers, torch.tensor(finite))

    before = [parameter.detach().clone() for parameter in parameters]
    norms, moved = step([torch.inf if i == broken else 1.0 for i in range(2)])
    assert [norm.isfinite().item() for norm in norms.values()] == [i != broken for i in range(2)] and not moved
    assert not step([1.0, 1.0], finite=False)[1]
    assert all(parameter.equal(old) for parameter, old in zip(parameters, before, strict=True))
    assert all(parameter.grad is None for parameter in parameters)
    assert step([1.0, 1.0])[1]
    # The first step that counts is Adam's first: the whole rate, after the decay.
    for parameter in parameters:
        torch.testing.assert_close(parameter.data, torch.full((2,), 1 - 1e-6 - 0.1))


def test_the_rate_of_a_schedule_holds_until_it_is_set_again() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = Optimizer([parameter], OptimizerConfig(learning_rate=0.1, weight_decay=0.0))
    optimizer.set_rate(0.5)
    for _ in range(2):
        parameter.grad = torch.ones(1)
        optimizer.step()
    assert parameter.item() == pytest.approx(-0.1, rel=1e-5)
