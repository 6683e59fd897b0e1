from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from genrl.data.sampler import WindowSampler
from genrl.data.store import Store
from genrl.infra.errors import UserError
from genrl.interop.original import CorruptEpisodeError, read_original
from genrl.interop.original_import import report_path
from genrl.run.data import ExportConfig, ImportConfig, export, import_

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "original_stickman_episode.npz"


def arrays(rows=12, size=8, first=0, **changes) -> dict:
    """One episode as the original writes it; row i carries the number first + i."""
    number = np.arange(first, first + rows)
    flag = np.zeros(rows, bool)
    embedding = np.zeros((rows, 5), np.float32)
    embedding[7:, 0] = 1
    action = np.repeat(number[:, None], 3, axis=1).astype(np.float32) * 1e-6
    action[0] = 0
    values = {
        "observation": np.broadcast_to((number % 256).astype(np.uint8)[:, None, None, None], (rows, 3, size, size)),
        "action": action,
        "reward": number.astype(np.float32)[:, None],
        "discount": np.ones((rows, 1), np.float32),
        "is_first": np.arange(rows) == 0,
        "is_last": np.arange(rows) == rows - 1,
        "is_terminal": flag,
        "clip_video": embedding,
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def write(file: Path, **values) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **values)
    return file


def run_import(source: Path, out: Path, **options):
    return import_(ImportConfig(source=source, out=out, domain="stickman", frame_size=8, **options))


@pytest.mark.skipif(not SAMPLE.exists(), reason="the original's sample episode is not beside the repository")
def test_the_original_sample_episode_comes_through_whole(tmp_path) -> None:
    report = import_(ImportConfig(source=SAMPLE, out=tmp_path / "store"))  # the domain stands in the file's name
    assert (report.imported, report.frames, report.set_aside, report.ignored_arrays) == (1, 501, {}, {})
    store = Store.open(tmp_path / "store")
    assert (store.spec.domain, store.spec.action_dim, store.spec.look) == ("stickman", 10, "paper")
    episode = store.episode(0)
    with np.load(SAMPLE) as original:
        assert np.array_equal(episode.frames, original["observation"].transpose(0, 2, 3, 1))
        assert np.array_equal(episode.action, original["action"])
        assert np.array_equal(episode.reward, original["reward"][:, 0])
        assert np.abs(episode.embeddings["internvideo2"] - original["clip_video"]).max() < 5e-4
    # This file's first embedding is at row 8, one late: the window from row 0 lacks row 7.
    with pytest.warns(UserWarning, match="lack an embedding .*: 1"):
        sampler = WindowSampler([store.path], 48, 4, seed=0, embedding="internvideo2")
    assert sampler.num_windows == 501 - 48 + 1 - 1


def test_a_thousand_episodes_in_nested_folders(tmp_path) -> None:
    for index in range(1000):
        write(tmp_path / "data" / f"part_{index % 7}" / f"{index:04d}.npz", **arrays(first=100 * index))
    begin = time.perf_counter()
    report = run_import(tmp_path / "data", tmp_path / "store")
    assert time.perf_counter() - begin < 60
    assert (report.imported, report.skipped, report.frames, report.set_aside) == (1000, 0, 12_000, {})
    store = Store.open(tmp_path / "store")
    assert len(store.episodes) == 1000 and store.sources == [f"original:data/part_{part}" for part in range(7)]
    names = [int(Path(origin).stem) for origin in store.episodes.origin]
    assert sorted(names) == list(range(1000))
    expected = np.concatenate([100 * name + np.arange(12) for name in names])
    assert np.array_equal(store.read("reward", 0, 12_000), expected)
    assert np.array_equal(store.read("frames", 0, 12_000)[:, 7, 0, 2], expected % 256)
    assert np.array_equal(store.read("embedding/internvideo2", 0, 12_000)[:, 0], np.tile(np.arange(12) >= 7, 1000))
    again = run_import(tmp_path / "data", tmp_path / "store")
    assert (again.imported, again.skipped) == (0, 1000)


