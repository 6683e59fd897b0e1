from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genrl.envs.tasks import TASKS
from tests.parity import check_env

DATA = Path(__file__).parents[1] / "data"
REWARDS, FRAMES = DATA / "env_rewards.npz", DATA / "env_frames.npz"

pytestmark = pytest.mark.gl


SUITE = ["stickman", "walker", "cheetah", "quadruped"]


def test_every_task_of_the_suite_bodies_repeats_the_recording(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_env.main([str(REWARDS), str(FRAMES), "--only", *SUITE]) == 0
    lines = capsys.readouterr().out.splitlines()
    compared = [line for line in lines if line.endswith(" ok")]
    assert lines[-1] == f"{len(compared)} compared, 0 off, 0 missing"
    with np.load(REWARDS) as arrays:
        recorded = {str(task) for task in arrays["meta/tasks"]}
    assert {line.split("/")[0] for line in compared if line.split("/")[0] in TASKS} == recorded
    for domain, arrays_of_a_task in (("walker", 7), ("stickman", 7), ("cheetah", 7), ("quadruped", 8)):
        tasks = [task for task in recorded if task.startswith(domain)]
        assert sum(line.startswith(f"{domain}_") for line in compared) == arrays_of_a_task * len(tasks)
        assert sum(line.startswith(f"model/{domain}/") for line in compared) == 55
        frames = 1 if domain == "stickman" else 2
        assert sum(line.startswith(f"frames of {domain}") for line in compared) == frames


@pytest.mark.parametrize("name", ["walker_dance/reward", "unicycle_run/reward", "model/unicycle/nq"])
def test_what_was_recorded_and_is_absent_is_an_error(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = some_arrays("walker_run") | {name: np.zeros(3)}
    np.savez(tmp_path / "rewards.npz", **kept)
    assert check_env.main([str(tmp_path / "rewards.npz"), str(some_frames(tmp_path))]) == 1
    lines = capsys.readouterr().out.splitlines()
    absent = [line for line in lines if line.endswith("missing")]
    assert lines[-1].endswith("0 off, 1 missing") and absent[0].startswith(name.rsplit("/", 1)[0])


def test_a_listed_task_without_arrays_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = some_arrays("walker_run") | {"meta/tasks": np.array(["walker_run", "walker_walk"])}
    np.savez(tmp_path / "rewards.npz", **kept)
    assert check_env.main([str(tmp_path / "rewards.npz"), str(some_frames(tmp_path))]) == 1
    assert [line.split() for line in capsys.readouterr().out.splitlines() if "walker_walk" in line] == [
        ["walker_walk", "missing"]
    ]


def some_arrays(group: str) -> dict[str, np.ndarray]:
    """Arrays of one task or model."""
    with np.load(REWARDS) as arrays:
        return {key: arrays[key] for key in arrays.files if key.rsplit("/", 1)[0] == group}


def some_frames(directory: Path) -> Path:
    """A file with the walker's frames alone."""
    with np.load(FRAMES) as arrays:
        kept = {key: arrays[key] for key in arrays.files if key.startswith(("walker/", "meta"))}
    np.savez(directory / "frames.npz", **kept)
    return directory / "frames.npz"


@pytest.mark.parametrize(
    "name",
    ["walker_run/reward", "walker_stand/next_qvel", "model/stickman/body_mass", "quadruped_run/next_act"],
)
def test_a_number_that_is_off_is_found(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = some_arrays(name.rsplit("/", 1)[0])
    kept[name] = kept[name] + 1e-6
    np.savez(tmp_path / "rewards.npz", **kept)
    assert check_env.main([str(tmp_path / "rewards.npz"), str(some_frames(tmp_path))]) == 1
    off = [line for line in capsys.readouterr().out.splitlines() if line.endswith("OFF")]
    assert len(off) == 1 and off[0].startswith(name)


def test_frames_that_are_off_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "rewards.npz", **some_arrays("walker_walk"))
    with np.load(some_frames(tmp_path)) as arrays:
        kept = {key: arrays[key] for key in arrays.files}
    kept["walker/frames"] = np.roll(kept["walker/frames"], 3, axis=2)
    np.savez(tmp_path / "frames.npz", **kept)
    assert check_env.main([str(tmp_path / "rewards.npz"), str(tmp_path / "frames.npz")]) == 1
    assert "frames of walker  " in [line for line in capsys.readouterr().out.splitlines() if "OFF" in line][0]
