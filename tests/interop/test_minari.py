"""Minari data sets, made by Minari itself: which action belongs to which frame, and there and back."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from genrl.data.store import Episode, Store, StoreSpec, StoreWriter
from genrl.infra.errors import UserError
from genrl.run.data import ExportConfig, export
from tests.interop.foreign import STEP, counting_actions, counting_frames, steps_of
from tests.interop.travel import SPEC, assert_same, run_import, write_store

minari = pytest.importorskip("minari", reason="the extra `data` is not installed")
h5py = pytest.importorskip("h5py")

from minari.data_collector.episode_buffer import EpisodeBuffer  # noqa: E402

IMAGE = gym.spaces.Box(0, 255, (32, 32, 3), np.uint8)
ACTION = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)


def buffer(steps: int, first: int = 0, observe=lambda frames: frames, actions=None) -> EpisodeBuffer:
    """Observations first ... first + steps, action t taken at observation t; it ends in a terminal state."""
    ended = np.arange(steps) == steps - 1
    return EpisodeBuffer(
        observations=observe(counting_frames(steps + 1, first=first)),
        actions=2.0 * counting_actions(steps, first) if actions is None else actions,
        rewards=(first + np.arange(steps)).astype(float),
        terminations=ended,
        truncations=np.zeros(steps, bool),
    )


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Minari's directory of data sets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def make(buffers, observation_space=IMAGE, action_space=ACTION, name="count-v0", **options):
    """A data set as Minari's users make them."""
    return minari.create_dataset_from_buffers(
        name, list(buffers), observation_space=observation_space, action_space=action_space, **options
    )


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("data_format", ["hdf5", "parquet"])
def test_an_action_stands_beside_the_frame_it_led_to(root: Path, tmp_path: Path, data_format: str) -> None:
    if data_format == "parquet":
        pytest.importorskip("pyarrow")
    make([buffer(5), buffer(4, 10)], data_format=data_format, jpeg_encoding=False)
    report = run_import(root / "count-v0", tmp_path / "store", fps=25.0, domain="walker")
    assert (report.imported, report.frames) == (2, 11)
    store = Store.open(tmp_path / "store")
    first, second = store.episode(0), store.episode(1)
    # Six observations 0 ... 5 and five actions 0 ... 4: none is lost, and there is a first row without one.
    assert steps_of(first.frames) == [0, 1, 2, 3, 4, 5]
    assert np.allclose(first.action[:, 0], STEP * np.array([0, 0, 1, 2, 3, 4]), atol=1e-7)
    assert first.reward.tolist() == [0, 0, 1, 2, 3, 4]
    assert np.flatnonzero(first.is_terminal).tolist() == [5]
    assert steps_of(second.frames) == [10, 11, 12, 13, 14]
    assert np.allclose(second.action[:, 0], STEP * np.array([0, 10, 11, 12, 13]), atol=1e-7)
    spec = store.spec
    assert (spec.domain, spec.look, spec.control_timestep, spec.state_dim) == ("walker", "camera", 0.04, 0)
    assert (spec.action_low, spec.action_high) == ((-2.0, -2.0), (2.0, 2.0))
    assert store.episodes.origin == ("count-v0#0", "count-v0#1") and store.sources == ["minari:count-v0"]


def test_a_store_may_have_fewer_frames_a_second(root: Path, tmp_path: Path) -> None:
    make([buffer(5)], jpeg_encoding=False)
    run_import(root / "count-v0", tmp_path / "store", fps=20.0, store_fps=10.0, merge="last")
    store = Store.open(tmp_path / "store")
    episode = store.episode(0)
    # Observations 0 ... 5, action t from t to t + 1; the last step is left over, but the task ended with it.
    assert store.spec.control_timestep == 0.1 and steps_of(episode.frames) == [0, 2, 4, 5]
    assert np.allclose(episode.action[:, 0], STEP * np.array([0, 1, 3, 4]), atol=1e-7)
    assert episode.reward.tolist() == [0, 0 + 1, 2 + 3, 4]
    assert episode.is_terminal.tolist() == [False, False, False, True]
    choices = gym.spaces.Discrete(3)
    make([buffer(4, actions=np.array([2, 0, 1, 1]))], action_space=choices, name="pick-v0", jpeg_encoding=False)
    with pytest.raises(UserError, match="pick-v0 has discrete actions, which have no mean; pass --merge last"):
        run_import(root / "pick-v0", tmp_path / "picks", fps=20.0, store_fps=10.0)
    run_import(root / "pick-v0", tmp_path / "picks", fps=20.0, store_fps=10.0, merge="last")
    assert np.array_equal(Store.open(tmp_path / "picks").episode(0).action[1:], np.eye(3)[[0, 1]])