def test_corrupt_files_are_named_left_alone_and_the_rest_is_imported(tmp_path, capsys) -> None:
    data = tmp_path / "data"
    good = write(data / "good.npz", **arrays())
    nan = np.full((12, 3), np.nan, np.float32)
    write(data / "bad_nan.npz", **arrays(action=nan))
    write(data / "bad_range.npz", **arrays(action=np.full((12, 3), 2, np.float32)))
    write(data / "bad_lengths.npz", **arrays(reward=np.zeros(11, np.float32)))
    write(data / "bad_missing.npz", **arrays(observation=None))
    write(data / "bad_frames.npz", **arrays(observation=np.zeros((12, 3, 8, 8), np.float32)))
    write(data / "bad_two_episodes.npz", **arrays(is_first=np.arange(12) % 6 == 0))
    write(data / "bad_action_size.npz", **arrays(action=np.zeros((12, 4), np.float32)))
    write(data / "bad_embedding_size.npz", **arrays(clip_video=np.ones((12, 6), np.float32)))
    (data / "bad_empty.npz").write_bytes(b"")
    (data / "bad_text.npz").write_text("not an archive")
    (data / "bad_truncated.npz").write_bytes(good.read_bytes()[:-600])
    flipped = bytearray(good.read_bytes())
    flipped[400] ^= 255  # inside the first array: its checksum no longer fits
    (data / "bad_bits.npz").write_bytes(flipped)
    good.rename(data / "a_good.npz")
    write(data / "z_good.npz", **arrays(first=50))
    before = {file: file.read_bytes() for file in data.iterdir()}

    report = run_import(data, tmp_path / "store")

    assert report.imported == 2 and len(report.set_aside) == 12
    assert {Path(file).name for file in report.set_aside} == {file.name for file in data.glob("bad_*")}
    assert {file: file.read_bytes() for file in data.iterdir()} == before
    written = json.loads(report_path(tmp_path / "store").read_text())
    assert written["set_aside"] == report.set_aside
    printed = capsys.readouterr()
    assert all(Path(file).name in printed.out and Path(file).name in printed.err for file in report.set_aside)
    assert Store.open(tmp_path / "store").num_frames == 24


def test_it_fails_only_when_nothing_is_readable(tmp_path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r"no data of a known format: there is .* no \.npz episode"):
        run_import(tmp_path / "data", tmp_path / "store")
    with pytest.raises(UserError, match=r"no \.npz file"):
        run_import(tmp_path / "data", tmp_path / "store", format="original")
    (tmp_path / "data" / "a.npz").write_text("nothing")
    with pytest.raises(UserError, match=r"none of the 1 files.*a\.npz"):
        run_import(tmp_path / "data", tmp_path / "store")
    with pytest.raises(UserError, match="does not exist"):
        run_import(tmp_path / "nowhere", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_pickle_inside_a_file_is_never_executed(tmp_path) -> None:
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    hostile = np.array([Hostile()], dtype=object)
    file = write(tmp_path / "data" / "a.npz", **arrays(clip_video=hostile, extra=hostile))
    report = run_import(file, tmp_path / "store")
    assert report.imported == 1 and report.without_embedding == 1
    with pytest.raises(CorruptEpisodeError, match="'reward' is missing"):
        read_original(write(tmp_path / "b.npz", **arrays(reward=hostile)), 8)
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(Hostile()))  # it would have worked
    assert (tmp_path / "executed").exists()


def test_layouts_that_occur_in_the_wild(tmp_path) -> None:
    plain = read_original(write(tmp_path / "a.npz", **arrays(reward=np.arange(12, dtype=np.float32))), 8).episode
    assert plain.reward.tolist() == list(range(12))
    ended = np.ones(12, np.float32)
    ended[-1] = 0
    without_flag = arrays(discount=ended, is_terminal=None, clip_video=None, is_first=None)
    episode = read_original(write(tmp_path / "b.npz", **without_flag), 8).episode
    assert np.flatnonzero(episode.is_terminal).tolist() == [11] and episode.embeddings == {}
    episode = read_original(write(tmp_path / "c.npz", **arrays(discount=None, state=np.ones((12, 4)))), 8).episode
    assert not episode.is_terminal.any()
    assert episode.state is not None and episode.state.shape == (12, 4)
    unscaled = np.zeros((12, 5), np.float32)
    unscaled[9] = [0, 3, 0, 4, 0]
    unscaled[10] = np.nan
    found = read_original(write(tmp_path / "d.npz", **arrays(clip_video=unscaled, mystery=np.zeros(3))), 8)
    embedding = found.episode.embeddings["internvideo2"]
    assert np.allclose(embedding[9], [0, 0.6, 0, 0.8, 0], atol=1e-3)
    assert np.flatnonzero(embedding.any(axis=1)).tolist() == [9]
    assert found.unknown == {"mystery"}


