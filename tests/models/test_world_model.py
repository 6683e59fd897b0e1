"""The world model against the step-by-step definition, and its gradients."""

from __future__ import annotations

import pytest
import torch

from genrl.models.decoder import reconstruction_loss
from genrl.models.encoder import frames_from_images, normalise_frames
from genrl.models.rssm import balanced_kl
from genrl.models.state import LatentState
from genrl.nn.distributions import kl_divergence, mixed_probs, straight_through
from tests.models.tiny import tiny_batch, tiny_model


def test_observing_in_parallel_equals_stepping_through_time() -> None:
    world_model, batch = tiny_model().world_model, tiny_batch()
    is_first = batch.is_first.clone()
    is_first[0, 3] = is_first[1, 0] = True
    logits, stoch = world_model.encode(batch.frames, mode=True)
    states, prior = world_model.rssm.observe(logits, stoch, batch.action, is_first)
    dynamics = world_model.rssm.dynamics
    state = dynamics.zero_state(2, torch.device("cpu"))
    for t in range(batch.action.shape[1]):
        keep = 1.0 - is_first[:, t].float()
        masked = LatentState(state.deter * keep[:, None], state.stoch * keep[:, None, None], state.logits)
        step = dynamics.step(masked, batch.action[:, t] * keep[:, None], mode=True)
        torch.testing.assert_close(states.deter[:, t], step.deter)
        torch.testing.assert_close(prior[:, t], step.logits)
        state = LatentState(step.deter, stoch[:, t], logits[:, t])


def test_a_posterior_does_not_depend_on_the_past() -> None:
    world_model, batch = tiny_model().world_model, tiny_batch()
    whole, _ = world_model.encode(batch.frames)
    alone, _ = world_model.encode(batch.frames[:, 5])
    torch.testing.assert_close(whole[:, 5], alone, rtol=1e-4, atol=1e-5)


def test_probabilities_as_code_are_what_observing_filtering_and_imagining_carry() -> None:
    world_model, batch = tiny_model(code="probabilities").world_model, tiny_batch()
    rssm, dynamics = world_model.rssm, world_model.rssm.dynamics
    states = world_model.observe(batch.frames, batch.action, batch.is_first)
    assert states.stoch.equal(mixed_probs(states.logits))
    # A sampled model's GRU that is given probabilities goes the same way; nothing is left to chance.
    sampled = tiny_model().world_model
    sampled.load_state_dict(world_model.state_dict())
    expected, _ = sampled.rssm.observe(states.logits, mixed_probs(states.logits), batch.action, batch.is_first)
    torch.testing.assert_close(states.deter, expected.deter)
    embed, state = world_model.encoder(normalise_frames(batch.frames)), dynamics.zero_state(2, torch.device("cpu"))
    for t in range(batch.action.shape[1]):
        state = rssm.filter(state, batch.action[:, t], embed[:, t])
        torch.testing.assert_close(state.features, states.features[:, t])
    imagined = dynamics.rollout(state, batch.action)
    assert imagined.stoch.equal(mixed_probs(imagined.logits))


def test_dynamics_that_read_probabilities_learn_from_samples_too() -> None:
    rssm = tiny_model(code="probabilities").world_model.rssm
    logits = torch.randn(5, 2, 3, 4)
    sample = straight_through(logits)
    learnt_from = rssm.learn_from(logits, sample)
    assert learnt_from[::2].equal(mixed_probs(logits)[::2]) and learnt_from[1::2].equal(sample[1::2])
    assert tiny_model().world_model.rssm.learn_from(logits, sample).equal(sample)


def test_the_decoder_equals_its_layers_applied_one_after_the_other() -> None:
    decoder = tiny_model().world_model.decoder
    stoch = torch.randn(2, 3, 3, 4)
    x = decoder.state_features(stoch).flatten(0, 1)[..., None, None]
    torch.testing.assert_close(decoder(stoch).flatten(0, 1), decoder.layers(x), rtol=1e-4, atol=1e-5)


