"""`genrl embed` fills a store, whatever interrupts it."""

from __future__ import annotations

import multiprocessing
import time

import numpy as np
import pytest
import torch

from genrl.data.store import Episode, Store, StoreSpec, StoreWriter
from genrl.infra.errors import UserError
from genrl.run.embed import EmbedConfig, embed
from tests.vlm.tiny import noise, tiny_vlm

LENGTHS = (30, 5, 51, 9)
SHARD = 32


@pytest.fixture
def store(tmp_path):
    """Episodes of noise, one of them shorter than a clip, over several shards."""
    path = tmp_path / "store"
    spec = StoreSpec("walker", 2, "fast", "side", 2, 0.025)
    with StoreWriter.open(path, spec, shard_frames=SHARD) as writer:
        for number, length in enumerate(LENGTHS):
            frames = noise(length, 64, 64, seed=number).numpy()
            zeros = np.zeros(length, np.float32)
            episode = Episode(frames, np.zeros((length, 2), np.float32), zeros, zeros.astype(bool), None, {})
            writer.add(episode, "noise")
    return path


@pytest.fixture
def vlm(tmp_path):
    tiny_vlm().save(tmp_path / "vlm")
    return tmp_path / "vlm"


def expected() -> np.ndarray:
    model = tiny_vlm()
    rows = [model.embed_frames_sliding(noise(length, 64, 64, seed=i)) for i, length in enumerate(LENGTHS)]
    return torch.cat(rows).numpy()


def read(store) -> np.ndarray:
    opened = Store.open(store)
    return opened.read("embedding/mini", 0, opened.num_frames).astype(np.float32)


def test_every_row_holds_the_clip_that_ends_there_within_its_episode(store, vlm) -> None:
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    assert np.allclose(read(store), expected(), atol=2e-3)
    assert Store.open(store).embedding_info("mini").checksum == tiny_vlm().checksum
    assert not read(store)[30:35].any()


def test_a_directory_of_stores_embeds_them_all(store, vlm) -> None:
    assert embed(EmbedConfig((store.parent,), str(vlm), "cpu")) == [store]
    assert Store.open(store).embedded_rows("mini") == sum(LENGTHS)


def test_after_a_stop_the_same_command_embeds_the_rest_only(store, vlm, monkeypatch) -> None:
    from genrl.run import embed as module

    embed_rows, starts = module.embed_rows, []

    def stops_at_the_third(opened, model, start, stop):
        starts.append(start)
        if len(starts) == 3:
            raise KeyboardInterrupt
        return embed_rows(opened, model, start, stop)

    monkeypatch.setattr(module, "embed_rows", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        embed(EmbedConfig((store,), str(vlm), "cpu"))
    assert Store.open(store).embedded_rows("mini") == 2 * SHARD
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    assert starts == [0, SHARD, 2 * SHARD, 2 * SHARD]
    assert np.allclose(read(store), expected(), atol=2e-3)


def test_killed_at_random_moments_it_still_completes_the_column(store, vlm) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["genrl.run.embed"])
    rng = np.random.default_rng(0)
    for _ in range(4):
        process = context.Process(target=embed, args=(EmbedConfig((store,), str(vlm), "cpu"),))
        process.start()
        time.sleep(rng.uniform(0.1, 0.6))
        process.kill()
        process.join()
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    assert np.allclose(read(store), expected(), atol=2e-3)


def test_a_finished_store_says_so_and_computes_nothing(store, vlm, monkeypatch, capsys) -> None:
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    monkeypatch.setattr("genrl.run.embed.embed_rows", None)
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    assert "complete" in capsys.readouterr().err


def test_embeddings_of_other_weights_are_refused_and_fresh_replaces_them(store, vlm, tmp_path) -> None:
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    before = read(store)
    tiny_vlm(seed=1).save(tmp_path / "other")
    with pytest.raises(UserError, match="--fresh"):
        embed(EmbedConfig((store,), str(tmp_path / "other"), "cpu"))
    assert np.array_equal(read(store), before)
    embed(EmbedConfig((store,), str(tmp_path / "other"), "cpu", fresh=True))
    assert Store.open(store).embedding_info("mini").checksum == tiny_vlm(1).checksum
    assert not np.allclose(read(store), before, atol=0.05)


def test_no_store_is_refused(tmp_path, vlm) -> None:
    with pytest.raises(UserError, match="--data"):
        embed(EmbedConfig((), str(vlm), "cpu"))
    with pytest.raises(UserError, match="does not exist"):
        embed(EmbedConfig((tmp_path / "absent",), str(vlm), "cpu"))
