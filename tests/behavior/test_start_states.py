"""Data-free starts against their definition."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch

from genrl.behavior import start_states
from genrl.behavior.actor_critic import Actor
from genrl.behavior.start_states import StartConfig, data_free_starts, data_starts, initial_states, uniform_actions
from genrl.models.foundation import FoundationModel
from tests.models.tiny import tiny_batch, tiny_model


@pytest.fixture
def model() -> FoundationModel:
    return tiny_model().eval().requires_grad_(False)


def an_actor(model: FoundationModel) -> Actor:
    features = model.config.world_model.rssm.feature_dim
    return Actor(features, model.spec.action_dim, model.spec.discrete, 1, 8)


def test_initial_recurrent_states_are_zero_and_half_as_many_as_starts(model: FoundationModel) -> None:
    states = initial_states(model, StartConfig(num_starts=40))
    assert states.deter.shape == (20, 8) and not states.deter.any()
    assert states.stoch.sum(-1).eq(1).all()


def test_uniform_states_are_uniform_over_classes_and_independent_between_variables(model: FoundationModel) -> None:
    stoch = initial_states(model, StartConfig(num_starts=40_000, uniform_share=1.0)).stoch
    deviation = math.sqrt(0.25 * 0.75 / 20_000)
    assert (stoch.mean(0) - 0.25).abs().max() < 5 * deviation
    together = (stoch[:, 0, 0] * stoch[:, 1, 0]).mean().item()
    assert together == pytest.approx(1 / 16, abs=5 * math.sqrt(1 / 16 * 15 / 16 / 20_000))


def test_each_state_as_a_whole_is_uniform_with_probability_one_half(
    model: FoundationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Marked samples: class 0 everywhere for uniform states, class 1 everywhere for the connector's.
    def marked(index: int):
        one_hot = torch.nn.functional.one_hot(torch.full((3,), index), 4).float()
        return lambda *args: one_hot.expand(10_000, 3, 4)

    monkeypatch.setattr(start_states, "uniform_samples", marked(0))
    monkeypatch.setattr(start_states, "connector_samples", marked(1))
    stoch = initial_states(model, StartConfig(num_starts=20_000)).stoch
    uniform = stoch[:, :, 0]
    assert (uniform.sum(1) % 3 == 0).all(), "states mix both kinds"
    assert uniform[:, 0].mean().item() == pytest.approx(0.5, abs=5 * 0.5 / 100)


def test_connector_states_come_from_unit_noise_of_its_own_at_each_of_sixteen_steps(model: FoundationModel) -> None:
    with (
        mock.patch.object(model.aligner, "align", wraps=model.aligner.align) as align,
        mock.patch.object(model.connector, "imagine", wraps=model.connector.imagine) as imagine,
    ):
        initial_states(model, StartConfig(num_starts=80))
    noise = align.call_args.args[0]
    assert noise.shape == (3, 16, 10)  # 40 states need three trajectories of sixteen steps
    torch.testing.assert_close(noise.norm(dim=-1), torch.ones(3, 16))
    assert (noise[:, 0] - noise[:, 1]).abs().max() > 0.1
    assert imagine.call_args.args[0].shape == (3, 16, 10)
    assert not imagine.call_args.kwargs.get("mode", False) and len(imagine.call_args.args) == 1


def test_five_steps_of_warm_up_from_the_same_states_once_with_each_kind_of_action(model: FoundationModel) -> None:
    actor = an_actor(model)
    dynamics = model.world_model.rssm.dynamics
    with (
        mock.patch.object(dynamics, "step", wraps=dynamics.step) as step,
        mock.patch.object(model.connector.dynamics, "step", wraps=model.connector.dynamics.step),
        mock.patch.object(actor, "sample", wraps=actor.sample) as sample,
    ):
        starts = data_free_starts(model, actor, StartConfig(num_starts=40))
    assert starts.deter.shape == (40, 8) and starts.deter.any()
    assert step.call_count == 5 and sample.call_count == 5
    first = step.call_args_list[0].args[0]
    assert first.stoch[:20].equal(first.stoch[20:]) and not first.deter.any()
    assert sample.call_args.args[0].equal(step.call_args.args[0].features[20:])


def test_uniform_actions_fill_the_whole_range(model: FoundationModel) -> None:
    action = uniform_actions(model, 20_000)
    assert action.min() < -0.99 and action.max() > 0.99 and action.abs().max() <= 1
    assert action.mean(0).abs().max() < 5 * math.sqrt(1 / 3 / 20_000)


def test_uniform_discrete_actions_are_one_hot() -> None:
    action = uniform_actions(tiny_model(discrete=True), 300)
    assert action.sum(-1).eq(1).all() and action.mean(0).min() > 0.2


def test_starts_from_data_are_all_posterior_states_of_the_windows(model: FoundationModel) -> None:
    batch = tiny_batch(batch_size=3, window=8)
    assert data_starts(model, batch).deter.shape == (24, 8)


def test_an_odd_number_of_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="num-starts"):
        StartConfig(num_starts=3)
