"""`genrl train-vlm` from nothing to a model and a report."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from genrl.data.store import Episode, StoreSpec, StoreWriter
from genrl.infra.checkpoint import load_checkpoint
from genrl.infra.errors import UserError
from genrl.run.train_vlm import TrainVlmConfig, train_vlm
from genrl.vlm.bodies import CONCEPTS
from genrl.vlm.contrastive import ContrastiveConfig, ContrastiveLearner
from genrl.vlm.registry import load_vlm
from tests.vlm.tiny import TINY

pytestmark = pytest.mark.gl


@pytest.fixture
def config(tmp_path):
    return TrainVlmConfig(
        tmp_path / "run",
        clips=54,
        test_clips=27,
        updates=4,
        model=TINY,
        learning=ContrastiveConfig(batch_size=8),
        device="cpu",
        save_every=1,
    )


def walker_store(path, domain="walker", state_dim=18):
    """A walker that stands still: eleven episodes, so that one is kept for testing."""
    with StoreWriter.open(path, StoreSpec(domain, 6, "fast", "side", 2, 0.025, state_dim=state_dim)) as writer:
        for _ in range(11):
            zeros = np.zeros(20, np.float32)
            state = np.zeros((20, state_dim)) if state_dim else None
            frames = np.full((20, 64, 64, 3), 7, np.uint8)
            writer.add(Episode(frames, np.zeros((20, 6), np.float32), zeros, zeros.astype(bool), state, {}), "still")
    return path


def test_it_trains_measures_and_after_a_stop_ends_with_the_same_weights(config, tmp_path, monkeypatch) -> None:
    directory = train_vlm(config)
    assert load_vlm(str(config.out)).embed_dim == TINY.embed_dim
    report = json.loads((config.out / "report.json").read_text())
    assert {"walker: captions, own look", "walker: held-out wordings, own look"} <= set(report)
    clips = [group["clips"] for name, group in report.items() if "held-out wordings, " in name]
    assert sum(clips) == 2 * 27  # of both looks, texts read and unread

    stopped = dataclasses.replace(config, out=tmp_path / "stopped")
    update = ContrastiveLearner.update

    def killed_at_the_third(self, number):
        if number == 2:
            raise KeyboardInterrupt
        return update(self, number)

    monkeypatch.setattr(ContrastiveLearner, "update", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        train_vlm(stopped)
    monkeypatch.setattr(ContrastiveLearner, "update", update)
    whole, resumed = load_checkpoint(directory)[0], load_checkpoint(train_vlm(stopped))[0]
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_a_kept_video_tower_stays_as_it_is_while_words_are_learnt(config, tmp_path) -> None:
    first = train_vlm(config)
    near = dataclasses.replace(config.learning, neighbours=4)
    words = dataclasses.replace(config, out=tmp_path / "words", video_tower=first, seed=1, learning=near)
    old, new = load_checkpoint(first)[0], load_checkpoint(train_vlm(words))[0]
    same = {name for name in old if old[name].equal(new[name])}
    assert {name for name in old if name.startswith("video.")} <= same
    assert "text.project.weight" not in same
    concepts = new["text.concepts"].float()
    assert 1 < len(concepts) <= len(CONCEPTS)
    assert torch.allclose(concepts.norm(dim=-1), torch.ones(len(concepts)), atol=1e-2)
    wider = dataclasses.replace(words, fresh=True, model=dataclasses.replace(TINY, feature_dim=32))
    with pytest.raises(UserError, match="--video-tower .* has --model.feature-dim 16, here it is 32"):
        train_vlm(wider)


def test_runs_of_other_seeds_may_share_their_clips(config, tmp_path) -> None:
    one = dataclasses.replace(config, updates=1)
    other = dataclasses.replace(one, out=tmp_path / "other", seed=1, clip_seed=0)
    models = [load_checkpoint(train_vlm(run))[0] for run in (one, other)]
    shards = [load_checkpoint(run.out / "clips/walker/train_puppet_0000")[0] for run in (one, other)]
    assert shards[0]["frames"].equal(shards[1]["frames"])
    assert not models[0]["text.project.weight"].equal(models[1]["text.project.weight"])


def test_a_start_keeps_what_it_says_of_its_bodies_while_another_body_joins(config, tmp_path) -> None:
    first = train_vlm(config)
    two = dataclasses.replace(
        config,
        out=tmp_path / "two",
        domains=("walker", "stickman"),
        start=first,
        updates=12,
        learning=ContrastiveConfig(batch_size=8, learning_rate=1e-2, warmup=1, anchor_weight=20.0),
        seed=1,
    )
    free = dataclasses.replace(
        two, out=tmp_path / "free", learning=dataclasses.replace(two.learning, anchor_weight=0.0)
    )
    frames = load_checkpoint(config.out / "clips" / "walker" / "test_puppet_0000")[0]["frames"]
    old = load_vlm(str(config.out)).embed_video(frames)
    kept = (load_vlm(str(train_vlm(two).parent)).embed_video(frames) * old).sum(-1).mean()
    moved = (load_vlm(str(train_vlm(free).parent)).embed_video(frames) * old).sum(-1).mean()
    assert kept > moved
    shares = [json.loads((run.out / "report.json").read_text()) for run in (two, free)]
    stayed = [report["walker: captions, own look"]["stayed"] for report in shares]
    assert stayed[0] > stayed[1] and "stayed" not in shares[0]["stickman: captions, own look"]
    report = json.loads((two.out / "report.json").read_text())
    assert {"walker: captions, own look", "stickman: captions, own look"} <= set(report)
    with pytest.raises(UserError, match="--start .* has --model.feature-dim 16, here it is 32"):
        train_vlm(dataclasses.replace(two, fresh=True, model=dataclasses.replace(TINY, feature_dim=32)))
    with pytest.raises(UserError, match="exclude each other"):
        dataclasses.replace(two, video_tower=first)
    with pytest.raises(UserError, match="--learning.neighbours needs --video-tower"):
        dataclasses.replace(two, learning=ContrastiveConfig(neighbours=8))


def test_clips_of_a_store_join_the_puppets_and_are_measured_apart(config, tmp_path) -> None:
    train_vlm(dataclasses.replace(config, data=(walker_store(tmp_path / "store"),), store_clips=8))
    taken = load_checkpoint(config.out / "clips" / "walker" / "train_store_0000")[0]
    # Windows of 8 of 20 rows at every fourth: 4 of each of the 10 episodes to train on.
    assert taken["frames"].shape == (8, 8, 64, 64, 3) and bool((taken["frames"] == 7).all())
    assert "walker: captions, simulated" in json.loads((config.out / "report.json").read_text())


def test_stores_that_captions_cannot_be_made_from_are_refused(config, tmp_path) -> None:
    with pytest.raises(UserError, match="cheetah"):
        train_vlm(dataclasses.replace(config, data=(walker_store(tmp_path / "cheetah", domain="cheetah"),)))
    with pytest.raises(UserError, match="no simulator states"):
        train_vlm(dataclasses.replace(config, data=(walker_store(tmp_path / "blind", state_dim=0),), fresh=True))


def test_a_body_without_captions_is_refused_before_anything_is_written(config) -> None:
    with pytest.raises(UserError, match="octopus"):
        train_vlm(dataclasses.replace(config, domains=("walker", "octopus")))
    assert not config.out.exists()
