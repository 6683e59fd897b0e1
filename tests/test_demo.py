from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import genrl.demo
from genrl.demo import DemoConfig, demo, directory_name
from genrl.evaluation import panel
from genrl.infra.media import read_video
from genrl.run.prompting import PromptedModel
from genrl.vlm.protocol import check_texts
from tests.evaluation.tiny import SPEC, tiny_model


class LetterVLM:
    """Embeds a text by its letters, a video by its colours."""

    name, embed_dim, frames_per_clip, image_size, checksum = "letters", 26, 8, 64, ""

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        check_texts(texts)
        letters = "abcdefghijklmnopqrstuvwxyz"
        return F.normalize(torch.tensor([[text.lower().count(x) + 0.01 for x in letters] for text in texts]), dim=-1)

    def embed_video(self, clips: Tensor) -> Tensor:
        means = clips.float().mean((1, 3)).flatten(1)
        return F.normalize(means[:, : self.embed_dim], dim=-1)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> PromptedModel:
    # 100 control steps in each env step: 10 env steps an episode.
    spec = dataclasses.replace(SPEC, embed_dim=26, action_repeat=100)
    model = PromptedModel(tiny_model(spec), "tiny", torch.device("cpu"))
    model.__dict__["vlm"] = LetterVLM()
    monkeypatch.setattr(genrl.demo, "load_model", lambda name, device, vlm: model)
    for name, seconds in (("CURVE_START", 0.1), ("CURVE_SECONDS", 0.4), ("HOLD_SECONDS", 0.5)):
        monkeypatch.setattr(panel, name, seconds)
    return model


@pytest.mark.gl
def test_a_demo_makes_one_film_and_says_when_it_is_finished(
    model: PromptedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DemoConfig("running as fast as you can", updates=3, episodes=2, out=tmp_path, device="cpu")
    result = demo(config)
    assert result is not None
    directory = tmp_path / directory_name(config.prompt, 0)
    assert result.video == directory / "demo.mp4"
    frames = read_video(result.video)
    # 0.5 s until the episode, its 11 frames, 0.5 s more (halves of a frame are rounded to even).
    assert frames.shape == (12 + 11 + 12, panel.HEIGHT, panel.WIDTH, 3)
    assert (directory / "demo.png").is_file()
    assert json.loads((directory / "demo.json").read_text())["summary"]["num_episodes"] == 2
    said = capsys.readouterr().out
    assert result.task == "walker_run" and result.summary is not None
    assert f"scored by:     {result.task}, the task that rewards what is like" in said and "--task" in said

    written = result.video.stat().st_mtime_ns
    again = demo(config)
    assert "this demo is finished" in capsys.readouterr().out
    assert again is not None and again.summary == result.summary
    assert result.video.stat().st_mtime_ns == written

    other = demo(dataclasses.replace(config, task="walker_headstand"))
    assert other is not None and other.policy == result.policy
    assert other.summary is not None and other.summary.score is None
    assert result.video.stat().st_mtime_ns > written


@pytest.mark.gl
def test_a_prompt_that_means_no_task_gets_its_film_and_no_score(
    model: PromptedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DemoConfig("jumping", updates=3, episodes=1, out=tmp_path, device="cpu")
    result = demo(config)
    said = capsys.readouterr().out
    assert result is not None and result.task is None and result.summary is None
    assert "scored by:     no task" in said and "--task NAME scores it: walker_run" in said and "return ±" not in said
    again = demo(config)
    assert "this demo is finished" in capsys.readouterr().out
    assert again is not None and again.task is None and again.video == result.video
    scored = demo(dataclasses.replace(config, task="walker_stand"))
    assert scored is not None and scored.task == "walker_stand" and scored.summary is not None


@pytest.mark.gl
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "   "}, "prompt is empty"),
        ({"task": "walker_stnd"}, "did you mean walker_stand"),
        ({"episodes": 0}, "--episodes"),
        ({"updates": -1}, "--updates"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_bad_input_fails_before_anything_is_learnt(
    model: PromptedModel, tmp_path: Path, change: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        demo(dataclasses.replace(DemoConfig(out=tmp_path), **change))
    assert list(tmp_path.iterdir()) == []


def test_every_prompt_and_seed_has_a_directory_of_its_own() -> None:
    names = {directory_name(prompt, 0) for prompt in ("lie down", "lie-down", "Lie down", "lie down!", "лежать")}
    assert len(names) == 5
    assert directory_name("standing up straight", 3) == "standing-up-straight-seed3"
