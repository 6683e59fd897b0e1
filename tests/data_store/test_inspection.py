from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from genrl.data.store import StoreWriter
from genrl.infra.errors import UserError
from genrl.infra.media import read_video
from genrl.run.data import InspectConfig, inspect
from tests.data_store.counting import SPEC, counting_episode, write_counting


def sound(rows=20, **changes):
    episode = counting_episode(rows, first=1)
    action = episode.action.copy()
    action[0] = 0
    return dataclasses.replace(episode, **{"action": action, **changes})


def test_every_kind_of_broken_episode_is_named(tmp_path) -> None:
    black = counting_episode(20, first=1).frames.copy()
    black[3:5] = 0
    action = np.zeros((20, 2), np.float32)
    action[4] = 1.5
    with StoreWriter.open(tmp_path / "store", SPEC) as writer:
        writer.add(sound(), "good")
        writer.add(sound(frames=black), "bad")
        writer.add(sound(reward=np.full(20, np.nan, np.float32)), "bad", origin="a.npz")
        writer.add(sound(action=action), "bad")
        writer.add(sound(action=np.ones((20, 2), np.float32)), "bad")
        writer.add(sound(is_terminal=np.arange(20) == 5), "bad")
    found = inspect(InspectConfig(stores=(tmp_path / "store",)))[tmp_path / "store"]
    assert [(fault.episode, fault.fault) for fault in found.faults] == [
        (1, "2 frames are all zero"),
        (2, "reward holds NaN or infinity"),
        (3, "actions outside -1 ... 1"),
        (4, "the first row has an action"),
        (5, "is_terminal is set before the last row"),
    ]
    assert found.faults[1].origin == "a.npz"


def test_flags_that_do_not_fit_the_table_are_found(tmp_path) -> None:
    path = tmp_path / "store"
    with StoreWriter.open(path, SPEC) as writer:
        writer.add(sound(), "good")
        writer.add(sound(), "good")
    table = (path / "store.json").read_text()
    (path / "store.json").write_text(
        table.replace('"start": [0, 20], "length": [20, 20]', '"start": [0, 19], "length": [19, 21]')
    )
    faults = inspect(InspectConfig(stores=(path,)))[path].faults
    assert (0, "is_last does not fit the length") in [(fault.episode, fault.fault) for fault in faults]
    assert (1, "is_first does not fit the length") in [(fault.episode, fault.fault) for fault in faults]


def test_a_damaged_shard_is_a_broken_episode_and_the_others_are_read(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [64, 64])
    shard = path / "reward" / "c" / "1"
    shard.write_bytes(shard.read_bytes()[:-20])
    found = inspect(InspectConfig(stores=(path,)))[path]
    assert [fault.fault for fault in found.faults if fault.episode == 1 and "damaged" in fault.fault] == [
        "reward cannot be read, a file is damaged"
    ]
    assert found.sources[0].returns[0] == np.arange(64).sum()


def test_counts_rewards_and_a_contact_sheet_by_source(tmp_path, capsys) -> None:
    path = tmp_path / "store"
    with StoreWriter.open(path, SPEC) as writer:
        writer.add(sound(reward=np.ones(20, np.float32)), "walking")
        writer.add(sound(30, reward=np.full(30, 2, np.float32)), "running")
        writer.add(sound(reward=np.zeros(20, np.float32)), "walking")
    walking, running = inspect(InspectConfig(stores=(path,), columns=5))[path].sources
    assert walking.lengths.tolist() == [20, 20] and walking.returns.tolist() == [20, 0]
    assert running.returns.tolist() == [60]
    # Rewards run from 0 to 2 in 12 bins; the reset row of each episode is not counted.
    assert walking.histogram.tolist() == [19, 0, 0, 0, 0, 0, 19, 0, 0, 0, 0, 0]
    assert running.histogram.tolist() == [0] * 11 + [29]
    printed = capsys.readouterr().out
    assert "3 episodes, 70 frames" in printed and "walking" in printed and "no broken episodes" in printed
    sheet = read_video(tmp_path / "store-inspect.png")
    assert sheet.shape[2] == 5 * 8


def test_one_sheet_for_several_stores_is_refused(tmp_path) -> None:
    paths = tuple(write_counting(tmp_path / name, [20]) for name in ("a", "b"))
    with pytest.raises(UserError, match="--out"):
        inspect(InspectConfig(stores=paths, out=tmp_path / "sheet.png"))
    with pytest.raises(UserError, match="STORE"):
        inspect(InspectConfig(stores=()))
