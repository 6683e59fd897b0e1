"""Episodes whose every number tells which row it belongs to."""

from __future__ import annotations

import numpy as np

from genrl.data.store import Episode, Store, StoreSpec, StoreWriter

SIZE = 8
SPEC = StoreSpec("walker", 2, "fast", "side", 2, 0.025, frame_size=SIZE, state_dim=3)


def counting_episode(rows: int, first: int = 0, embedding: str | None = None, dim: int = 4) -> Episode:
    """Row i of the episode holds the number first + i in every field; embeddings start at row 7."""
    number = np.arange(first, first + rows)
    embeddings = {}
    if embedding is not None:
        values = np.repeat((number % 1000 + 1)[:, None], dim, axis=1).astype(np.float16)
        values[:7] = 0
        embeddings[embedding] = values
    return Episode(
        frames=np.broadcast_to((number % 256).astype(np.uint8)[:, None, None, None], (rows, SIZE, SIZE, 3)),
        action=np.repeat(number[:, None], 2, axis=1).astype(np.float32) * 1e-5,
        reward=number.astype(np.float32),
        is_terminal=np.zeros(rows, bool),
        state=np.repeat(number[:, None], 3, axis=1).astype(np.float64),
        embeddings=embeddings,
    )


def write_counting(path, lengths, shard_frames=64, embedding=None, dim=4):
    """A store whose row r, over all episodes, holds the number r."""
    from genrl.data.store import EmbeddingInfo

    with StoreWriter.open(path, SPEC, shard_frames) as writer:
        if embedding is not None:
            writer.declare_embedding(EmbeddingInfo(embedding, dim, 8, "weights-1"))
        for rows in lengths:
            writer.add(counting_episode(rows, writer.num_frames, embedding, dim), source="counter")
    return path


def assert_counts(store: Store) -> None:
    """Every committed row of every field holds its own number, and the flags fit the table."""
    number = np.arange(store.num_frames)
    assert np.array_equal(store.read("reward", 0, store.num_frames), number)
    assert np.array_equal(store.read("state", 0, store.num_frames), np.repeat(number[:, None], 3, axis=1))
    assert np.allclose(store.read("action", 0, store.num_frames)[:, 1], number * 1e-5, atol=1e-7)
    frames = store.read("frames", 0, store.num_frames)
    assert np.array_equal(frames, np.broadcast_to((number % 256)[:, None, None, None], frames.shape))
    table = store.episodes
    assert np.array_equal(np.flatnonzero(store.read("is_first", 0, store.num_frames)), table.start)
    assert np.array_equal(np.flatnonzero(store.read("is_last", 0, store.num_frames)), table.start + table.length - 1)
    assert np.array_equal(table.start[1:], (table.start + table.length)[:-1])
