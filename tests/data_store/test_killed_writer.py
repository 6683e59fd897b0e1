"""A writer that is killed (SIGKILL) at random moments never costs a committed row."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from genrl.data.store import EmbeddingInfo, EmbeddingWriter, Store, StoreWriter
from genrl.infra.errors import UserError
from tests.data_store.counting import SPEC, assert_counts, counting_episode, write_counting

INFO = EmbeddingInfo("mini", 4, 8, "weights-1")
KILLS = 20


def write_episodes(path: Path, committed) -> None:
    """Add episodes of random length for ever; `committed` tells the frames that a flush has confirmed."""
    rng = np.random.default_rng()
    with StoreWriter.open(path, SPEC, shard_frames=64) as writer:
        while True:
            for _ in range(rng.integers(1, 4)):
                writer.add(counting_episode(int(rng.integers(1, 40)), writer.num_frames), "counter")
            writer.flush()
            committed.value = writer.num_frames


def write_embeddings(path: Path, committed) -> None:
    """Embed one row after the other few; row r holds the number r."""
    with EmbeddingWriter(path, INFO) as writer:
        while writer.done_rows < writer.num_rows:
            start = writer.done_rows
            rows = np.arange(start, min(start + 10, writer.num_rows))
            writer.write(start, np.repeat(rows[:, None], 4, axis=1))
            committed.value = writer.done_rows


def start(target, path: Path):
    """Run `target` in a process of its own; returns once it has confirmed its first commit."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["genrl.data.store"])
    committed = context.Value("q", -1)
    process = context.Process(target=target, args=(path, committed), daemon=True)
    process.start()
    deadline = time.monotonic() + 60
    while committed.value < 0:
        assert process.is_alive() and time.monotonic() < deadline, f"no commit, exit code {process.exitcode}"
        time.sleep(0.002)
    return process, committed


def kill_after(target, path: Path, seconds: float) -> int:
    """Kill a process that long after its first commit; what it had confirmed."""
    process, committed = start(target, path)
    time.sleep(seconds)
    process.kill()
    process.join()
    return committed.value


def test_another_process_that_writes_keeps_us_out_until_it_dies(tmp_path) -> None:
    process, _ = start(write_episodes, tmp_path / "store")
    with pytest.raises(UserError, match="another process"):
        StoreWriter.open(tmp_path / "store", SPEC)
    process.kill()
    process.join()
    StoreWriter.open(tmp_path / "store", SPEC).close()


def test_a_killed_writer_loses_nothing_it_had_committed(tmp_path) -> None:
    rng = np.random.default_rng(0)
    path, before = tmp_path / "store", 0
    for _ in range(KILLS):
        confirmed = kill_after(write_episodes, path, rng.uniform(0, 0.06))
        store = Store.open(path)
        assert store.num_frames >= max(confirmed, before)
        assert store.num_frames == store.episodes.length.sum()
        assert_counts(store)
        before = store.num_frames
    assert before > 64 * 3
    write_counting(path, [40])
    assert_counts(Store.open(path))


def test_a_killed_embedding_goes_on_from_rows_that_are_durable(tmp_path) -> None:
    rng = np.random.default_rng(0)
    path = write_counting(tmp_path / "store", [100] * 40)
    for _ in range(KILLS):
        confirmed = kill_after(write_embeddings, path, rng.uniform(0, 0.06))
        store = Store.open(path)
        done = store.embedded_rows("mini")
        assert done >= confirmed
        assert np.array_equal(store.read("embedding/mini", 0, done)[:, 2], np.arange(done).astype(np.float16))
    assert 20 * KILLS / 2 < done < 4000