def test_the_reconstruction_loss_is_that_of_the_images() -> None:
    decoder = tiny_model().world_model.decoder
    stoch, frames = torch.randn(2, 3, 3, 4), torch.randint(256, (2, 3, 64, 64, 3), dtype=torch.uint8)
    error = decoder(stoch) - normalise_frames(frames)
    loss = decoder.loss(stoch, frames)
    torch.testing.assert_close(loss, error.square().sum((-3, -2, -1)))
    parameters = list(decoder.parameters())
    ours = torch.autograd.grad(loss.sum(), parameters)
    theirs = torch.autograd.grad(error.square().sum(), parameters)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-2)


def test_frames_survive_the_way_into_the_model_and_back() -> None:
    frames = torch.arange(256, dtype=torch.uint8).reshape(16, 16, 1).expand(16, 16, 3)
    assert frames_from_images(normalise_frames(frames)).equal(frames)


def test_reconstruction_loss_sums_squares_without_a_half() -> None:
    black = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)  # -0.5 to a decoder
    images = torch.full((2, 4, 4, 3), 0.5, requires_grad=True)
    loss = reconstruction_loss(images, black)
    assert loss.tolist() == [48.0, 48.0]
    loss[1].backward()
    assert images.grad is not None and images.grad[0].eq(0).all() and images.grad[1].eq(2).all()


def test_free_nats_stop_the_gradient_of_a_small_kl() -> None:
    posterior = torch.randn(5, 3, 4, requires_grad=True)
    prior = posterior.detach() + 0.01
    loss = balanced_kl(posterior, prior, balance=0.85, free_nats=1.0)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([1.0] * 5) and posterior.grad is not None and not posterior.grad.any()


def test_kl_balance_divides_the_gradient_between_both_sides() -> None:
    posterior, prior = (torch.randn(1, 3, 4, requires_grad=True) for _ in range(2))
    balanced_kl(posterior, prior, balance=0.85, free_nats=0.0).sum().backward()
    plain_posterior, plain_prior = (x.detach().requires_grad_() for x in (posterior, prior))
    kl_divergence(plain_posterior, plain_prior).sum().backward()
    torch.testing.assert_close(posterior.grad, 0.15 * plain_posterior.grad)
    torch.testing.assert_close(prior.grad, 0.85 * plain_prior.grad)


def test_a_calibrated_posterior_tells_the_frames_apart_from_the_start() -> None:
    torch.manual_seed(0)
    world_model, frames = tiny_model().world_model, tiny_batch(4, 8).frames.flatten(0, 1)
    world_model.calibrate(frames, spread=2.0)
    logits = world_model.encode(frames)[0].detach()
    torch.testing.assert_close(logits.mean(0), torch.zeros(3, 4), rtol=0, atol=1e-4)
    torch.testing.assert_close(logits.std(0), torch.full((3, 4), 2.0), rtol=1e-3, atol=0)


def test_frames_alone_train_encoder_and_decoder_and_a_fixed_code_the_decoder_only() -> None:
    world_model, batch = tiny_model().world_model, tiny_batch()
    for fixed in (True, False):
        losses, _ = world_model.frame_losses(batch.frames, fixed_code=fixed)
        world_model.total_loss(losses).backward()
        assert world_model.decoder.input.weight.grad is not None
        assert (world_model.encoder.layers[0].weight.grad is None) == fixed
        assert all(parameter.grad is None for parameter in world_model.rssm.dynamics.parameters())


def test_the_uniform_prior_asks_for_nothing_of_a_uniform_posterior() -> None:
    world_model, batch = tiny_model().world_model, tiny_batch()
    with torch.no_grad():
        world_model.rssm.posterior_head.output.weight.zero_()
        world_model.rssm.posterior_head.output.bias.zero_()
    losses, _ = world_model.frame_losses(batch.frames)
    torch.testing.assert_close(losses["uniform_kl"], torch.zeros(2, 8), rtol=0, atol=1e-5)
