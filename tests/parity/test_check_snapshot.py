"""The check of imported snapshots passes on both forms, and fails when something is off or not looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.parity.check_snapshot import main

DATA = Path(__file__).parents[1] / "data"
SNAPSHOT, RELEASE = DATA / "peer_snapshot_tiny.pt", DATA / "peer_release_tiny.pt"
EXPECTED = DATA / "peer_snapshot_tiny_expected.npz"


@pytest.mark.parametrize("snapshot", [SNAPSHOT, RELEASE], ids=["training", "bare"])
def test_what_an_imported_model_imagines_is_what_the_original_did(
    snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(snapshot), str(EXPECTED)]) == 0
    # All 143 tensors; logits, samples and recurrent states with and without resets; images without.
    assert "150 compared, 0 off, 0 not looked at" in capsys.readouterr().out


def changed(tmp_path: Path, **arrays: np.ndarray) -> str:
    """A copy of the expectations in which some arrays are others."""
    with np.load(EXPECTED) as file:
        np.savez(tmp_path / "expected.npz", **{**dict(file), **arrays})
    return str(tmp_path / "expected.npz")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("noreset_logit", lambda x: x + 1e-3),
        ("reset_deter", lambda x: x + 1e-3),
        ("reset_stoch", lambda x: np.roll(x, 1, axis=-1)),
        ("noreset_image_mean", lambda x: x[..., ::-1]),
        ("noreset_image_mean", lambda x: x[:, 1:]),
        ("state_names_sum/wm.rssm._cell._layer.weight", lambda x: x * 1.001),
    ],
)
def test_a_deviation_is_found(name: str, change, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(EXPECTED) as file:
        expected = changed(tmp_path, **{name: change(file[name])})
    assert main([str(SNAPSHOT), expected]) == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("OFF")] == [name]


@pytest.mark.parametrize(
    ("name", "said"),
    [("state_names_sum/wm.new", "1 off, 0 not looked at"), ("something", "0 off, 1 not looked at")],
)
def test_an_array_that_we_lack_or_nobody_looks_at_fails_the_check(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(SNAPSHOT), changed(tmp_path, **{name: np.zeros(3)})]) == 1
    assert said in capsys.readouterr().out
