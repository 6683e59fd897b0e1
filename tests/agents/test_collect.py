from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from genrl.agents.expert import ExpertConfig
from genrl.agents.trajectory import TrajectoryLog
from genrl.behavior.off_policy import TD3Config
from genrl.data.store import Store
from genrl.envs.rendering import render_states
from genrl.envs.tasks import domain_tasks
from genrl.infra.errors import UserError
from genrl.run.collect import CollectConfig, collect

pytestmark = pytest.mark.gl

TINY = ExpertConfig(
    td3=TD3Config(hidden_dim=16, batch_size=16), updates_per_step=0.02, prepare_updates=5, random_episodes=1
)


def stored(path: Path) -> list[np.ndarray]:
    store = Store.open(path)
    return [store.read(name, 0, store.num_frames) for name in ("state", "action", "reward", "frames")]


def test_random_steps_become_whole_episodes_and_more_steps_add_to_them(tmp_path: Path) -> None:
    def call(steps: int) -> None:
        collect(CollectConfig(tmp_path / "store", task="walker_walk", steps=steps, workers=1))

    call(520)
    store = Store.open(tmp_path / "store")
    assert store.episodes.length.tolist() == [501, 21] and store.sources == ["random_walker_walk"]
    assert (store.spec.domain, store.spec.look, store.spec.camera) == ("walker", "fast", "side")
    assert store.spec.action_low == (-1.0,) * 6 and store.spec.state_dim == 18
    episode = store.episode(1)
    assert (episode.action[0] == 0).all() and episode.reward[0] == 0 and not episode.is_terminal.any()
    np.testing.assert_array_equal(render_states("walker", episode.state[5:7], "fast"), episode.frames[5:7])

    before = stored(tmp_path / "store")
    call(540)
    assert Store.open(tmp_path / "store").episodes.length.tolist() == [501, 21, 21]
    for old, new in zip(before, stored(tmp_path / "store"), strict=True):
        np.testing.assert_array_equal(new[: len(old)], old)
    call(540)  # finished: nothing happens
    assert Store.open(tmp_path / "store").num_frames == 543


def test_episodes_are_cut_off_where_asked_for(tmp_path: Path) -> None:
    collect(CollectConfig(tmp_path / "store", steps=20, episode_steps=8, workers=1))
    store = Store.open(tmp_path / "store")
    assert store.episodes.length.tolist() == [9, 9, 5]
    assert not store.read("is_terminal", 0, store.num_frames).any()


def test_a_body_without_tasks_that_data_are_collected_for_reports_all_of_its_tasks(tmp_path: Path) -> None:
    collect(CollectConfig(tmp_path / "store", domain="jaco", steps=6, episode_steps=3, workers=1))
    store = Store.open(tmp_path / "store")
    assert store.episodes.length.tolist() == [4, 4] and (store.spec.domain, store.spec.camera) == (
        "jaco",
        "front_close",
    )
    log = TrajectoryLog(tmp_path / "store.run" / "random" / "trajectories", tuple(t.name for t in domain_tasks("jaco")))
    assert log.read(0).rewards.shape == (4, 4)


def test_an_expert_and_an_explorer_learn_from_each_other_in_one_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    collect(CollectConfig(store, agent="exploration", steps=40, workers=1))
    expert = CollectConfig(store, agent="expert", task="walker_stand", steps=40, workers=1, pool=(store,), expert=TINY)
    with pytest.raises(UserError, match="holds exploration; pass --append to add expert_walker_stand"):
        collect(expert)
    result = collect(CollectConfig(**{**expert.__dict__, "append": True}))
    assert result is not None and result.episodes == 1 and 0 < result.mean_return < 80
    opened = Store.open(store)
    assert opened.sources == ["exploration", "expert_walker_stand"] and opened.num_frames == 82
    assert opened.read("reward", 0, 41).sum() == 0, "exploration has no task"
    assert opened.read("reward", 41, 82).sum() == pytest.approx(result.mean_return, rel=1e-5)


def test_a_resumed_expert_collects_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    def call(name: str, steps: int) -> None:
        collect(CollectConfig(tmp_path / name, agent="expert", task="walker_run", steps=steps, workers=1, expert=TINY))

    call("straight", 520)
    call("resumed", 500)
    # As if killed after the episode was written, before what was learnt from it was saved.
    shutil.rmtree(tmp_path / "resumed.run" / "expert_walker_run" / "checkpoints")
    call("resumed", 520)
    for one, other in zip(stored(tmp_path / "straight"), stored(tmp_path / "resumed"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_changed_options_and_missing_pools_are_refused(tmp_path: Path) -> None:
    collect(CollectConfig(tmp_path / "store", steps=5, workers=1))
    # It has no --fresh that it could recommend, and calls the store what the user called it.
    said = (
        "--out .*/store holds a run with other options: --seed was 0, now 1; take another --out, or delete .*/store.run"
    )
    with pytest.raises(UserError, match=said):
        collect(CollectConfig(tmp_path / "store", steps=5, workers=1, seed=1))
    with pytest.raises(UserError, match="--pool .*nowhere"):
        collect(CollectConfig(tmp_path / "b", agent="expert", task="walker_run", pool=(tmp_path / "nowhere",)))
    for options, message in (
        ({"agent": "expert"}, "needs a --task"),
        ({"steps": 0}, "--steps"),
        ({"workers": 0}, "--workers"),
        ({"episode_steps": 0}, "--episode-steps"),
    ):
        with pytest.raises(UserError, match=message):
            CollectConfig(tmp_path / "c", **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="unknown task"):
        collect(CollectConfig(tmp_path / "c", task="walker_fly"))


def test_a_store_that_cannot_be_is_refused_before_anything_is_collected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("notes")
    with pytest.raises(UserError, match="--out .*/file is a file; name a directory"):
        collect(CollectConfig(tmp_path / "file", steps=8))
    with pytest.raises(UserError, match="--out .*/file/store lies below .*/file, which is a file"):
        collect(CollectConfig(tmp_path / "file" / "store", steps=8))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_kill_at_any_moment_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    """The killed and resumed collection of random episodes holds exactly what an uninterrupted one holds."""
    arguments = ["collect", "--agent", "random", "--workers", "1", "--steps", "530"]

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "genrl", *arguments, "--out", str(out)], start_new_session=True)

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    trajectories = tmp_path / "killed.run" / "random" / "trajectories"
    for waits_for in (trajectories / "trajectory_000001.npz", killed / "store.json"):
        process = start(killed)
        while not waits_for.exists() and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "killed before it was done"
    saved = TrajectoryLog(trajectories, ("walker_run", "walker_walk", "walker_stand"))
    assert saved.num_steps == 530, "all was simulated, nothing or little was drawn"
    assert Store.open(killed).num_frames < 530
    assert start(killed).wait() == 0
    collect(CollectConfig(whole, steps=530, workers=1))
    for one, other in zip(stored(killed), stored(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(stored(whole)[0]) == 530 + 2
