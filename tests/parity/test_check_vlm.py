"""The check of InternVideo2 passes on our copy of the fixture, and fails when something is off or not looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.parity.check_vlm import main
from tests.vlm.internvideo2_tiny import FIXTURE, fixture_arrays

pytest.importorskip("transformers", reason="the text tower needs the extra vlm")


def test_every_array_of_the_original_is_reproduced(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(FIXTURE)]) == 0
    # Six tables, eight of the text tower, twelve of the video tower, two of labels, four of frames.
    assert "32 compared, 0 off, 0 not looked at" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "change", "off"),
    [
        ("out/video_feature", lambda x: x + 2e-5, {"out/video_feature"}),
        ("out/text_tokens", lambda x: x + 2e-5, {"out/text_tokens"}),
        ("interp/larger_grid_pos_embed", lambda x: x + 2e-6, {"interp/larger_grid_pos_embed"}),
        ("in/input_ids", lambda x: x + (x == 0), {"in/input_ids"}),
        ("debug/block1", lambda x: x[:, 1:], {"debug/block1"}),
        (
            "ckpt/vision_encoder.clip_projector.norm1_v.bias",
            lambda x: x * 1.01,
            {"out/vision_pooled", "out/video_feature", "out/image_pooled", "out/image_feature"}
            | {"pre/dataset_feature", "pre/prompt_video_feature"},
        ),
    ],
)
def test_a_deviation_is_found(name: str, change, off: set[str], tmp_path: Path, capsys) -> None:
    arrays = fixture_arrays()
    np.savez(tmp_path / "off.npz", **{**arrays, name: change(arrays[name]).astype(arrays[name].dtype)})
    assert main([str(tmp_path / "off.npz")]) == 1
    found = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("OFF")}
    assert off <= found and not any(other.startswith("out/text") for other in found - off)


def test_an_array_that_is_lacking_or_nobody_looks_at_fails_the_check(tmp_path: Path, capsys) -> None:
    arrays = fixture_arrays()
    np.savez(tmp_path / "more.npz", **arrays, new=np.zeros(3))
    assert main([str(tmp_path / "more.npz")]) == 1
    assert "0 off, 1 not looked at" in capsys.readouterr().out
    del arrays["debug/text_layer1"]
    np.savez(tmp_path / "less.npz", **arrays)
    assert main([str(tmp_path / "less.npz")]) == 1
    assert "1 off, 0 not looked at" in capsys.readouterr().out
