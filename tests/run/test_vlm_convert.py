"""`genrl vlm convert` makes a directory that loads, refuses what it must, and leaves nothing behind when it fails."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from genrl import cli
from genrl.infra.errors import UserError
from genrl.run.vlm_convert import ConvertConfig, convert
from genrl.vlm.internvideo2 import load_internvideo2
from tests.vlm.internvideo2_tiny import TINY, tiny_tensors, write_published

pytest.importorskip("transformers", reason="the text tower needs the extra vlm")


def test_the_command_line_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_published(tmp_path)
    sizes = [f"--model.{name.replace('_', '-')}={value}" for name, value in dataclasses.asdict(TINY).items()]
    assert cli.main(["vlm", "convert", str(file), "--out", str(tmp_path / "converted"), *sizes]) == 0
    said = capsys.readouterr().out
    model = load_internvideo2(tmp_path / "converted")
    assert "bfloat16" in said and model.checksum in said
    assert {part.name for part in (tmp_path / "converted").iterdir()} == {"meta.json", "tensors.safetensors"}


def test_a_tiny_file_is_not_taken_for_the_real_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_published(tmp_path)
    assert cli.main(["vlm", "convert", str(file), "--out", str(tmp_path / "converted")]) == 2
    assert "vocab.txt has 13 tokens, the model 30522" in capsys.readouterr().err


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    del tensors["vision_encoder.cls_token"]
    file = write_published(tmp_path / "published", tensors)
    with pytest.raises(UserError, match="cls_token is missing"):
        convert(ConvertConfig(file, tmp_path / "converted", model=TINY))
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    file, out = write_published(tmp_path), tmp_path / "converted"
    convert(ConvertConfig(file, out, model=TINY))
    before = load_internvideo2(out).checksum
    torch.save({"module": tiny_tensors(seed=1)}, file)
    with pytest.raises(UserError, match="holds InternVideo2; choose another directory, or replace it with --fresh"):
        convert(ConvertConfig(file, out, model=TINY))
    assert load_internvideo2(out).checksum == before
    convert(ConvertConfig(file, out, fresh=True, model=TINY))
    assert load_internvideo2(out).checksum != before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    for fresh in (False, True):
        with pytest.raises(UserError, match="holds something else"):
            convert(ConvertConfig(file, tmp_path / "other", fresh=fresh, model=TINY))


def test_sizes_that_do_not_fit_the_tensors_are_refused(tmp_path: Path) -> None:
    out = convert(ConvertConfig(write_published(tmp_path), tmp_path / "converted", model=TINY))
    meta = json.loads((out / "meta.json").read_text())
    meta["config"]["pool_dim"] = 25
    (out / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"converted .* has shape \(24, 32\), not \(25, 32\)"):
        load_internvideo2(out)


def test_a_missing_file_is_named_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.pt is no file; get InternVideo2-stage2_1b-224p-f4\.pt from https://"):
        convert(ConvertConfig(tmp_path / "absent.pt", tmp_path / "converted"))
