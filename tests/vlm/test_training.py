"""Contrastive training and its measure."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from genrl.vlm.behaviours import RETRIEVAL_CLASSES
from genrl.vlm.bodies import CONCEPTS
from genrl.vlm.captions import load_captions
from genrl.vlm.contrastive import ContrastiveConfig, ContrastiveLearner, LabelledClips, contrastive_loss, nearest
from genrl.vlm.mini import MiniVLM
from genrl.vlm.retrieval import measure_retrieval
from tests.vlm.tiny import noise, tiny_vlm

SCALE = torch.tensor(1.0)


def test_loss_of_two_pairs_at_right_angles() -> None:
    unit = torch.eye(2)
    expected = math.log(1 + math.exp(-1))
    assert torch.allclose(contrastive_loss(unit, unit, torch.eye(2).char(), SCALE), torch.tensor(expected))


def test_two_captions_of_one_clip_share_its_weight() -> None:
    video, text = torch.eye(2)[[0, 0]], torch.eye(2)[[0, 0]]
    loss = contrastive_loss(video, text, torch.ones(2, 2, dtype=torch.int8), SCALE)
    assert torch.allclose(loss, torch.tensor(math.log(2)))


def test_there_may_be_more_captions_than_clips() -> None:
    video, text = torch.eye(2), torch.eye(2)[[0, 1, 1]]
    shown = torch.tensor([[1, 0, 0], [0, 1, 1]], dtype=torch.int8)
    e = math.e
    by_clip = (math.log((e + 2) / e) + math.log((2 * e + 1) / e)) / 2
    by_text = math.log((e + 1) / e)
    assert torch.allclose(contrastive_loss(video, text, shown, SCALE), torch.tensor((by_clip + by_text) / 2))


def test_an_undecided_pair_neither_pulls_nor_pushes() -> None:
    video = torch.nn.functional.normalize(torch.randn(2, 4), dim=-1).requires_grad_()
    text = torch.nn.functional.normalize(torch.randn(2, 4), dim=-1)
    loss = contrastive_loss(video, text, torch.tensor([[1, -1], [-1, 1]], dtype=torch.int8), SCALE)
    loss.backward()
    assert torch.allclose(loss, torch.tensor(0.0), atol=1e-6)
    assert torch.allclose(video.grad, torch.zeros_like(video), atol=1e-6)


def two_classes(per_class: int = 8) -> LabelledClips:
    """Dark clips stand, bright ones run."""
    labels = np.zeros((2 * per_class, len(CONCEPTS)), np.int8)
    labels[:per_class, CONCEPTS.index("stand")] = 1
    labels[per_class:, CONCEPTS.index("run")] = 1
    frames = noise(2 * per_class, 8, 64, 64) // 2
    frames[per_class:] += 120
    return LabelledClips(frames, labels, torch.from_numpy(labels[:, :5].astype(np.float32)))


def learner(updates: int = 6, anchors: torch.Tensor | None = None) -> ContrastiveLearner:
    config = ContrastiveConfig(batch_size=16, learning_rate=3e-3, warmup=2)
    captions = {concept: wordings[:8] for concept, wordings in load_captions().items()}
    return ContrastiveLearner(tiny_vlm(), two_classes(), captions, config, updates, seed=0, anchors=anchors)


def run(trainer: ContrastiveLearner, updates: range) -> list[float]:
    losses = []
    for update in updates:
        torch.manual_seed(update)
        losses.append(float(trainer.update(update)["vlm/contrastive_loss"]))
    return losses


def test_a_short_training_tells_two_classes_apart() -> None:
    trainer = learner(24)
    # With 8 clips of each class and 4 captions of each clip the loss cannot fall below that of guessing among the
    # positives, 32 captions or 8 clips.
    floor = (math.log(32) + math.log(8)) / 2
    losses = run(trainer, range(24))
    assert losses[0] - floor > 0.65
    assert np.mean(losses[-4:]) - floor < 0.5


def test_a_resumed_training_repeats_an_uninterrupted_one() -> None:
    whole = run(learner(), range(4))
    first = learner()
    run(first, range(2))
    second = learner()
    second.load_state({name: tensor.clone() for name, tensor in first.state_tensors().items()}, {})
    assert run(second, range(2, 4)) == whole[2:]


def test_anchored_clips_stay_where_they_are_and_others_move() -> None:
    clips = two_classes()
    before = tiny_vlm().embed_video(clips.frames)
    anchors = before.clone()
    anchors[8:] = 0
    moved = {}
    for name, given in (("free", None), ("anchored", anchors)):
        trainer = learner(24, given)
        run(trainer, range(24))
        moved[name] = 1 - (trainer.model.eval().embed_video(clips.frames) * before).sum(-1)
    assert moved["anchored"][:8].mean() < 0.5 * moved["free"][:8].mean()
    assert moved["anchored"][8:].mean() > 2 * moved["anchored"][:8].mean()


def test_the_nearest_of_a_clip_are_others() -> None:
    angles = torch.tensor([0.0, 0.1, 0.3, 3.0])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    for chunk in (2, 1024):
        assert nearest(embeddings, 2, chunk).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert nearest(embeddings, 64).shape == (4, 3)


def test_every_second_clip_is_near_the_one_before_and_shows_something_else() -> None:
    clips = two_classes()
    # Clip i stands beside clip i + 8, which runs; a third of the pairs is undecided about running.
    clips.labels[[0, 3, 6], CONCEPTS.index("run")] = -1
    angle = torch.arange(8) * 0.5
    one = torch.stack([angle.cos(), angle.sin()], dim=1)
    captions = {concept: wordings[:8] for concept, wordings in load_captions().items()}
    config = ContrastiveConfig(batch_size=64, neighbours=1)
    trainer = ContrastiveLearner(tiny_vlm(), clips, captions, config, 2, 0, video_embeddings=torch.cat([one, one]))
    rows, texts, shown = trainer.draw(0)
    assert len(rows) == 64 and shown.shape == (64, 256)
    assert (shown[torch.arange(64).repeat_interleave(4), torch.arange(256)] == 1).all()
    pairs = [(int(a), int(b)) for a, b in rows.view(-1, 2)]
    assert all(b == (a + 8) % 16 for a, b in pairs if a not in (8, 11, 14))
    # Nothing near them is known not to run: their partners are drawn at random.
    assert {b for a, b in pairs if a in (8, 11, 14)} - {0, 3, 6}
    assert trainer.draw(0)[1] == texts


def test_a_measurement_that_a_body_lacks_is_not_learnt() -> None:
    clips = two_classes()
    clips.motion[:, 0] = math.nan
    trainer = learner()
    trainer.clips = clips
    trainer.update(0)
    assert trainer.motion_head.weight.grad[0].eq(0).all() and trainer.motion_head.weight.grad[1].ne(0).any()


class Oracle:
    """Embeds the wording of a concept as the concept's axis, plus noise of some size."""

    def __init__(self, wordings: dict[str, list[str]]) -> None:
        self.concept = {text: concept for concept, texts in wordings.items() for text in texts}

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        return torch.eye(len(CONCEPTS))[[CONCEPTS.index(self.concept[text]) for text in texts]]