def test_a_data_set_is_found_by_its_id_too_and_importing_again_takes_what_is_new(root: Path, tmp_path: Path) -> None:
    data = make([buffer(5)])
    options = {"format": "minari", "fps": 25.0}
    assert run_import(Path("count-v0"), tmp_path / "store", **options).imported == 1
    data.update_dataset_from_buffer([buffer(4)])
    report = run_import(Path("count-v0"), tmp_path / "store", **options)
    assert (report.imported, report.skipped) == (1, 1)
    with pytest.raises(UserError, match="neither a directory .*`minari download"):
        run_import(Path("cuont-v0"), tmp_path / "store", **options)


def test_images_are_found_in_nested_observations_and_chosen_by_name(root: Path, tmp_path: Path) -> None:
    small = gym.spaces.Box(0, 255, (3, 32, 32), np.uint8)
    space = gym.spaces.Dict(
        {"eyes": gym.spaces.Dict({"left": IMAGE, "right": small}), "state": gym.spaces.Box(-9, 9, (3,))}
    )

    def observe(frames):
        left, right = frames, (frames + 1).transpose(0, 3, 1, 2)
        return {"eyes": {"left": left, "right": right}, "state": np.full((len(frames), 3), 7.0, np.float32)}

    make([buffer(5, observe=observe)], space, jpeg_encoding=False)
    with pytest.raises(UserError, match=r"several images; choose with --camera: eyes.left, eyes.right"):
        run_import(root / "count-v0", tmp_path / "none", fps=20.0)
    with pytest.raises(UserError, match="--camera nose: no such images"):
        run_import(root / "count-v0", tmp_path / "none", fps=20.0, camera="nose")
    run_import(root / "count-v0", tmp_path / "store", fps=20.0, camera="eyes.right")
    episode = Store.open(tmp_path / "store").episode(0)
    assert np.array_equal(episode.frames, counting_frames(6) + 1)
    assert (episode.state == 7).all() and Store.open(tmp_path / "store").spec.camera == "eyes.right"


def test_discrete_actions_become_one_hot(root: Path, tmp_path: Path) -> None:
    make([buffer(4, actions=np.array([2, 1, 3, 1]))], action_space=gym.spaces.Discrete(3, start=1))
    run_import(root / "count-v0", tmp_path / "store", fps=20.0)
    store = Store.open(tmp_path / "store")
    assert store.spec.discrete and store.episode(0).action[1:].argmax(axis=1).tolist() == [1, 0, 2, 0]
    assert not store.episode(0).action[0].any()


def test_what_is_missing_is_asked_for(root: Path, tmp_path: Path) -> None:
    make([buffer(4)])
    with pytest.raises(UserError, match="does not tell its frames a second; pass --fps"):
        run_import(root / "count-v0", tmp_path / "store")
    free = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    make([buffer(4)], action_space=free, name="free-v0")
    with pytest.raises(UserError, match="no bounds; pass --action-low and --action-high"):
        run_import(root / "free-v0", tmp_path / "store", fps=20.0)
    run_import(root / "free-v0", tmp_path / "store", fps=20.0, action_low=(-2.0,), action_high=(2.0,))
    plain = gym.spaces.Box(-1, 1, (3,))
    make([buffer(4, observe=lambda frames: np.zeros((len(frames), 3), np.float32))], plain, name="plain-v0")
    with pytest.raises(UserError, match="has no images among its observations"):
        run_import(root / "plain-v0", tmp_path / "store", fps=20.0)


