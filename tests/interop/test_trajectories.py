"""Stores without frames: what was there comes back, in any look, after any interruption."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genrl.data.store import Store, StoreWriter
from genrl.infra.errors import UserError
from genrl.interop import trajectories
from genrl.interop.trajectories import RESOLUTION, pack_stores, read_packed
from genrl.run.collect import CollectConfig, collect
from genrl.run.data import DrawConfig, PackConfig, draw, pack

pytestmark = pytest.mark.gl


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "short"
    collect(CollectConfig(out=path, task="walker_walk", steps=24, episode_steps=10, workers=1))
    return path


@pytest.fixture(scope="module")
def packed(store: Path) -> Path:
    file = store.with_name("packed.npz")
    pack(PackConfig((store,), file))
    return file


def columns(path: Path) -> dict[str, np.ndarray]:
    store = Store.open(path)
    names = ("frames", "action", "reward", "is_first", "is_terminal", "state")
    return {name: store.read(name, 0, store.num_frames) for name in names}


def test_a_drawn_store_holds_what_was_packed_up_to_rounding(store: Path, packed: Path, tmp_path: Path) -> None:
    (path,) = draw(DrawConfig(packed, tmp_path, workers=1))
    old, new = columns(store), columns(path)
    assert new["is_first"].tolist() == old["is_first"].tolist() and new["is_first"].sum() == 3
    half = {name: step / 2 + 1e-6 for name, step in RESOLUTION.items()}
    assert np.abs(new["state"] - old["state"])[:, :9].max() <= half["position"]
    assert np.abs(new["state"] - old["state"])[:, 9:].max() <= half["velocity"]
    assert np.abs(new["action"] - old["action"]).max() <= half["action"]
    assert np.abs(new["reward"] - old["reward"]).max() <= half["reward"]
    assert np.abs(new["frames"].astype(int) - old["frames"]).mean() < 0.5
    assert Store.open(path).spec == Store.open(store).spec and Store.open(path).sources == Store.open(store).sources


def test_prompts_are_packed_with_their_episodes(store: Path, tmp_path: Path) -> None:
    original = Store.open(store)
    with StoreWriter.open(tmp_path / "said", original.spec) as writer:
        for index, prompt in enumerate(("walk", "", "fall – slowly")):
            writer.add(replace(original.episode(index), prompt=prompt), "expert")
    pack(PackConfig((tmp_path / "said",), tmp_path / "said.npz"))
    (path,) = draw(DrawConfig(tmp_path / "said.npz", tmp_path / "again", workers=1))
    assert Store.open(path).episodes.prompt == ("walk", "", "fall – slowly")


def test_stores_of_one_name_are_drawn_apart(store: Path, tmp_path: Path) -> None:
    for run in ("first", "second"):
        shutil.copytree(store, tmp_path / run / "data" / "round_000")
    shutil.copytree(store, tmp_path / "other")
    again = tmp_path / "second" / ".." / "other"  # named twice counts once
    named = (tmp_path / "first" / "data", tmp_path / "second" / "data", tmp_path / "other", again)
    pack(PackConfig(named, tmp_path / "all.npz"))
    drawn = draw(DrawConfig(tmp_path / "all.npz", tmp_path / "again", workers=1))
    assert [path.name for path in drawn] == ["first-data-round_000", "second-data-round_000", "other"]
    assert all(Store.open(path).num_frames == Store.open(store).num_frames for path in drawn)


def test_a_file_with_two_stores_of_one_name_is_refused_before_anything_is_drawn(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(store, tmp_path / "second" / store.name)
    with monkeypatch.context() as patch:
        patch.setattr(trajectories, "distinct_names", lambda paths: [path.name for path in paths])  # as files once were
        pack_stores([store, tmp_path / "second" / store.name], tmp_path / "old.npz")
    with pytest.raises(UserError, match="several stores of one name"):
        draw(DrawConfig(tmp_path / "old.npz", tmp_path / "again", workers=1))
    assert not (tmp_path / "again").exists()


def test_an_interrupted_drawing_goes_on_to_the_same_store(packed: Path, tmp_path: Path, monkeypatch) -> None:
    from genrl.interop import trajectories

    monkeypatch.setattr(trajectories, "EPISODES_PER_BATCH", 1)
    add, calls = trajectories.StoreWriter.add, 0

    def breaks(self, *args) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            self.flush()
            raise KeyboardInterrupt
        add(self, *args)

    monkeypatch.setattr(trajectories.StoreWriter, "add", breaks)
    with pytest.raises(KeyboardInterrupt):
        draw(DrawConfig(packed, tmp_path / "parts", workers=1))
    monkeypatch.setattr(trajectories.StoreWriter, "add", add)
    draw(DrawConfig(packed, tmp_path / "parts", workers=1))
    draw(DrawConfig(packed, tmp_path / "whole", workers=1))
    parts, whole = columns(tmp_path / "parts" / "short"), columns(tmp_path / "whole" / "short")
    assert all(parts[name].tobytes() == whole[name].tobytes() for name in whole)


def test_another_look_draws_other_frames_of_the_same_states(packed: Path, tmp_path: Path) -> None:
    (fast,) = draw(DrawConfig(packed, tmp_path / "fast", workers=1))
    (paper,) = draw(DrawConfig(packed, tmp_path / "paper", look="paper", workers=1))
    assert Store.open(paper).spec.look == "paper"
    assert columns(paper)["state"].tobytes() == columns(fast)["state"].tobytes()
    assert columns(paper)["frames"].tobytes() != columns(fast)["frames"].tobytes()


def test_what_is_no_such_file_is_refused_by_name(store: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.npz"
    text.write_text("hello")
    other = tmp_path / "other.npz"
    np.savez(other, frames=np.zeros(3))
    for file in (text, other, tmp_path / "missing.npz"):
        with pytest.raises(UserError, match=f"{file.name} is no file of trajectories"):
            read_packed(file)
    assert pack_stores([store], tmp_path / "twice.npz") == (tmp_path / "twice.npz").stat().st_size
