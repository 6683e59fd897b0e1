from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.parity import check_env

DATA = Path(__file__).parents[1] / "data"
REWARDS, FRAMES = DATA / "env_rewards.npz", DATA / "env_frames.npz"

pytestmark = pytest.mark.gl


def test_every_walker_task_repeats_the_recording(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_env.main([str(REWARDS), str(FRAMES)]) == 0
    lines = capsys.readouterr().out.splitlines()
    compared = [line for line in lines if line.endswith(" ok")]
    assert not [line for line in lines if line.endswith("OFF")]
    assert sum(line.startswith("walker_") for line in compared) == 17 * 7
    assert sum(line.startswith("model/walker/") for line in compared) == 55
    assert sum(line.startswith("frames of walker") for line in compared) == 2
    # Not built yet, which is no failure.
    assert "stickman_stand" in " ".join(line for line in lines if line.endswith("missing"))


@pytest.mark.parametrize("name", ["walker_run/reward", "walker_stand/next_qvel", "model/walker/body_mass"])
def test_a_number_that_is_off_is_found(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(REWARDS) as arrays:
        group = name.rsplit("/", 1)[0]
        kept = {key: arrays[key] for key in arrays.files if key.startswith((group, "meta"))}
    kept[name] = kept[name] + 1e-6
    np.savez(tmp_path / "rewards.npz", **kept)
    assert check_env.main([str(tmp_path / "rewards.npz"), str(FRAMES)]) == 1
    off = [line for line in capsys.readouterr().out.splitlines() if line.endswith("OFF")]
    assert len(off) == 1 and off[0].startswith(name)


def test_frames_that_are_off_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(REWARDS) as arrays:
        walk = {key: arrays[key] for key in arrays.files if key.startswith("walker_walk/")}
    np.savez(tmp_path / "rewards.npz", **walk)
    with np.load(FRAMES) as arrays:
        kept = {key: arrays[key] for key in arrays.files}
    kept["walker/frames"] = np.roll(kept["walker/frames"], 3, axis=2)
    np.savez(tmp_path / "frames.npz", **kept)
    assert check_env.main([str(tmp_path / "rewards.npz"), str(tmp_path / "frames.npz")]) == 1
    assert "frames of walker  " in [line for line in capsys.readouterr().out.splitlines() if "OFF" in line][0]