def one_clip_of_each_class() -> np.ndarray:
    labels = np.zeros((len(RETRIEVAL_CLASSES), len(CONCEPTS)), np.int8)
    labels[np.arange(len(RETRIEVAL_CLASSES)), [CONCEPTS.index(name) for name in RETRIEVAL_CLASSES]] = 1
    return labels


def test_retrieval_of_an_oracle_is_perfect_and_of_noise_at_chance() -> None:
    labels, wordings = one_clip_of_each_class(), {name: load_captions()[name][:10] for name in RETRIEVAL_CLASSES}
    perfect = measure_retrieval(Oracle(wordings), torch.from_numpy(labels).float(), labels, wordings, RETRIEVAL_CLASSES)
    assert perfect.accuracy == 1 and perfect.candidates == 20
    generator = torch.Generator().manual_seed(0)
    guesses = [
        measure_retrieval(
            Oracle(wordings),
            torch.randn(len(labels), len(CONCEPTS), generator=generator),
            labels,
            wordings,
            RETRIEVAL_CLASSES,
        )
        for _ in range(10)
    ]
    assert np.mean([report.accuracy for report in guesses]) == pytest.approx(1 / 20, abs=0.04)


def test_a_wrong_clip_is_named_as_what_it_was_confused_with() -> None:
    labels = one_clip_of_each_class()
    embeddings = torch.from_numpy(labels).float()
    run_row, walk_row = RETRIEVAL_CLASSES.index("run"), RETRIEVAL_CLASSES.index("walk_forward")
    embeddings[walk_row] = 2 * embeddings[run_row]
    report = measure_retrieval(
        Oracle({"run": ["running"]}), embeddings, labels, {"run": ["running"]}, RETRIEVAL_CLASSES
    )
    assert list(report.confused_with["run"]) == ["walk_forward"]


def test_dropped_words_never_leave_a_caption_empty() -> None:
    torch.manual_seed(0)
    model = MiniVLM(dataclasses.replace(tiny_vlm().config, text_dropout=0.99), tiny_vlm().text.tokens).train()
    pooled = model.text.pool(["jump"] * 50)
    assert torch.allclose(pooled.norm(dim=-1), torch.ones(50), atol=1e-5)
