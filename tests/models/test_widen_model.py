"""`recipes/widen_model.py` doubles a model's units and changes nothing that it computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from genrl.behavior.actor_critic import ActorCriticConfig
from genrl.behavior.general import GeneralPolicy
from genrl.models.foundation import FoundationModel
from genrl.run.prompting import GENERAL
from tests.models.tiny import tiny_batch, tiny_model


@pytest.fixture
def widen_model(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("widen_model")


def test_a_wider_model_and_its_policy_do_the_same(widen_model: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, batch = tiny_model(code="probabilities"), tiny_batch()
    policy = GeneralPolicy.for_model(model, ActorCriticConfig(num_layers=1, hidden_dim=8))
    torch.nn.init.normal_(policy.networks.critic.output.weight)
    model.save(tmp_path / "model")
    policy.save(tmp_path / "model" / GENERAL)
    policy = GeneralPolicy.load(tmp_path / "model" / GENERAL, model)  # Whose slow critic is the critic.
    widen_model.main(widen_model.WidenConfig(str(tmp_path / "model"), tmp_path / "wider"))
    wider = FoundationModel.load(tmp_path / "wider")
    assert wider.config.world_model.rssm.deter_dim == 2 * model.config.world_model.rssm.deter_dim

    before, after = (m.world_model.observe(batch.frames, batch.action, batch.is_first) for m in (model, wider))
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.deter, before.deter.repeat(1, 1, 2), rtol=1e-4, atol=1e-4)
    last = before.map(lambda x: x[:, -1])
    ahead, wide_ahead = (
        m.world_model.rssm.dynamics.rollout(s.map(lambda x: x[:, -1]), batch.action)
        for m, s in ((model, before), (wider, after))
    )
    torch.testing.assert_close(wide_ahead.logits, ahead.logits, rtol=1e-4, atol=1e-4)
    goal = F.normalize(torch.randn(len(last.deter), model.spec.embed_dim), dim=-1)
    assert wider.target(goal, 3, align=True).stoch.equal(model.target(goal, 3, align=True).stoch)

    wide_policy = GeneralPolicy.load(tmp_path / "wider" / GENERAL, wider)
    for own, wide in (
        (policy.actor(goal).best(before.features[:, -1]), wide_policy.actor(goal).best(after.features[:, -1])),
        (
            policy.bind(goal[0]).target_value(before.features),
            wide_policy.bind(goal[0]).target_value(after.features),
        ),
    ):
        torch.testing.assert_close(wide, own, rtol=1e-3, atol=1e-3)


def test_the_two_halves_of_a_unit_part_when_training_goes_on(widen_model: ModuleType) -> None:
    model, batch = tiny_model(), tiny_batch()
    wider = widen_model.widened(model, 0.5)
    states = wider.world_model.observe(batch.frames, batch.action, batch.is_first)
    wider.world_model.rssm.dynamics.head(states.deter).square().mean().backward()
    gradient = wider.world_model.rssm.dynamics.cell.gates.weight.grad
    first, second = gradient.unflatten(0, (3, 2, -1)).unbind(1)
    assert not torch.allclose(first, second, rtol=0.1, atol=0)


def test_what_else_reads_the_recurrent_state_is_not_widened(widen_model: ModuleType) -> None:
    with pytest.raises(ValueError, match="ensemble"):
        widen_model.widened(tiny_model(ensemble=2), 0.5)
