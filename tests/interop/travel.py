"""Stores of known content that are exported and imported again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genrl.data.store import Episode, Store, StoreSpec, StoreWriter
from genrl.run.data import ImportConfig, import_

SPEC = StoreSpec("walker", 2, "fast", "side", 2, 0.025, frame_size=32, state_dim=3)


def run_import(source: Path, out: Path, **options):
    return import_(ImportConfig(source=source, out=out, **{"frame_size": 32, **options}))


def noisy_episode(rows: int, seed: int, prompt: str = "", spec: StoreSpec = SPEC) -> Episode:
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1, 1, (rows, spec.action_dim)).astype(np.float32)
    action[0] = 0
    size = spec.frame_size
    return Episode(
        frames=rng.integers(0, 256, (rows, size, size, 3), np.uint8),
        action=action,
        reward=rng.uniform(0, 1, rows).astype(np.float32) * (np.arange(rows) > 0),
        is_terminal=np.arange(rows) == rows - 1,
        state=rng.normal(size=(rows, 3)).astype(np.float32).astype(np.float64) if spec.state_dim else None,
        prompt=prompt,
    )


def write_store(path: Path, count: int = 3, spec: StoreSpec = SPEC) -> Store:
    with StoreWriter.open(path, spec) as writer:
        for number in range(count):
            source = ("expert", "random")[number % 2]
            writer.add(noisy_episode(9 + number, number, ("walk", "", "lie – down")[number % 3], spec), source)
    return Store.open(path)


def assert_same(one: Store, other: Store) -> None:
    """Frames, actions, words and sources are identical; the reward of a reset does not travel."""
    assert other.spec == one.spec
    assert len(other.episodes) == len(one.episodes)
    for index in range(len(one.episodes)):
        a, b = one.episode(index), other.episode(index)
        for name in ("frames", "action", "is_terminal", "state"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        assert np.array_equal(a.reward[1:], b.reward[1:]) and b.reward[0] == 0
        assert a.prompt == b.prompt
        assert one.sources[one.episodes.source[index]] == other.sources[other.episodes.source[index]]
