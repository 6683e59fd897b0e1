"""`genrl embed` fills a store, whatever interrupts it."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from genrl import cli
from genrl.data.embedding_parts import EmbeddingParts
from genrl.data.store import Episode, Store, StoreSpec, StoreWriter
from genrl.infra.errors import UserError
from genrl.run import sliding
from genrl.run.embed import EmbedConfig, embed
from genrl.run.embed_workers import Worker, WorkerConfig, embedding_info
from genrl.run.sliding import BLOCK_ROWS, SlidingEmbedder
from genrl.vlm.registry import ENTRIES, load_vlm, vlm_source
from tests.vlm.hf_tiny import make_hf
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


def bits(store, name: str = "mini") -> np.ndarray:
    """The column, bit by bit."""
    opened = Store.open(store)
    return opened.read(f"embedding/{name}", 0, opened.num_frames).view(np.uint16)


def copy_of(store, path):
    shutil.copytree(store, path)
    return path


def counted_rows(config: EmbedConfig) -> int:
    """Does what the config says; how many rows passed the model in this process."""
    rows, count = SlidingEmbedder.rows, 0

    def counts(embedder, start, stop):
        nonlocal count
        count += stop - start
        return rows(embedder, start, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SlidingEmbedder, "rows", counts)
        embed(config)
    return count


def test_every_row_holds_the_clip_that_ends_there_within_its_episode(store, vlm) -> None:
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    assert np.allclose(read(store), expected(), atol=2e-3)
    assert Store.open(store).embedding_info("mini").checksum == tiny_vlm().checksum
    assert not read(store)[30:35].any()


def test_a_directory_of_stores_embeds_them_all(store, vlm) -> None:
    assert embed(EmbedConfig((store.parent,), str(vlm), "cpu")) == [store]
    assert Store.open(store).embedded_rows("mini") == sum(LENGTHS)


def test_after_a_stop_the_same_command_embeds_the_rest_only(store, vlm, monkeypatch) -> None:
    rows, starts = SlidingEmbedder.rows, []

    def stops_at_the_third(embedder, start, stop):
        starts.append(start)
        if len(starts) == 3:
            raise KeyboardInterrupt
        return rows(embedder, start, stop)

    monkeypatch.setattr(SlidingEmbedder, "rows", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        embed(EmbedConfig((store,), str(vlm), "cpu"))
    assert Store.open(store).embedded_rows("mini") == 2 * SHARD
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    assert starts == [0, SHARD, 2 * SHARD, 2 * SHARD]
    assert np.allclose(read(store), expected(), atol=2e-3)


@pytest.mark.parametrize(("workers", "moments"), [(1, (0, SHARD, 2 * SHARD)), (2, (SHARD,))])
def test_killed_at_several_moments_it_ends_with_the_bytes_of_an_uninterrupted_run(
    store, vlm, tmp_path, workers, moments
) -> None:
    whole = copy_of(store, tmp_path / "whole")
    embed(EmbedConfig((whole,), str(vlm), "cpu"))
    config = EmbedConfig((store,), str(vlm), "cpu", workers=workers)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["genrl.run.embed"])
    done = [0]
    for rows in moments:
        process = context.Process(target=embed, args=(config,))
        process.start()
        while process.is_alive() and Store.open(store).embedded_rows("mini") < rows:
            time.sleep(0.002)
        process.kill()
        process.join()
        done.append(Store.open(store).embedded_rows("mini"))
    assert done == sorted(done) and done[1] < sum(LENGTHS)  # Killed while there was work to do.
    embed(config)
    assert np.array_equal(bits(store), bits(whole))
    column = {file.relative_to(whole): file.read_bytes() for file in whole.glob("embedding/**/*") if file.is_file()}
    assert len(column) > 4 and {file: (store / file).read_bytes() for file in column} == column


class Counting:
    """Embeds a frame as the number of frames it was given with: shows every difference between batches."""

    name, embed_dim, frames_per_clip, image_size, checksum = "counting", 2, 8, 64, "0"

    def embed_frames_sliding(self, frames):
        # The first pixel tells which frame it is.
        numbers = frames[:, 0, 0, 0].float()
        return torch.stack([numbers, torch.full_like(numbers, len(frames))], 1)


def test_the_model_sees_the_same_batches_wherever_shards_are_cut(tmp_path) -> None:
    found = []
    for shard in (16, 48, 512):
        path = tmp_path / str(shard)
        with StoreWriter.open(path, StoreSpec("walker", 2, "fast", "side", 2, 0.025), shard_frames=shard) as writer:
            for length in (200, 3, 65):
                frames = (
                    np.zeros((length, 64, 64, 3), np.uint8) + np.arange(length, dtype=np.uint8)[:, None, None, None]
                )
                zeros = np.zeros(length, np.float32)
                episode = Episode(frames, np.zeros((length, 2), np.float32), zeros, zeros.astype(bool))
                writer.add(episode, "counting")
        embedder = SlidingEmbedder(Store.open(path), Counting())
        cuts = [*range(0, 268, shard), 268]
        found.append(np.concatenate([embedder.rows(*rows) for rows in zip(cuts[:-1], cuts[1:], strict=True)]))
    blocks = [64] + 2 * [BLOCK_ROWS + 7] + [15, 3, 64, 8]
    sizes = [64, 64, 64, 8, 3, 64, 1]
    assert found[0][:, 1].tolist() == [float(b) for b, n in zip(blocks, sizes, strict=True) for _ in range(n)]
    assert found[0][:, 0].tolist() == [float(i) for length in (200, 3, 65) for i in range(length)]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_frames_are_read_while_the_model_computes_and_only_a_few_ahead(store, vlm, monkeypatch) -> None:
    monkeypatch.setattr(sliding, "BLOCK_ROWS", 8)
    opened, model, read_by_then = Store.open(store), load_vlm(str(vlm)), []
    reads, read_frames, compute = [], Store.read, model.embed_frames_sliding

    def slow(frames):
        # On a busy machine the reader gets as long as it needs, and then the time to read too much.
        allowed, deadline = min(14, len(read_by_then) + 1 + sliding.READ_AHEAD), time.monotonic() + 30
        while len(reads) < allowed and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(0.05)
        read_by_then.append(len(reads))
        return compute(frames)

    monkeypatch.setattr(Store, "read", lambda *args: (reads.append(args), read_frames(*args))[1])
    monkeypatch.setattr(model, "embed_frames_sliding", slow)
    SlidingEmbedder(opened, model).rows(0, opened.num_frames)
    ahead = [done - number for number, done in enumerate(read_by_then, start=1)]
    assert len(reads) == 4 + 1 + 7 + 2 and max(ahead) == sliding.READ_AHEAD == ahead[0]


def test_whoever_computes_the_shards_the_bytes_are_the_same(store, vlm, tmp_path) -> None:
    alone, pool, parts = (copy_of(store, tmp_path / name) for name in ("alone", "pool", "parts"))
    embed(EmbedConfig((alone,), str(vlm), "cpu"))
    embed(EmbedConfig((pool,), str(vlm), "cpu", workers=2))
    assert np.array_equal(bits(alone), bits(pool))

    elsewhere = copy_of(store, tmp_path / "elsewhere" / "parts")
    weights = copy_of(vlm, tmp_path / "elsewhere" / "vlm")  # Where they lie is each machine's affair.
    embed(EmbedConfig((elsewhere,), str(weights), "cpu", part="2/2"))
    embed(EmbedConfig((parts,), str(vlm), "cpu", part="1/2"))
    assert Store.open(parts).embeddings == [] and Store.open(elsewhere).embeddings == []
    shutil.copytree(elsewhere.parent / "parts.parts", tmp_path / "parts.parts", dirs_exist_ok=True)
    assert len(list((tmp_path / "parts.parts" / "mini").iterdir())) == 3
    computed = counted_rows(EmbedConfig((parts,), str(vlm), "cpu"))
    assert computed == 0 and np.array_equal(bits(alone), bits(parts))
    assert not (tmp_path / "parts.parts").exists()


def test_workers_compute_in_the_precision_and_with_the_frames_that_were_asked_for(
    store, tmp_path, monkeypatch, capsys
) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra vlm)")
    monkeypatch.chdir(tmp_path)
    make_hf(tmp_path / "weights", "clip")
    alone, exact = copy_of(store, tmp_path / "alone"), copy_of(store, tmp_path / "exact")
    shared = ("embed", "--vlm", "clip=weights", "--frames", "4", "--device", "cpu")
    assert cli.main([*shared, "--data", str(store), "--dtype", "bfloat16", "--workers", "2"]) == 0
    assert cli.main([*shared, "--data", str(alone), "--dtype", "bfloat16"]) == 0
    assert cli.main([*shared, "--data", str(exact)]) == 0
    assert np.array_equal(bits(store, "clip"), bits(alone, "clip"))
    rows, want = (Store.open(p).read("embedding/clip", 0, sum(LENGTHS)).astype(np.float32) for p in (store, exact))
    assert not rows[:3].any() and rows[3:30].any(1).all()  # Clips of 4 frames.
    assert not np.array_equal(rows, want) and (rows * want).sum(1)[3:30].min() > 0.99
    info = Store.open(store).embedding_info("clip")
    assert (info.frames_per_clip, info.source) == (4, f"clip={tmp_path / 'weights'}")
    capsys.readouterr()
    assert cli.main([*shared[:3], "--frames", "8", "--data", str(store), "--workers", "2", "--device", "cpu"]) == 2
    assert f"(checksum {info.checksum} with 4 frames, now {info.checksum} with 8)" in capsys.readouterr().err


def test_a_complete_column_follows_its_weights_without_computing(store, vlm, tmp_path) -> None:
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    moved = copy_of(vlm, tmp_path / "moved")
    assert counted_rows(EmbedConfig((store,), str(moved), "cpu", part="1/2")) == 0
    assert Store.open(store).embedding_info("mini").source == f"mini={vlm}"  # A part leaves the store as it is.
    assert counted_rows(EmbedConfig((store,), str(moved), "cpu")) == 0
    assert Store.open(store).embedding_info("mini").source == f"mini={moved}"
    assert Store.open(store).embedded_rows("mini") == sum(LENGTHS)


def test_a_part_goes_on_and_parts_that_do_not_fit_are_computed_anew(store, vlm, tmp_path) -> None:
    whole = copy_of(store, tmp_path / "whole")
    embed(EmbedConfig((whole,), str(vlm), "cpu"))
    config = EmbedConfig((store,), str(vlm), "cpu", part="1/1")
    embed(config)
    assert counted_rows(config) == 0
    assert counted_rows(replace(config, fresh=True)) == sum(LENGTHS)
    shards = sorted((tmp_path / "store.parts" / "mini").iterdir())
    meta = json.loads((shards[0] / "meta.json").read_text())
    meta["info"]["checksum"] = "another"  # Of other weights.
    (shards[0] / "meta.json").write_text(json.dumps(meta))
    meta = json.loads((shards[2] / "meta.json").read_text())
    meta["source"] = "another"  # Of other pictures.
    (shards[2] / "meta.json").write_text(json.dumps(meta))
    assert counted_rows(replace(config, part=None)) == SHARD + sum(LENGTHS) - 2 * SHARD
    assert np.array_equal(bits(store), bits(whole))


def test_after_new_episodes_the_parts_go_on_within_a_shard(store, vlm, tmp_path) -> None:
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    opened = Store.open(store)
    with StoreWriter.open(store, opened.spec) as writer:
        writer.add(opened.episode(2), "noise")
    whole = copy_of(store, tmp_path / "whole")
    embed(EmbedConfig((whole,), str(vlm), "cpu", fresh=True))
    embed(EmbedConfig((store,), str(vlm), "cpu", part="1/1"))
    assert sorted(path.name for path in (tmp_path / "store.parts" / "mini").iterdir()) == [
        "rows_000000064_000000096",  # Of which 31 rows were there.
        "rows_000000096_000000128",
        "rows_000000128_000000146",
    ]
    assert counted_rows(EmbedConfig((store,), str(vlm), "cpu")) == 0
    assert np.array_equal(bits(store), bits(whole))


def test_a_part_of_other_frames_is_not_taken(store, vlm, tmp_path) -> None:
    other = copy_of(store, tmp_path / "other")
    embed(EmbedConfig((other,), str(vlm), "cpu", part="1/1"))
    opened, info = Store.open(store), embedding_info(tiny_vlm(), "mini")
    assert EmbeddingParts(Store.open(other), info).read(0, SHARD) is not None
    shutil.move(tmp_path / "other.parts", tmp_path / "store.parts")
    assert EmbeddingParts(opened, info).read(0, SHARD) is not None
    shorter = tmp_path / "shorter"
    with StoreWriter.open(shorter, opened.spec, shard_frames=SHARD) as writer:
        for index in (1, 0, 2, 3):
            writer.add(opened.episode(index), "noise")
    shutil.move(tmp_path / "store.parts", tmp_path / "shorter.parts")
    assert EmbeddingParts(Store.open(shorter), info).read(0, SHARD) is None


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2"])
def test_a_part_that_is_none_is_refused(part) -> None:
    with pytest.raises(ValueError, match="--part must be I/N"):
        EmbedConfig((), part=part)


def test_on_a_ray_cluster_of_this_machine_the_bytes_are_the_same(store, vlm, tmp_path) -> None:
    pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    whole = copy_of(store, tmp_path / "whole")
    embed(EmbedConfig((whole,), str(vlm), "cpu"))
    embed(EmbedConfig((store,), str(vlm), "cpu", workers=2, ray="local"))
    assert np.array_equal(bits(store), bits(whole))


def test_without_ray_the_extra_is_named(store, vlm, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delenv("GENRL_TRACEBACK", raising=False)
    assert cli.main(["embed", "--data", str(store), "--vlm", str(vlm), "--ray", "local"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "genrl: error: this needs ray; install it with: pip install 'genrl-mfwm[ray]'"
    )


def test_a_worker_with_other_weights_refuses(vlm) -> None:
    info = replace(embedding_info(tiny_vlm(), vlm_source(str(vlm))), checksum="another")
    with pytest.raises(UserError, match="a worker has other weights under this name"):
        Worker(WorkerConfig(info, "cpu", "float32", 1))


def test_a_finished_store_says_so_and_computes_nothing(store, vlm, capsys) -> None:
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    assert counted_rows(EmbedConfig((store,), str(vlm), "cpu", workers=2)) == 0
    assert "complete" in capsys.readouterr().err


def test_models_lie_side_by_side_in_half_precision(store, vlm, monkeypatch) -> None:
    other = tiny_vlm(seed=1)
    other.name = "other"
    monkeypatch.setitem(ENTRIES, "other", replace(ENTRIES["mini"], name="other", load=lambda *_: other))
    embed(EmbedConfig((store,), str(vlm), "cpu"))
    before = bits(store)
    embed(EmbedConfig((store,), "other", "cpu"))
    opened = Store.open(store)
    assert opened.embeddings == ["mini", "other"]
    assert [opened.embedding_info(name).checksum for name in opened.embeddings] == [
        tiny_vlm().checksum,
        tiny_vlm(1).checksum,
    ]
    assert np.array_equal(bits(store), before) and not np.array_equal(bits(store, "other"), before)
    assert opened.read("embedding/other", 0, 9).dtype == np.float16


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
