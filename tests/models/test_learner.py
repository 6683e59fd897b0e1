"""Pretraining updates: what moves, what does not, and that they learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from genrl.infra.errors import NonFiniteError, UserError
from genrl.infra.optim import OptimizerConfig
from genrl.models.foundation import FoundationModel
from genrl.models.latents import LatentBatch
from genrl.models.learner import FoundationLearner, FoundationLearnerConfig, LatentLearner
from tests.models.tiny import tiny_batch, tiny_model

FAST = FoundationLearnerConfig(OptimizerConfig(1e-2), OptimizerConfig(1e-2))


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return any(not value.equal(before[name]) for name, value in module.state_dict().items())


def test_an_update_trains_all_three_parts_and_without_embeddings_the_world_model_only() -> None:
    batch = tiny_batch()
    for with_embedding in (True, False):
        model = tiny_model()
        before = {name: snapshot(module) for name, module in model.named_children()}
        used = batch if with_embedding else type(batch)(**{**vars(batch), "embedding": None})
        FoundationLearner(model, FoundationLearnerConfig()).update(used)
        changed = {name: moved(module, before[name]) for name, module in model.named_children()}
        assert changed == {"world_model": True, "connector": with_embedding, "aligner": with_embedding}


def test_a_batch_is_memorised() -> None:
    torch.manual_seed(1)
    batch = tiny_batch(window=4)
    frames = torch.zeros_like(batch.frames)
    frames[:, :, :, 32:] = 255
    batch = type(batch)(**{**vars(batch), "frames": frames})
    learner = FoundationLearner(tiny_model(), FAST)
    losses = [learner.update(batch)["loss/reconstruction"].item() for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]


def test_a_loss_that_is_not_finite_moves_nothing() -> None:
    model, batch = tiny_model(), tiny_batch()
    batch.action[0, 0, 0] = float("nan")
    before = snapshot(model)
    with pytest.raises(NonFiniteError, match="kl"):
        FoundationLearner(model, FoundationLearnerConfig()).update(batch)
    assert not moved(model, before)


def test_in_bfloat16_losses_and_updates_are_near_those_of_float32() -> None:
    seen = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model, batch = tiny_model(), tiny_batch()
        learner = FoundationLearner(model, FoundationLearnerConfig(precision=precision))
        metrics = learner.update(batch)
        assert all(value.dtype == torch.float32 for value in [*metrics.values(), *model.parameters()])
        seen[precision] = metrics
    for name, value in seen["float32"].items():
        # Where rounding moves a probability across a random number, the two draw other samples.
        torch.testing.assert_close(seen["bfloat16"][name], value, rtol=0.03, atol=0.01, msg=name)


def test_the_latent_stage_learns_in_bfloat16() -> None:
    model, batch = tiny_model(), tiny_batch()
    logits = model.world_model.encode(batch.frames)[0].detach()
    latents = LatentBatch(logits, batch.action, batch.is_first, batch.embedding)
    before = snapshot(model.world_model.rssm.dynamics)
    LatentLearner(model, FoundationLearnerConfig(precision="bfloat16")).update_latents(latents)
    assert moved(model.world_model.rssm.dynamics, before)


def test_the_latent_stage_leaves_encoder_and_decoder_alone() -> None:
    model, batch = tiny_model(), tiny_batch()
    world_model = model.world_model
    frozen = [world_model.encoder, world_model.decoder, world_model.rssm.posterior_head]
    before = [snapshot(module) for module in frozen]
    dynamics_before = snapshot(world_model.rssm.dynamics)
    logits, _ = world_model.encode(batch.frames)
    latents = LatentBatch(logits.detach(), batch.action, batch.is_first, batch.embedding)
    learner = LatentLearner(model, FoundationLearnerConfig())
    learner.update_latents(latents)
    assert not any(moved(module, old) for module, old in zip(frozen, before, strict=True))
    assert moved(world_model.rssm.dynamics, dynamics_before)


def test_the_dynamics_gradient_of_the_latent_stage_is_that_of_the_joint_one() -> None:
    model, batch = tiny_model(), tiny_batch()
    parameters = list(model.world_model.rssm.dynamics.parameters())
    logits, stoch = model.world_model.encode(batch.frames, mode=True)
    joint, _, _ = model.world_model.losses(batch.frames, batch.action, batch.is_first, mode=True)
    latent, _, _ = model.world_model.latent_losses(logits.detach(), stoch.detach(), batch.action, batch.is_first)
    for ours, theirs in zip(
        torch.autograd.grad(latent["kl"].mean(), parameters),
        torch.autograd.grad(joint["kl"].mean(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_learner_resumes_from_its_state() -> None:
    batch = tiny_batch()
    one = FoundationLearner(tiny_model(), FAST)
    one.update(batch)
    two = FoundationLearner(tiny_model(), FAST)
    two.load_state(one.state_tensors(), one.state_meta())
    for learner in (one, two):
        torch.manual_seed(7)
        learner.update(batch)
    for name, value in one.model.state_dict().items():
        assert value.equal(two.model.state_dict()[name]), name


def test_a_model_on_disk_is_the_same_model(tmp_path: Path) -> None:
    model = tiny_model()
    model.save(tmp_path / "model")
    loaded = FoundationModel.load(tmp_path / "model")
    assert loaded.spec == model.spec and loaded.config == model.config
    for name, value in model.state_dict().items():
        assert value.equal(loaded.state_dict()[name]), name


def test_a_directory_that_holds_no_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(tmp_path)):
        FoundationModel.load(tmp_path / "nothing")


def test_a_mismatch_names_what_differs() -> None:
    with pytest.raises(UserError, match="look 'paper'.*'fast'"):
        tiny_model().check_spec("store x", domain="walker", look="paper")