def test_images_of_another_size_are_resized_and_unknown_arrays_named_once(tmp_path, capsys) -> None:
    data = tmp_path / "data"
    for index in range(3):
        write(data / f"{index}.npz", **arrays(size=16, mystery=np.zeros(2)))
    write(data / "3.npz", **arrays())
    report = run_import(data, tmp_path / "store")
    assert report.resized == {"16 x 16": 3} and report.ignored_arrays == {"mystery": 3}
    printed = capsys.readouterr().err
    assert printed.count("mystery") == 1 and printed.count("resized to 8 x 8") == 1
    frames = Store.open(tmp_path / "store").read("frames", 0, 48)
    assert np.array_equal(frames[:, 4, 4, 0], np.tile(np.arange(12), 4))


def test_an_episode_without_embedding_among_others_has_missing_rows(tmp_path) -> None:
    data = tmp_path / "data"
    write(data / "0.npz", **arrays(clip_video=None))
    write(data / "1.npz", **arrays())
    report = run_import(data, tmp_path / "store")
    write(data / "2.npz", **arrays(clip_video=None))
    write(data / "3.npz", **arrays())
    run_import(data, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert report.without_embedding == 1 and store.embedded_rows("internvideo2") == 48
    present = np.flatnonzero(store.read("embedding/internvideo2", 0, 48).any(axis=1))
    assert present.tolist() == [*range(19, 24), *range(43, 48)]


def choices(rows: int = 12, seed: int = 0, size: int = 4) -> np.ndarray:
    """(N, A) one-hot actions as the original has them: the first row is zero."""
    action = np.eye(size, dtype=np.float32)[np.random.default_rng(seed).integers(0, size, rows)]
    action[0] = 0
    return action


def test_one_hot_actions_of_all_files_make_a_store_of_choices(tmp_path) -> None:
    data = tmp_path / "data"
    for index in range(3):
        write(data / f"{index}.npz", **arrays(action=choices(seed=index)))
    write(data / "3.npz", **arrays(action=choices(seed=3).astype(np.int64)))
    (data / "torn.npz").write_bytes(b"half")
    report = run_import(data, tmp_path / "store")
    assert (report.imported, len(report.set_aside)) == (4, 1)
    store = Store.open(tmp_path / "store")
    assert store.spec.discrete and store.spec.action_dim == 4
    for index in range(4):
        assert np.array_equal(store.episode(index).action, choices(seed=index))
    run_import(data, tmp_path / "forbidden", action_kind="continuous")
    assert not Store.open(tmp_path / "forbidden").spec.discrete


@pytest.mark.parametrize(
    "changed",
    [
        {"action": np.tile(np.float32([0.5, 0.5, 0, 0]), (12, 1))},
        {"action": np.tile(np.float32([1, 1, 0, 0]), (12, 1))},
        {"action": np.tile(np.float32([-1, 1, 1, 0]), (12, 1))},
        {"action": np.zeros((12, 4), np.float32)},
    ],
)
def test_files_that_do_not_agree_about_choices_are_asked_about(tmp_path, changed) -> None:
    data = tmp_path / "data"
    write(data / "0.npz", **arrays(action=choices()))
    write(data / "1.npz", **arrays(**changed))
    with pytest.raises(UserError, match=r"0.npz are one-hot, those of .*1.npz are not; pass --action-kind continuous"):
        run_import(data, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert run_import(data, tmp_path / "all", action_kind="continuous").imported == 2
    report = run_import(data, tmp_path / "some", action_kind="discrete")
    assert report.imported == 1 and "its actions are not one-hot" in report.set_aside[str(data / "1.npz")]
    write(tmp_path / "plain" / "0.npz", **arrays(**changed))
    write(tmp_path / "plain" / "1.npz", **arrays(action=choices()))
    run_import(tmp_path / "plain", tmp_path / "continuous")
    assert not Store.open(tmp_path / "continuous").spec.discrete


def test_a_store_that_is_added_to_decides_about_choices(tmp_path) -> None:
    write(tmp_path / "a" / "0.npz", **arrays(action=choices()))
    write(tmp_path / "b" / "0.npz", **arrays(action=0.5 * choices()))
    run_import(tmp_path / "a", tmp_path / "discrete")
    with pytest.raises(UserError, match="its actions are not one-hot, .* --action-kind continuous"):
        run_import(tmp_path / "b", tmp_path / "discrete")
    with pytest.raises(UserError, match="discrete"):
        run_import(tmp_path / "b", tmp_path / "discrete", action_kind="continuous")
    run_import(tmp_path / "b", tmp_path / "continuous")
    assert run_import(tmp_path / "a", tmp_path / "continuous").imported == 1
    assert not Store.open(tmp_path / "continuous").spec.discrete


def test_choices_go_out_and_come_back(tmp_path) -> None:
    write(tmp_path / "a" / "0.npz", **arrays(action=choices()))
    run_import(tmp_path / "a", tmp_path / "store")
    export(ExportConfig((tmp_path / "store",), tmp_path / "out", "original"))
    (file,) = (tmp_path / "out").rglob("*.npz")
    with np.load(file) as written:
        assert np.array_equal(written["action"], choices())
    for name in ("described", "bare"):
        run_import(tmp_path / "out", tmp_path / name)
        back = Store.open(tmp_path / name)
        assert back.spec.discrete and np.array_equal(back.episode(0).action, choices())
        (tmp_path / "out" / "genrl.json").unlink(missing_ok=True)


def test_a_body_that_the_original_does_not_know_needs_its_rate(tmp_path) -> None:
    write(tmp_path / "craft" / "0.npz", **arrays(action=choices()))
    config = {"source": tmp_path / "craft", "out": tmp_path / "store", "domain": "craft", "frame_size": 8}
    with pytest.raises(UserError, match="unknown --domain 'craft'.*episodes of another body need --fps too"):
        import_(ImportConfig(**config))
    import_(ImportConfig(**config, fps=20.0))
    spec = Store.open(tmp_path / "store").spec
    assert (spec.domain, spec.action_repeat, spec.control_timestep, spec.discrete) == ("craft", 1, 0.05, True)


def test_an_import_that_was_stopped_goes_on(tmp_path, monkeypatch) -> None:
    data = tmp_path / "data"
    for index in range(6):
        write(data / f"{index}.npz", **arrays(first=100 * index))

    def stop_at_four(file, frame_size):
        if file.stem == "4":
            raise KeyboardInterrupt
        return read_original(file, frame_size)

    with monkeypatch.context() as patch:
        patch.setattr("genrl.interop.original_import.read_original", stop_at_four)
        with pytest.raises(KeyboardInterrupt):
            run_import(data, tmp_path / "store")
    report = run_import(data, tmp_path / "store")
    assert (report.imported, report.skipped) == (2, 4)
    rewards = Store.open(tmp_path / "store").read("reward", 0, 72)
    assert rewards.tolist() == [100 * index + row for index in range(6) for row in range(12)]


def test_the_domain_is_asked_for_when_names_do_not_tell(tmp_path) -> None:
    write(tmp_path / "episodes" / "0.npz", **arrays())
    config = ImportConfig(source=tmp_path / "episodes", out=tmp_path / "store", frame_size=8)
    with pytest.raises(UserError, match="--domain"):
        import_(config)
    (tmp_path / "episodes").rename(tmp_path / "quadruped_run")
    import_(ImportConfig(source=tmp_path / "quadruped_run", out=tmp_path / "store", frame_size=8))
    spec = Store.open(tmp_path / "store").spec
    assert (spec.domain, spec.camera, spec.control_timestep) == ("quadruped", "y", 0.02)
    with pytest.raises(UserError, match="domain 'quadruped'"):
        write(tmp_path / "more" / "0.npz", **arrays())
        run_import(tmp_path / "more", tmp_path / "store")
