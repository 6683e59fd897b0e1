from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.parity import check_env
from tests.parity.check_env_arms import SCENES

DATA = Path(__file__).parents[1] / "data"
EVERY = 5
"""Of the recorded states one in so many; of the pictures, which take 650 ms in the kitchen, two."""

pytestmark = [
    pytest.mark.gl,
    pytest.mark.skipif(find_spec("gymnasium_robotics") is None, reason="needs the extra `kitchen`"),
]


def thinned(directory: Path, change: str = "") -> list[str]:
    """Files of rewards and frames with few rows; `change` names an array that is put off."""
    for name, step in (("rewards", EVERY), ("frames", 6)):
        with np.load(DATA / f"env_{name}.npz") as arrays:
            kept = {}
            for key in (key for key in arrays.files if key.startswith((*SCENES, "meta"))):
                group, _, array = key.rpartition("/")
                rows = f"{group}/qpos" in arrays.files and len(arrays[f"{group}/qpos"])
                of_rows = rows and arrays[key].ndim and len(arrays[key]) == rows
                kept[key] = arrays[key][::step] if of_rows else arrays[key]
                if key == change:
                    kept[key] = kept[key] + kept[key].dtype.type(1e-6 if array != "frames" else 1)
            np.savez(directory / f"{name}.npz", **kept)
    return [str(directory / "rewards.npz"), str(directory / "frames.npz"), "--only", *SCENES]


def test_kitchen_and_jaco_repeat_the_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_env.main(thinned(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    compared = [line for line in lines if line.endswith(" ok")]
    assert not [line for line in lines[:-1] if line.endswith(("OFF", "missing"))]
    assert sum(line.startswith("kitchen_") for line in compared) == 7 * 8
    assert sum(line.startswith("jaco_") for line in compared) == 4 * 8
    assert {"frames of kitchen ", "frames of jaco "} <= {line.split("  ")[0] + " " for line in compared}


@pytest.mark.parametrize(
    "change", ["kitchen_light/distance", "kitchen_kettle/next_qvel", "jaco_reach_top_left/reward", "jaco/frames"]
)
def test_a_number_that_is_off_is_found(change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = thinned(tmp_path, change)
    group = change.split("/")[0]
    for file in files[:2]:
        with np.load(file) as arrays:
            kept = {key: arrays[key] for key in arrays.files if key.startswith((f"{group}/", "meta/backend"))}
        np.savez(file, **kept)
    assert check_env.main(files) == 1
    off = [line for line in capsys.readouterr().out.splitlines() if line.endswith("OFF")]
    assert len(off) == 1 and (off[0].startswith(change) or off[0].startswith(f"frames of {group}"))
