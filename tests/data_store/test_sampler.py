from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from genrl.data.sampler import WindowSampler
from genrl.data.store import EmbeddingInfo, EmbeddingWriter, StoreWriter
from genrl.infra.errors import UserError
from tests.data_store.counting import SPEC, counting_episode, write_counting

INFO = EmbeddingInfo("mini", 4, 8, "weights-1")


def embed(path, info=INFO, missing=()) -> None:
    """An embedding column whose row r holds r + 1, or zero for rows named as missing."""
    with EmbeddingWriter(path, info) as writer:
        rows = np.repeat(np.arange(1, writer.num_rows + 1)[:, None], info.dim, axis=1)
        rows[list(missing)] = 0
        writer.write(0, rows)


def assert_same(one, other) -> None:
    for field in dataclasses.fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        assert (left is None and right is None) or (left.dtype == right.dtype and left.equal(right)), field.name


def test_windows_are_consecutive_rows_of_one_episode(tmp_path) -> None:
    lengths = [12, 40, 16, 90]
    path = write_counting(tmp_path / "store", lengths, embedding="mini")
    sampler = WindowSampler([path], length=12, batch_size=32, seed=0, embedding="mini", rewards=True)
    episode_of = torch.from_numpy(np.repeat(np.arange(4), lengths))
    starts = torch.tensor([0, 12, 52, 68])
    for update in range(10):
        batch = sampler.batch(update)
        number = batch.reward.long()
        assert torch.equal(number, number[:, :1] + torch.arange(12))
        episode = episode_of[number]
        assert torch.equal(episode, episode[:, :1].expand_as(episode))
        assert torch.equal(batch.frames[:, :, 3, 5, 1].long(), number % 256)
        assert torch.allclose(batch.action[..., 1], number * 1e-5, atol=1e-7)
        assert torch.equal(batch.is_first, torch.isin(number, starts))
        assert batch.embedding is not None and batch.embedding.dtype == torch.float32
        step = number - starts[episode]
        assert torch.equal(batch.embedding[..., 2].long(), torch.where(step < 7, 0, number % 1000 + 1))
    assert batch.frames.shape == (32, 12, 8, 8, 3) and batch.frames.dtype == torch.uint8


def test_all_windows_are_equally_likely(tmp_path) -> None:
    first = write_counting(tmp_path / "first", [20, 15])
    second = write_counting(tmp_path / "second", [40])
    sampler = WindowSampler([first, second], length=10, batch_size=500, seed=3)
    assert sampler.num_windows == 11 + 6 + 31
    counts = {}
    draws = 100
    for update in range(draws):
        for key in zip(*map(np.ndarray.tolist, sampler.windows(update)), strict=True):
            counts[key] = counts.get(key, 0) + 1
    expected_keys = {(0, row) for row in [*range(11), *range(20, 26)]} | {(1, row) for row in range(31)}
    assert set(counts) == expected_keys
    expected = draws * 500 / 48
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    # Chi-square with 47 degrees of freedom: mean 47, standard deviation sqrt(94) = 9.7.
    assert abs(statistic - 47) < 5 * 9.7


def test_a_batch_depends_on_seed_and_update_alone(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [100, 50])
    sampler = WindowSampler([path], 10, 8, seed=1, rewards=True)
    expected = {update: sampler.batch(update) for update in range(6)}
    for update in (5, 0, 3, 3, 4):
        assert_same(sampler.batch(update), expected[update])
    other = WindowSampler([path], 10, 8, seed=1, read_ahead=0, rewards=True)
    assert_same(other.batch(4), expected[4])
    assert not other.batch(4).reward.equal(expected[5].reward)
    assert not WindowSampler([path], 10, 8, seed=2, rewards=True).batch(4).reward.equal(expected[4].reward)
    assert WindowSampler([path], 10, 8, seed=1).batch(4).reward is None


def test_a_resident_data_set_gives_the_same_batches(tmp_path) -> None:
    paths = [write_counting(tmp_path / name, [100, 50], embedding="mini") for name in ("a", "b")]
    from_disk = WindowSampler(paths, 10, 16, seed=1, embedding="mini", rewards=True)
    resident = WindowSampler(paths, 10, 16, seed=1, embedding="mini", resident="cpu", rewards=True)
    for update in range(5):
        assert_same(from_disk.batch(update), resident.batch(update))


def test_episodes_shorter_than_a_window_are_left_out_with_a_notice(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [9, 10, 30])
    with pytest.warns(UserWarning, match="episodes shorter than a window of 10 .*: 1"):
        sampler = WindowSampler([path], 10, 64, seed=0, rewards=True)
    assert sampler.num_windows == 1 + 21
    assert sampler.batch(0).reward.min() >= 9
    with pytest.warns(UserWarning), pytest.raises(UserError, match="no window of 31 frames"):
        WindowSampler([path], 31, 4, seed=0)


def test_windows_without_an_embedding_at_the_end_of_a_clip_are_left_out(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [40])
    embed(path, missing=[*range(8), 20])
    with pytest.warns(UserWarning, match="lack an embedding .*: 3"):
        sampler = WindowSampler([path], 16, 64, seed=0, embedding="mini")
    # Clips end at rows start + 7 and start + 15. Row 7 is missing (start 0), and row 20 (starts 13 and 5).
    starts = {int(row) for update in range(20) for row in sampler.windows(update)[1]}
    assert starts == set(range(25)) - {0, 5, 13}
    assert sampler.batch(0).embedding[:, [7, 15]].ne(0).all()


def test_missing_unfinished_or_foreign_embeddings_name_the_command(tmp_path) -> None:
    first, second = (write_counting(tmp_path / name, [40]) for name in ("first", "second"))
    embed(first)
    with pytest.raises(UserError, match=r"second has no embeddings.*genrl embed --data .*second --vlm mini"):
        WindowSampler([first, second], 16, 4, seed=0, embedding="mini")
    with EmbeddingWriter(second, INFO) as writer:
        writer.write(0, np.ones((10, 4)))
    with pytest.raises(UserError, match=r"10 of 40 frames.*genrl embed"):
        WindowSampler([first, second], 16, 4, seed=0, embedding="mini")
    with EmbeddingWriter(second, dataclasses.replace(INFO, checksum="weights-2"), fresh=True) as writer:
        writer.write(0, np.ones((40, 4)))
    with pytest.raises(UserError, match=r"weights-2 and weights-1.*genrl embed .*--fresh"):
        WindowSampler([first, second], 16, 4, seed=0, embedding="mini")


def test_stores_of_different_bodies_do_not_mix(tmp_path) -> None:
    first = write_counting(tmp_path / "first", [40])
    with StoreWriter.open(tmp_path / "second", dataclasses.replace(SPEC, domain="cheetah")) as writer:
        writer.add(counting_episode(40), "counter")
    with pytest.raises(UserError, match="domain 'walker'.*'cheetah'"):
        WindowSampler([first, tmp_path / "second"], 16, 4, seed=0)


def test_reading_ahead_passes_on_damage_as_one_line(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [64, 64])
    shard = next((path / "frames" / "c" / "1").rglob("0"))
    while shard.is_dir():
        shard = shard / "0"
    shard.write_bytes(b"damaged")
    sampler = WindowSampler([path], 16, 64, seed=0)
    with pytest.raises(UserError, match="frames cannot be read"):
        sampler.batch(0)
