"""Connector and aligner."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from genrl.models.connector import clip_embeddings
from genrl.models.state import LatentState
from genrl.nn.distributions import straight_through
from tests.models.tiny import tiny_batch, tiny_model


def test_clip_embeddings_give_each_group_the_embedding_of_its_last_row() -> None:
    embedding = torch.arange(8.0).reshape(1, 8, 1)
    assert clip_embeddings(embedding, 4).flatten().tolist() == [3.0] * 4 + [7.0] * 4


def test_a_window_that_is_no_multiple_of_a_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        clip_embeddings(torch.zeros(1, 6, 1), 4)


def test_the_connector_reads_unit_root_mean_square() -> None:
    connector = tiny_model().connector
    embedding = F.normalize(torch.randn(3, 10), dim=-1)
    torch.testing.assert_close(connector.inputs(embedding).square().mean(-1), torch.ones(3))


def test_the_connector_learns_from_draws_where_the_world_model_carries_probabilities() -> None:
    model, batch = tiny_model(code="probabilities"), tiny_batch()
    posterior = model.world_model.observe(batch.frames, batch.action, batch.is_first)
    clips = clip_embeddings(batch.embedding, 4)
    sampled = tiny_model()
    sampled.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    loss = model.connector.loss(clips, posterior)
    torch.manual_seed(1)
    drawn = LatentState(posterior.deter, straight_through(posterior.logits.detach()), posterior.logits)
    torch.testing.assert_close(loss, sampled.connector.loss(clips, drawn))
    target = model.target(batch.embedding[:, 0], 3, align=False)
    assert target.stoch.amax(-1).eq(1).all()


def test_the_connector_never_moves_the_world_model() -> None:
    model, batch = tiny_model(), tiny_batch()
    posterior = model.world_model.observe(batch.frames, batch.action, batch.is_first)
    model.connector.loss(clip_embeddings(batch.embedding, 4), posterior).mean().backward()
    assert all(parameter.grad is None for parameter in model.world_model.parameters())
    assert model.connector.initial_deter[0].weight.grad.abs().sum() > 0


def test_imagination_equals_teacher_forcing_on_its_own_samples() -> None:
    connector = tiny_model().connector
    embedding = F.normalize(torch.randn(2, 1, 10), dim=-1).expand(-1, 6, -1)
    imagined = connector.imagine(embedding, mode=True)
    predicted = connector.predict(embedding, imagined.stoch, mode=True)
    torch.testing.assert_close(predicted.logits, imagined.logits)


def test_a_reset_keeps_the_sample_and_forgets_the_rest() -> None:
    connector = tiny_model().connector
    embedding = F.normalize(torch.randn(2, 1, 10), dim=-1).expand(-1, 4, -1)
    plain, reset = (connector.imagine(embedding, mode=True, reset_every=every) for every in (None, 2))
    torch.testing.assert_close(plain.deter[:, :2], reset.deter[:, :2])
    assert not torch.allclose(plain.deter[:, 2], reset.deter[:, 2])


def test_draws_without_temperature_are_the_modes() -> None:
    model = tiny_model()
    embedding = F.normalize(torch.randn(10), dim=-1)
    drawn = model.target_candidates(embedding, 6, 8)
    assert drawn.stoch.shape[:2] == (9, 6) and not drawn.stoch[1:].equal(drawn.stoch[:1].expand_as(drawn.stoch[1:]))
    mode = model.target(embedding[None], 6, align=False)
    assert drawn.stoch[:1].equal(mode.stoch)
    torch.testing.assert_close(drawn.deter[:1], mode.deter)


def test_longer_candidates_begin_as_the_shorter_ones() -> None:
    model = tiny_model()
    embedding = F.normalize(torch.randn(10), dim=-1)
    short, long = (model.target_candidates(embedding, steps, 8).stoch for steps in (4, 9))
    assert long[:, :4].equal(short)


def test_targets_have_the_asked_length_and_are_the_same_each_time() -> None:
    model = tiny_model()
    embedding = F.normalize(torch.randn(2, 10), dim=-1)
    first, second = (model.target(embedding, 5, align=True) for _ in range(2))
    assert first.deter.shape == (2, 5, 8)
    assert first.stoch.equal(second.stoch)


def test_noise_of_share_zero_leaves_embeddings_alone_and_of_one_replaces_them() -> None:
    aligner = tiny_model().aligner
    embedding = F.normalize(torch.randn(4, 10), dim=-1)
    noise = torch.randn(4, 10)
    mixed = aligner.corrupt(embedding, noise)
    expected = F.normalize(0.5 * embedding + 0.5 * F.normalize(noise, dim=-1), dim=-1)
    torch.testing.assert_close(mixed, expected)
    # Two orthogonal unit vectors in equal shares meet at 45 degrees.
    axis, other = torch.eye(10)[:1], torch.eye(10)[1:2]
    assert F.cosine_similarity(aligner.corrupt(axis, other), axis).item() == pytest.approx(math.sqrt(0.5))


def test_the_aligner_loss_is_one_minus_a_cosine() -> None:
    aligner = tiny_model().aligner
    embedding = F.normalize(torch.randn(4, 10), dim=-1)
    noise = torch.randn(4, 10)
    aligned = aligner.align(aligner.corrupt(embedding, noise))
    torch.testing.assert_close(aligner.loss(embedding, noise), 1 - (aligned * embedding).sum(-1))
