"""Imagined episodes are episodes: they lie in a store, go on after a kill, and travel to other formats."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genrl.data.store import Store, StoreWriter
from genrl.infra.errors import UserError
from genrl.run import data_imagine
from genrl.run.data import ExportConfig, export
from genrl.run.data_imagine import ImagineDataConfig, imagine_data
from genrl.run.learn import learn
from tests.interop.travel import assert_same, run_import
from tests.run.tiny import learn_config, make_model


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    model, _, vlm = make_model(directory)
    (result,) = learn(learn_config(model, vlm, directory / "run"))
    return result.policy


def config(policy: Path, out: Path, **options) -> ImagineDataConfig:
    return ImagineDataConfig(policy, out, **{"episodes": 5, "steps": 11, "device": "cpu", **options})


def test_imagined_episodes_lie_in_a_store_and_travel_like_real_ones(policy: Path, tmp_path: Path) -> None:
    store = Store.open(imagine_data(config(policy, tmp_path / "dreams")))
    assert store.episodes.length.tolist() == [12] * 5 and store.sources == ["imagined:walking"]
    assert set(store.episodes.prompt) == {"walking"}
    episode = store.episode(3)
    assert not episode.action[0].any() and episode.action[1:].any() and np.abs(episode.action).max() <= 1
    assert not np.array_equal(episode.frames, store.episode(4).frames), "episodes start from states of their own"
    for name, format in (("dreams-v0", "minari"), ("dreams", "lerobot")):
        pytest.importorskip("minari" if format == "minari" else "pyarrow")
        export(ExportConfig((store.path,), tmp_path / "out" / name, format=format))
        run_import(tmp_path / "out" / name, tmp_path / f"{format}-back", frame_size=64)
        assert_same(store, Store.open(tmp_path / f"{format}-back"))


def test_going_on_gives_what_an_uninterrupted_run_gives(policy: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(data_imagine, "BATCH", 2)
    whole = Store.open(imagine_data(config(policy, tmp_path / "whole")))
    add = StoreWriter.add

    def killed_at_the_fourth(self, episode, source, origin):
        if origin.endswith(":3"):
            raise KeyboardInterrupt
        add(self, episode, source, origin)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "add", killed_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            imagine_data(config(policy, tmp_path / "killed"))
    killed = Store.open(imagine_data(config(policy, tmp_path / "killed")))
    assert killed.episodes.origin == whole.episodes.origin
    assert np.array_equal(killed.read("frames", 0, 60), whole.read("frames", 0, 60))


def test_a_model_that_the_policy_was_not_made_for_is_refused(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--model walker-mini is not the model of"):
        imagine_data(config(policy, tmp_path / "store", model="walker-mini"))
    with pytest.raises(ValueError, match="--episodes and --steps must be at least 1"):
        replace(config(policy, tmp_path / "store"), steps=0)
    assert not (tmp_path / "store").exists()
