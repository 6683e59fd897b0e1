"""Directories of videos with their actions."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genrl.data.store import Store
from genrl.infra.errors import UserError
from tests.interop.foreign import STEP, counting_actions, counting_frames, steps_of, write_lossless
from tests.interop.travel import run_import
from tests.phone_videos import turn_video


def write_csv(file: Path, columns: dict[str, object]) -> None:
    rows = zip(*columns.values(), strict=True)
    file.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")


def test_every_kind_of_table_gives_the_same_episode(tmp_path: Path) -> None:
    folder = tmp_path / "walks"
    actions = counting_actions(6)
    for name in ("a", "b", "c", "d", "sub/e"):
        write_lossless(folder / f"{name}.mp4", counting_frames(6))
    np.save(folder / "a.npy", actions)
    np.savez(folder / "b.npz", action=actions)
    write_csv(folder / "c.csv", {"left": actions[:, 0], "right": actions[:, 1]})
    np.savetxt(folder / "d.csv", actions, delimiter=",")
    np.save(folder / "sub/e.npy", actions[:5])  # one row less: from frame to frame
    (folder / "c.txt").write_text("walking\nslowly\n")
    report = run_import(folder, tmp_path / "store")
    assert (report.imported, report.frames, report.set_aside) == (5, 30, {})
    store = Store.open(tmp_path / "store")
    for index in range(5):
        episode = store.episode(index)
        assert steps_of(episode.frames) == [0, 1, 2, 3, 4, 5]
        assert np.allclose(episode.action[:, 0], STEP * np.array([0, 0, 1, 2, 3, 4]), atol=1e-7)
    assert store.episodes.prompt == ("", "", "walking slowly", "", "")
    assert store.sources == ["videos:walks", "videos:walks/sub"]
    assert (store.spec.domain, store.spec.control_timestep) == ("walks", 0.1)
    assert run_import(folder, tmp_path / "store").skipped == 5


def test_actions_that_led_to_their_frame_stay_where_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "walks"
    write_lossless(folder / "a.mp4", counting_frames(6))
    np.save(folder / "a.npy", counting_actions(6))
    run_import(folder, tmp_path / "store", actions="previous")
    action = Store.open(tmp_path / "store").episode(0).action
    assert np.allclose(action[:, 0], STEP * np.array([0, 1, 2, 3, 4, 5]), atol=1e-7) and not action[0].any()


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_one_file_may_hold_the_actions_of_all(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "walks"
    for number, name in enumerate(("a", "b")):
        write_lossless(folder / f"{name}.mp4", counting_frames(6, first=6 * number))
    if kind == "npz":
        np.savez(folder / "actions.npz", **{"a": counting_actions(6), "b.mp4": counting_actions(6, 6)})
    else:
        both = counting_actions(12)
        write_csv(folder / "actions.csv", {"video": ["a"] * 6 + ["b.mp4"] * 6, "x": both[:, 0], "y": both[:, 1]})
    assert run_import(folder, tmp_path / "store").imported == 2
    action = Store.open(tmp_path / "store").episode(1).action
    assert np.allclose(action[:, 1], -STEP * np.array([0, 6, 7, 8, 9, 10]), atol=1e-7)


def test_videos_of_several_rates_share_a_store_at_a_rate_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "walks"
    for name, fps in (("a", 10), ("b", 20), ("c", Fraction(30000, 1001)), ("d", 15)):
        write_lossless(folder / f"{name}.mp4", counting_frames(8), fps=fps)
        np.save(folder / f"{name}.npy", counting_actions(8))
    report = run_import(folder, tmp_path / "store", store_fps=10.0)
    assert report.imported == 3 and list(report.set_aside) == ["walks/d.mp4"]
    assert (
        "15 frames a second, no whole multiple of --store-fps 10; it can be 15, 7.5" in report.set_aside["walks/d.mp4"]
    )
    store = Store.open(tmp_path / "store")
    assert (store.spec.action_repeat, store.spec.control_timestep) == (1, 0.1)
    for index, shown in enumerate(([0, 1, 2, 3, 4, 5, 6, 7], [0, 2, 4, 6], [0, 3, 6])):
        episode = store.episode(index)
        assert steps_of(episode.frames) == shown
        between = [np.arange(*pair).mean() for pair in itertools.pairwise(shown)]
        assert np.allclose(episode.action[:, 0], STEP * np.array([0, *between]), atol=1e-7)


def test_one_hot_actions_are_told_from_the_tables_of_all_videos(tmp_path: Path) -> None:
    folder = tmp_path / "walks"
    one_hot = np.eye(3)[[0, 2, 1, 1, 0, 2]]
    for name in ("a", "b"):
        write_lossless(folder / f"{name}.mp4", counting_frames(6))
        np.save(folder / f"{name}.npy", one_hot)
    run_import(folder, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert store.spec.discrete and np.array_equal(store.episode(1).action[1:], one_hot[:5])
    np.save(folder / "b.npy", 0.5 * one_hot)
    with pytest.raises(UserError, match=r"a.mp4 are one-hot, those of .*b.mp4 are not; pass --action-kind"):
        run_import(folder, tmp_path / "other")
    assert list(run_import(folder, tmp_path / "other", action_kind="discrete").set_aside) == ["walks/b.mp4"]


def test_rewards_states_and_ends_come_along(tmp_path: Path) -> None:
    folder = tmp_path / "walks"
    write_lossless(folder / "a.mp4", counting_frames(4))
    ended = np.arange(4) == 2
    np.savez(folder / "a.npz", action=counting_actions(4), reward=np.arange(4), is_terminal=ended, state=np.eye(4))
    run_import(folder, tmp_path / "store")
    episode = Store.open(tmp_path / "store").episode(0)
    assert episode.reward.tolist() == [0, 0, 1, 2] and episode.is_terminal.tolist() == [False, False, False, True]
    assert np.array_equal(episode.state, np.eye(4))
    write_csv(folder / "a.csv", {"x": [0, 0.1, 0.2, 0.3], "reward": [5, 6, 7, 8], "is_terminal": [0, 0, 1, 0]})
    (folder / "a.npz").unlink()
    run_import(folder, tmp_path / "other")
    episode = Store.open(tmp_path / "other").episode(0)
    assert episode.reward.tolist() == [0, 5, 6, 7] and episode.is_terminal.tolist() == [False, False, False, True]


def test_gifs_are_videos_too_and_their_rate_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "walks"
    folder.mkdir()
    pictures = [Image.fromarray(frame) for frame in counting_frames(6)]
    pictures[0].save(folder / "a.gif", save_all=True, append_images=pictures[1:], duration=50)
    np.save(folder / "a.npy", counting_actions(6))
    run_import(folder, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert store.spec.control_timestep == pytest.approx(0.05)
    assert steps_of(store.episode(0).frames) == [0, 1, 2, 3, 4, 5]


def test_videos_filmed_sideways_stand_upright_in_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "walks"
    frames = counting_frames(6)
    frames[:, :16] = 200  # bright above
    for turns, degrees in enumerate(("", "90", "180", "270")):
        # Stored so that a clockwise turn by the degrees makes it right.
        video = write_lossless(folder / f"a{degrees}.mp4", np.rot90(frames, turns, axes=(1, 2)))
        np.save(video.with_suffix(".npy"), counting_actions(6))
        if degrees:
            turn_video(video, degrees)
    assert run_import(folder, tmp_path / "store").imported == 4
    store = Store.open(tmp_path / "store")
    for index in range(4):
        assert np.array_equal(store.episode(index).frames, frames)


def test_broken_videos_and_actions_are_set_aside_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "walks"
    for name in ("good", "short", "none", "nan", "fast", "torn", "wide"):
        write_lossless(folder / f"{name}.mp4", counting_frames(6), fps=30 if name == "fast" else 10)
        if name != "none":
            np.save(folder / f"{name}.npy", counting_actions(6))
    np.save(folder / "short.npy", counting_actions(4))
    np.save(folder / "nan.npy", np.full((6, 2), np.nan))
    np.save(folder / "wide.npy", np.zeros((6, 3)))
    torn = folder / "torn.mp4"
    torn.write_bytes(torn.read_bytes()[:-200])
    # The first video that tells its rate sets that of all.
    (folder / "fast.mp4").rename(folder / "z_fast.mp4")
    (folder / "fast.npy").rename(folder / "z_fast.npy")
    report = run_import(folder, tmp_path / "store")
    assert report.imported == 1
    reasons = {Path(name).stem: reason for name, reason in report.set_aside.items()}
    assert set(reasons) == {"short", "none", "nan", "torn", "wide", "z_fast"}
    assert (
        "4 rows of action, but 6 frames" in reasons["short"] and "none.npz, .npy or .csv is missing" in reasons["none"]
    )
    assert "NaN" in reasons["nan"] and "30 frames a second, not 10" in reasons["z_fast"]
    assert "action of the episode has shape (6, 3)" in reasons["wide"]
    report = run_import(folder, tmp_path / "stated", fps=10.0)
    assert report.imported == 2


def test_a_pickle_among_the_actions_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "walks"
    write_lossless(folder / "a.mp4", counting_frames(6))
    np.save(folder / "a.npy", np.array([{}] * 6, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="none of the 1 videos .* has readable actions; a.mp4 needs a.npz"):
        run_import(folder, tmp_path / "store")


def test_a_directory_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no videos"):
        run_import(tmp_path, tmp_path / "store", format="videos")