def test_broken_episodes_are_set_aside_and_named(root: Path, tmp_path: Path) -> None:
    make([buffer(4, 10 * number) for number in range(4)], jpeg_encoding=False)
    with h5py.File(root / "count-v0/data/main_data.hdf5", "a") as file:
        file["episode_0/actions"][2] = np.nan
        file["episode_1/actions"][1] = 5.0
        del file["episode_3/observations"]
    report = run_import(root / "count-v0", tmp_path / "store", fps=20.0)
    assert report.imported == 1 and set(report.set_aside) == {"count-v0#0", "count-v0#1", "count-v0#3"}
    assert "NaN" in report.set_aside["count-v0#0"] and "not within [-2.0, -2.0]" in report.set_aside["count-v0#1"]
    (root / "count-v0/data/main_data.hdf5").write_bytes(b"nothing")
    with pytest.raises(UserError, match="none of the 4 episodes .* is readable"):
        run_import(root / "count-v0", tmp_path / "other", fps=20.0)
    (root / "count-v0/data/metadata.json").write_text("{")
    with pytest.raises(UserError, match="is no Minari data set, or a damaged one"):
        run_import(root / "count-v0", tmp_path / "other", fps=20.0)


@pytest.mark.parametrize("discrete", [False, True])
def test_there_and_back_nothing_changes(tmp_path: Path, discrete: bool) -> None:
    store = write_store(tmp_path / "walks", spec=StoreSpec(**{**vars(SPEC), "discrete": discrete}))
    if discrete:  # continuous actions as written are no one-hot ones
        with StoreWriter.open(tmp_path / "choices", store.spec) as writer:
            choice = np.eye(2, dtype=np.float32)[[0, 1, 1, 0]] * (np.arange(4) > 0)[:, None]
            zeros = np.zeros(4, np.float32)
            writer.add(Episode(counting_frames(4), choice, zeros, zeros > 0, np.zeros((4, 3))), "chooser")
        store = Store.open(tmp_path / "choices")
    export(ExportConfig((store.path,), tmp_path / "walks-v1", format="minari"))
    run_import(tmp_path / "walks-v1", tmp_path / "back")
    assert_same(store, Store.open(tmp_path / "back"))


def test_what_is_exported_is_what_minari_reads(root: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path / "walks")
    export(ExportConfig((store.path,), root / "walks-v1", format="minari"))
    data = minari.load_dataset("walks-v1")
    assert (data.total_episodes, data.total_steps) == (3, 30 - 3)
    first, own = data[0], store.episode(0)
    assert np.array_equal(first.observations["pixels"], own.frames)
    assert np.array_equal(first.observations["state"], own.state)
    assert np.array_equal(first.actions, own.action[1:]) and np.array_equal(first.rewards, own.reward[1:])
    assert first.terminations.tolist() == [False] * 7 + [True] and not first.truncations.any()
    facts = list(data.storage.get_episode_metadata(range(3)))
    assert [entry["prompt"] for entry in facts] == ["walk", "", "lie – down"]
    assert data.action_space == gym.spaces.Box(-1, 1, (2,), np.float32)


def test_an_export_is_whole_or_absent_and_its_name_is_one(tmp_path: Path, monkeypatch) -> None:
    store = write_store(tmp_path / "walks")
    with pytest.raises(UserError, match="--out walks: a Minari data set is named like walker-v0"):
        export(ExportConfig((store.path,), tmp_path / "walks", format="minari"))
    read = Store.episode

    def killed_at_the_last(self, index):
        if index == 2:
            raise KeyboardInterrupt
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "episode", killed_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            export(ExportConfig((store.path,), tmp_path / "out" / "walks-v1", format="minari"))
    assert list((tmp_path / "out").iterdir()) == []
    export(ExportConfig((store.path,), tmp_path / "out" / "walks-v1", format="minari"))
    assert json.loads((tmp_path / "out/walks-v1/data/metadata.json").read_text())["total_episodes"] == 3
    with pytest.raises(UserError, match="walks-v1 exists"):
        export(ExportConfig((store.path,), tmp_path / "out" / "walks-v1", format="minari"))


def test_an_episode_of_one_frame_has_no_action_to_export(tmp_path: Path) -> None:
    with StoreWriter.open(tmp_path / "store", StoreSpec(**{**vars(SPEC), "state_dim": 0})) as writer:
        for rows in (1, 5):
            zeros = np.zeros(rows, np.float32)
            writer.add(Episode(counting_frames(rows), np.zeros((rows, 2), np.float32), zeros, zeros > 0), "still")
    report = export(ExportConfig((tmp_path / "store",), tmp_path / "a-v0", format="minari"))
    assert report.exported == 1 and "single frame" in report.set_aside["store#0"]
