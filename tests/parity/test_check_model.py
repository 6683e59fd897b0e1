"""The parity check passes on our copy of the fixture, and fails when something is off or not looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.parity.check_model import main

FIXTURE = Path(__file__).parents[1] / "data" / "model_tiny.npz"


def test_every_array_of_the_original_is_reproduced(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(str(FIXTURE)) == 0
    assert "444 compared, 0 off" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("kl/loss", lambda x: x * 1.001),
        ("reward/align_sequence_best_neg_kl", lambda x: x + 1),
        ("wmstep/after/wm.connector.initial_state_pred.0.weight", lambda x: x / (1 - np.float32(1e-6))),
    ],
)
def test_a_deviation_is_found(name: str, change, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(FIXTURE) as file:
        arrays = dict(file)
    arrays[name] = change(arrays[name]).astype(arrays[name].dtype)
    np.savez(tmp_path / "off.npz", **arrays)
    assert main(str(tmp_path / "off.npz")) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if " OFF" in line]
    assert name in {line.split()[0] for line in lines}


def test_an_array_that_nobody_looks_at_fails_the_check(tmp_path: Path) -> None:
    with np.load(FIXTURE) as file:
        np.savez(tmp_path / "more.npz", **dict(file), new=np.zeros(3))
    assert main(str(tmp_path / "more.npz")) == 1
