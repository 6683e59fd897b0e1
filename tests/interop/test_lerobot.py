"""LeRobot data sets: which action belongs to which frame, cameras, tasks, what is broken, and there and back."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genrl.cli import main
from genrl.data.store import Episode, Store, StoreSpec, StoreWriter
from genrl.infra.errors import UserError
from genrl.interop import lerobot_export
from genrl.interop.original_import import report_path
from genrl.run.data import ExportConfig, export
from tests.interop.foreign import STEP, counting_frames, steps_of, write_lerobot, write_lossless
from tests.interop.travel import SPEC, assert_same, noisy_episode, run_import, write_store
from tests.phone_videos import turn_video

pa = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
pq = pytest.importorskip("pyarrow.parquet")


MADE = Path(__file__).parents[1] / "data" / "lerobot_made"


def test_an_action_moves_to_the_frame_it_led_to_and_the_last_is_left_out(tmp_path: Path) -> None:
    report = run_import(write_lerobot(tmp_path / "cups"), tmp_path / "store")
    assert (report.imported, report.frames, report.resized) == (2, 11, {})
    store = Store.open(tmp_path / "store")
    first, second = store.episode(0), store.episode(1)
    # Six frames 0 ... 5 with actions 0 ... 5, then five frames 6 ... 10 with actions 6 ... 10.
    assert steps_of(first.frames) == [0, 1, 2, 3, 4, 5]
    assert np.allclose(first.action[:, 0], STEP * np.array([0, 0, 1, 2, 3, 4])) and not first.action[0].any()
    assert first.reward.tolist() == [0, 0, 1, 2, 3, 4]
    assert first.state[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert steps_of(second.frames) == [6, 7, 8, 9, 10]
    assert np.allclose(second.action[:, 0], STEP * np.array([0, 6, 7, 8, 9]))
    assert (first.prompt, second.prompt) == ("pick up the cup", "close the drawer")
    spec = store.spec
    assert (spec.domain, spec.look, spec.camera, spec.action_repeat) == ("arm", "camera", "front", 1)
    assert (spec.control_timestep, spec.action_low, store.sources) == (0.1, (), ["lerobot:cups"])


def test_what_lerobot_itself_wrote_is_read(tmp_path: Path) -> None:
    """`tests/data/lerobot_made` was recorded with lerobot 0.4.4: 12, 9 and 15 frames, counted on, as AV1 video."""
    run_import(MADE, tmp_path / "store", frame_size=64)
    store = Store.open(tmp_path / "store")
    assert store.episodes.length.tolist() == [12, 9, 15] and store.spec.domain == "so101"
    assert store.episodes.prompt == ("pick", "place the cup", "pick")
    for index, first in enumerate((0, 12, 21)):
        episode = store.episode(index)
        step = first + np.arange(len(episode))
        assert steps_of(episode.frames) == step.tolist()
        assert np.allclose(episode.action[1:, 0], STEP * step[:-1]) and not episode.action[0].any()
        assert np.array_equal(episode.state[:, 2], step)


def test_one_of_several_cameras_is_chosen_by_name(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "cups", cameras=("front", "wrist"))
    with pytest.raises(UserError, match="several cameras; choose with --camera: front, wrist"):
        run_import(root, tmp_path / "none")
    with pytest.raises(UserError, match="--camera side: no such camera .* known: front, wrist"):
        run_import(root, tmp_path / "none", camera="side")
    for number, name in enumerate(("front", "observation.images.wrist")):
        run_import(root, tmp_path / name, camera=name)
        store = Store.open(tmp_path / name)
        assert set(np.unique(store.read("frames", 0, 11) % 4)) == {number}
        assert store.spec.camera == name.removeprefix("observation.images.")


def test_images_of_another_size_are_resized_and_that_is_said(tmp_path: Path, capsys) -> None:
    report = run_import(write_lerobot(tmp_path / "cups", size=(48, 64)), tmp_path / "store")
    assert report.resized == {"48 x 64": 2}
    assert "images of 48 x 64 are resized to 32 x 32" in capsys.readouterr().err
    assert steps_of(Store.open(tmp_path / "store").read("frames", 0, 6)) == [0, 1, 2, 3, 4, 5]


def test_a_camera_mounted_sideways_is_seen_upright(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "cups")
    frames = counting_frames(11)
    frames[:, :16] = 200  # bright above
    turn_video(write_lossless(next(root.rglob("*.mp4")), np.rot90(frames, axes=(1, 2))), "90")
    run_import(root, tmp_path / "store")
    assert np.array_equal(Store.open(tmp_path / "store").read("frames", 0, 11), frames)


def test_a_store_may_have_fewer_frames_a_second(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "cups", lengths=(8, 5), fps=30)
    run_import(root, tmp_path / "mean", store_fps=10.0)
    run_import(root, tmp_path / "last", store_fps=10.0, merge="last")
    mean, last = (Store.open(tmp_path / name) for name in ("mean", "last"))
    assert (mean.spec.action_repeat, mean.spec.control_timestep) == (1, 0.1)
    for store in (mean, last):
        # Frames 0 ... 7; actions 0, 1, 2 lead to frame 3, and 3, 4, 5 to frame 6; frame 7 is left over.
        assert [steps_of(store.episode(index).frames) for index in (0, 1)] == [[0, 3, 6], [8, 11]]
        assert store.episode(0).reward.tolist() == [0, 0 + 1 + 2, 3 + 4 + 5]
        assert store.episode(0).state[:, 0].tolist() == [0, 3, 6]
        assert store.episode(0).prompt == "pick up the cup"
    assert np.allclose(mean.episode(0).action[:, 0], STEP * np.array([0, 1, 4]))
    assert np.allclose(last.episode(0).action[:, 0], STEP * np.array([0, 2, 5]))
    with pytest.raises(
        UserError, match=r"cups has 30 frames a second, no whole multiple of --store-fps 20; it can be 30"
    ):
        run_import(root, tmp_path / "none", store_fps=20.0)
    with pytest.raises(UserError, match=r"no whole multiple of --store-fps 60"):
        run_import(root, tmp_path / "none", store_fps=60.0)
    assert run_import(root, tmp_path / "said", fps=20.0, store_fps=10.0).frames == 4 + 3
    with pytest.raises(ValueError, match="--merge last has a meaning only with --store-fps"):
        run_import(root, tmp_path / "none", merge="last")


def test_an_own_export_keeps_its_control_step_at_fewer_frames_a_second(tmp_path: Path) -> None:
    store = write_store(tmp_path / "walks")  # 2 x 0.025 s
    export(ExportConfig((store.path,), tmp_path / "out"))
    run_import(tmp_path / "out", tmp_path / "back", store_fps=10.0)
    back = Store.open(tmp_path / "back")
    assert (back.spec.action_repeat, back.spec.control_timestep) == (4, 0.025)
    # Ten frames, the task ends at the last: a step of one frame's time remains.
    one, other = store.episode(1), back.episode(1)
    assert np.array_equal(other.frames, one.frames[[0, 2, 4, 6, 8, 9]])
    assert np.allclose(other.action[-1], one.action[9]) and np.allclose(other.action[1], one.action[1:3].mean(axis=0))
    assert other.reward[-2:] == pytest.approx([one.reward[7] + one.reward[8], one.reward[9]])
    assert other.is_terminal.tolist() == [False] * 5 + [True]


def test_one_hot_actions_are_told_and_come_back(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "cups")
    file = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    action = np.eye(2, dtype=np.float32)[np.arange(11) % 2]
    pq.write_table(table.set_column(0, "action", pa.array(action.tolist(), pa.list_(pa.float32()))), file)
    run_import(root, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert store.spec.discrete and np.array_equal(store.episode(0).action[1:], action[:5])
    export(ExportConfig((store.path,), tmp_path / "out"))
    run_import(tmp_path / "out", tmp_path / "back")
    assert_same_actions(store, Store.open(tmp_path / "back"))
    run_import(root, tmp_path / "forbidden", action_kind="continuous")
    assert not Store.open(tmp_path / "forbidden").spec.discrete
    with pytest.raises(UserError, match="discrete actions have no bounds; leave out --action-low"):
        run_import(root, tmp_path / "none", action_kind="discrete", action_low=(0.0,), action_high=(1.0,))
    with pytest.raises(UserError, match="discrete actions, which have no mean; pass --merge last"):
        run_import(root, tmp_path / "none", store_fps=5.0)


def assert_same_actions(one: Store, other: Store) -> None:
    assert other.spec == one.spec
    assert np.array_equal(one.read("action", 0, one.num_frames), other.read("action", 0, one.num_frames))


def test_images_may_lie_in_the_table_instead_of_a_video(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "cups", cameras=())
    file = root / "data/chunk-000/file-000.parquet"
    pictures = []
    for frame in counting_frames(11):
        stream = io.BytesIO()
        Image.fromarray(frame).save(stream, "PNG")
        pictures.append({"bytes": stream.getvalue(), "path": None})
    pq.write_table(pq.read_table(file).append_column("observation.images.top", pa.array(pictures)), file)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.top"] = {"dtype": "image", "shape": [32, 32, 3]}
    (root / "meta/info.json").write_text(json.dumps(info))
    run_import(root, tmp_path / "store")
    assert steps_of(Store.open(tmp_path / "store").read("frames", 0, 11)) == list(range(11))


def test_actions_in_units_of_the_robot_are_scaled_by_what_they_reach_or_by_what_is_said(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "cups", scale=1000.0)  # actions 0 ... 100 and -100 ... 0
    run_import(root, tmp_path / "fitted")
    store = Store.open(tmp_path / "fitted")
    assert np.allclose(store.spec.action_low, (0, -100)) and np.allclose(store.spec.action_high, (100, 0))
    assert np.allclose(store.episode(1).action[1:, 0], 2 * np.arange(6, 10) / 10 - 1, atol=1e-6)
    run_import(root, tmp_path / "said", action_low=(-200.0,), action_high=(200.0,))
    assert np.allclose(Store.open(tmp_path / "said").episode(1).action[1:, 0], np.arange(6, 10) / 20, atol=1e-6)
    with pytest.raises(UserError, match=r"--action-low needs 1 number or 2"):
        run_import(root, tmp_path / "none", action_low=(0.0, 0.0, 0.0), action_high=(1.0,))
    with pytest.raises(UserError, match="is readable.*not within"):
        run_import(root, tmp_path / "none", action_low=(-1.0,), action_high=(1.0,))


def test_more_episodes_do_not_move_the_units_of_a_store(tmp_path: Path) -> None:
    run_import(write_lerobot(tmp_path / "a", scale=1000.0), tmp_path / "store")
    report = run_import(write_lerobot(tmp_path / "b", lengths=(6, 9), scale=1000.0), tmp_path / "store")
    assert report.imported == 1 and "not within" in report.set_aside["b#1"]
    assert len(Store.open(tmp_path / "store").episodes) == 3


def test_several_tasks_of_an_episode_become_one_prompt(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "cups")
    file = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    number = table.column_names.index("task_index")
    pq.write_table(table.set_column(number, "task_index", pa.array([0, 0, 1, 1, 0, 0] + [1] * 5)), file)
    run_import(root, tmp_path / "store")
    assert Store.open(tmp_path / "store").episodes.prompt == ("pick up the cup; close the drawer", "close the drawer")


def test_broken_episodes_are_set_aside_and_named(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "cups", lengths=(6, 5, 4, 3))
    episodes = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(episodes).to_pylist()
    rows[1]["videos/observation.images.front/file_index"] = 7
    rows[2]["length"] = 9
    pq.write_table(pa.Table.from_pylist(rows), episodes)
    file = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    action = table["action"].to_pylist()
    action[-1] = [float("nan"), 0.0]
    pq.write_table(table.set_column(0, "action", pa.array(action, pa.list_(pa.float32()))), file)
    report = run_import(root, tmp_path / "store")
    assert report.imported == 1 and set(report.set_aside) == {"cups#1", "cups#2", "cups#3"}
    assert "file-007.mp4" in report.set_aside["cups#1"] and "4 of its 9 rows" in report.set_aside["cups#2"]
    assert "NaN" in report.set_aside["cups#3"]
    assert json.loads(report_path(tmp_path / "store").read_text())["set_aside"] == report.set_aside


def test_a_cut_video_loses_only_the_episodes_it_lost(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "cups", lengths=(6, 40))
    video = next(root.rglob("*.mp4"))
    write_lossless(video, counting_frames(30))
    report = run_import(root, tmp_path / "store")
    assert report.imported == 1 and "24 of its 40 frames" in report.set_aside["cups#1"]


def test_what_is_no_such_data_set_is_refused_with_the_mend(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "cups")
    file = root / "meta/info.json"
    info = json.loads(file.read_text())
    file.write_text(json.dumps(info | {"codebase_version": "v2.1"}))
    with pytest.raises(UserError, match=r"version v2.1; only v3"):
        run_import(root, tmp_path / "store")
    file.write_text("{")
    with pytest.raises(UserError, match="info.json is damaged"):
        run_import(root, tmp_path / "store")
    with pytest.raises(UserError, match="is no LeRobot data set"):
        run_import(tmp_path, tmp_path / "store", format="lerobot")
    file.write_text(json.dumps(info))
    with pytest.raises(UserError, match="--actions has no meaning for data of format lerobot"):
        run_import(root, tmp_path / "store", actions="previous")
    (root / "meta/tasks.parquet").unlink()
    with pytest.raises(UserError, match="tasks or episodes cannot be read"):
        run_import(root, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_importing_again_takes_what_is_new(tmp_path: Path) -> None:
    root = write_lerobot(tmp_path / "cups")
    run_import(root, tmp_path / "store")
    report = run_import(root, tmp_path / "store")
    assert (report.imported, report.skipped) == (0, 2)


@pytest.mark.parametrize("bounds", [(), (-1.0, 1.0), (-40.0, 90.0)])
def test_there_and_back_nothing_changes(tmp_path: Path, bounds: tuple[float, ...]) -> None:
    low, high = ((bounds[0],) * 2, (bounds[1],) * 2) if bounds else ((), ())
    spec = StoreSpec(**{**vars(SPEC), "action_low": low, "action_high": high})
    store = write_store(tmp_path / "walks", spec=spec)
    report = export(ExportConfig((store.path,), tmp_path / "lerobot"))
    assert (report.exported, report.frames) == (3, 30)
    run_import(tmp_path / "lerobot", tmp_path / "back")
    back = Store.open(tmp_path / "back")
    if set(bounds) <= {-1.0, 1.0}:
        assert_same(store, back)
    assert np.allclose(back.read("action", 0, 30), store.read("action", 0, 30), atol=1e-6)


def test_what_is_exported_is_as_lerobot_documents_it(tmp_path: Path) -> None:
    store = write_store(tmp_path / "walks")
    export(ExportConfig((store.path,), tmp_path / "out"))
    root = tmp_path / "out"
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["robot_type"]) == ("v3.0", 20, "walker")
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 30, 3)
    assert info["features"]["observation.images.side"]["shape"] == [32, 32, 3]
    assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": None}
    assert info["features"]["next.done"]["dtype"] == "bool" and info["features"]["index"]["dtype"] == "int64"
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    assert set(table.column_names) | {"observation.images.side"} == set(info["features"])
    assert table["index"].to_pylist() == list(range(30))
    first = store.episode(0)
    action = np.array(table["action"].to_pylist())[:9]
    assert np.array_equal(action[:8].astype(np.float32), first.action[1:]) and np.array_equal(action[8], action[7])
    assert np.flatnonzero(table["next.done"].to_pylist()).tolist() == [8, 18, 29]
    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet")
    stop = episodes["videos/observation.images.side/to_timestamp"].to_pylist()
    assert np.allclose(stop, [0.45, 0.95, 1.5]) and episodes["tasks"].to_pylist() == [["walk"], [""], ["lie – down"]]
    pandas = json.loads(pq.read_schema(root / "meta/tasks.parquet").metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]


def test_an_export_goes_on_where_a_killed_one_stopped(tmp_path: Path, monkeypatch) -> None:
    store = write_store(tmp_path / "walks", count=7)
    monkeypatch.setattr(lerobot_export, "FRAMES_PER_FILE", 26)
    read = Store.episode

    def killed_at_the_sixth(self, index):
        if index == 5:
            raise KeyboardInterrupt
        return read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "episode", killed_at_the_sixth)
        with pytest.raises(KeyboardInterrupt):
            export(ExportConfig((store.path,), tmp_path / "out"))
    assert json.loads((tmp_path / "out/meta/info.json").read_text())["total_episodes"] == 3
    assert not list((tmp_path / "out").rglob(".*tmp*"))
    report = export(ExportConfig((store.path,), tmp_path / "out"))
    assert (report.exported, report.skipped) == (4, 3)
    assert len(list((tmp_path / "out").rglob("*.mp4"))) == 3
    run_import(tmp_path / "out", tmp_path / "back")
    assert_same(store, Store.open(tmp_path / "back"))
    with StoreWriter.open(store.path, SPEC) as writer:
        writer.add(noisy_episode(9, 9), "late")
    assert export(ExportConfig((store.path,), tmp_path / "out")).exported == 1


def test_a_table_that_a_killed_export_was_writing_is_not_read_and_is_removed(tmp_path: Path) -> None:
    store = write_store(tmp_path / "walks")
    export(ExportConfig((store.path,), tmp_path / "out"))
    half = tmp_path / "out" / "meta/episodes/chunk-000/.file-001.tmp-1.parquet"
    half.write_bytes(b"half")
    assert run_import(tmp_path / "out", tmp_path / "back").imported == 3
    with StoreWriter.open(store.path, SPEC) as writer:
        writer.add(noisy_episode(9, 9), "late")
    assert export(ExportConfig((store.path,), tmp_path / "out")).exported == 1
    assert not half.exists()


def test_small_videos_are_nearly_the_same(tmp_path: Path) -> None:
    spec = StoreSpec(**{**vars(SPEC), "frame_size": 64, "state_dim": 0})
    with StoreWriter.open(tmp_path / "store", spec) as writer:
        frames = counting_frames(12, (64, 64))
        zeros = np.zeros(12, np.float32)
        writer.add(Episode(frames, np.zeros((12, 2), np.float32), zeros, zeros > 0), "grey")
    export(ExportConfig((tmp_path / "store",), tmp_path / "out", lossless=False))
    run_import(tmp_path / "out", tmp_path / "back", frame_size=64)
    assert steps_of(Store.open(tmp_path / "back").read("frames", 0, 12)) == list(range(12))


def test_damaged_episodes_of_a_store_are_set_aside(tmp_path: Path) -> None:
    with StoreWriter.open(tmp_path / "store", SPEC, shard_frames=16) as writer:
        for number in range(4):
            writer.add(noisy_episode(16, number), "noise")
    shard = sorted(path for path in (tmp_path / "store/frames/c").rglob("*") if path.is_file())[1]
    shard.write_bytes(shard.read_bytes()[:-20])
    report = export(ExportConfig((tmp_path / "store",), tmp_path / "out"))
    assert report.exported == 3 and "frames cannot be read" in report.set_aside["store#1"]
    written = json.loads((tmp_path / "out.export_report.json").read_text())
    assert written["set_aside"] == report.set_aside


def test_an_export_is_not_mixed_with_anything_else(tmp_path: Path) -> None:
    store = write_store(tmp_path / "walks")
    other = write_store(tmp_path / "other", spec=StoreSpec(**{**vars(SPEC), "camera": "front"}))
    export(ExportConfig((store.path,), tmp_path / "out"))
    with pytest.raises(UserError, match="--out .*out holds another kind"):
        export(ExportConfig((other.path,), tmp_path / "out"))
    with pytest.raises(UserError, match="--out .*out holds another kind"):
        export(ExportConfig((store.path,), tmp_path / "out", lossless=False))
    with pytest.raises(UserError, match="not an export of ours"):
        export(ExportConfig((store.path,), tmp_path))
    with pytest.raises(UserError, match="has camera .side., .* has .front.; export them apart"):
        export(ExportConfig((store.path, other.path), tmp_path / "both"))
    twin = write_store(tmp_path / "twin" / "walks")
    with pytest.raises(UserError, match="two of the stores are named walks"):
        export(ExportConfig((store.path, twin.path), tmp_path / "both"))
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("library", ["pyarrow", "minari"])
def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch, capsys, library: str) -> None:
    file = tmp_path / "cups" / {"pyarrow": "meta/info.json", "minari": "data/metadata.json"}[library]
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    monkeypatch.delitem(sys.modules, "genrl.interop.lerobot", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    assert main(["data", "import", str(tmp_path / "cups"), "--out", str(tmp_path / "store")]) == 2
    assert f"this needs {library}; install it with: pip install 'genrl-mfwm[data]'" in capsys.readouterr().err
