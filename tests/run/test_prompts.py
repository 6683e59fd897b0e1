"""Prompting well: several wordings, a baseline, embeddings from another machine, the order of wordings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import genrl
from genrl import cli
from genrl.behavior.policy import Policy
from genrl.infra.errors import UserError
from genrl.infra.media import write_video
from genrl.models.foundation import FoundationModel
from genrl.run.imagine import ImagineConfig, imagine
from genrl.run.learn import learn
from genrl.run.prompt_rank import PromptRankConfig, prompt_rank
from genrl.run.prompting import load_model
from genrl.run.prompts import PromptConfig, read_prompts
from genrl.run.vlm_embed import VlmEmbedConfig, vlm_embed
from genrl.vlm.embedded_prompts import EmbeddedPrompts
from genrl.vlm.prompt_embedding import against_baseline
from genrl.vlm.registry import load_vlm
from tests.run.tiny import learn_config, make_model
from tests.vlm.tiny import tiny_vlm


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Model and VLM."""
    model, _, vlm = make_model(tmp_path_factory.mktemp("made"))
    return model, vlm


@pytest.fixture
def config(made: tuple[Path, Path]) -> PromptConfig:
    model, vlm = made
    return PromptConfig(str(model), str(vlm))


def prompts(config: PromptConfig) -> list:
    return read_prompts(load_model(config.model, vlm=config.vlm), config)


def test_wordings_and_baseline_make_the_embedding_that_the_library_makes(config: PromptConfig) -> None:
    (one,) = prompts(
        replace(
            config, prompt=("walking", "a stroll"), ensemble=True, baseline_prompt="a person", baseline_strength=0.3
        )
    )
    texts = load_vlm(str(config.vlm)).embed_text(["walking", "a stroll", "a person"])
    mean = F.normalize(texts[:2].mean(0), dim=-1)
    assert torch.allclose(one.embedding, against_baseline(mean, texts[2], 0.3), atol=1e-6)
    assert one.align and one.label == "walking / a stroll (less 0.3 of a person)"
    model = genrl.load(config.model, "cpu", config.vlm)
    same = model.prompt("walking", "a stroll", baseline="a person", strength=0.3)
    assert same.label == one.label and same.embedding.equal(one.embedding)


def test_a_baseline_changes_what_is_imagined_and_strength_0_does_not(config: PromptConfig, tmp_path: Path) -> None:
    common = {"model": config.model, "vlm": config.vlm, "prompt": ("walking",), "steps": 8, "device": "cpu"}
    plain, weak, strong = (
        imagine(ImagineConfig(**common, **extra, out=tmp_path / "a.png"))[0].frames
        for extra in (
            {},
            {"baseline_prompt": "a person", "baseline_strength": 0.0},
            {"baseline_prompt": "a person", "baseline_strength": 1.0},
        )
    )
    assert np.abs(plain.astype(int) - weak).max() <= 1 and (plain != strong).any()


def test_a_policy_is_learnt_from_wordings_and_baseline(made: tuple[Path, Path], tmp_path: Path) -> None:
    model, vlm = made
    config = replace(
        learn_config(model, vlm, tmp_path / "run", updates=1), prompt=("walking", "a stroll"), ensemble=True
    )
    (result,) = learn(replace(config, baseline_prompt="a person"))
    assert Policy.load(result.policy).info["prompt"] == "walking / a stroll (less 0.5 of a person)"
    policy = genrl.learn(
        str(model), ["walking", "a stroll"], "debug", vlm=str(vlm), updates=1, out=tmp_path / "api", device="cpu"
    )
    assert policy.info["prompt"] == "walking / a stroll"


def test_one_store_for_the_starts_need_not_stand_in_a_tuple(made: tuple[Path, Path], tmp_path: Path) -> None:
    model, vlm = made
    store = model.parent.parent / "store"
    options = {"vlm": str(vlm), "updates": 1, "device": "cpu"}
    one, several = (
        genrl.learn(str(model), "walking", "debug", data=data, out=tmp_path / name, **options)
        for name, data in (("one", str(store)), ("several", [store]))
    )
    for mine, other in zip(one.actor.parameters(), several.actor.parameters(), strict=True):
        assert mine.equal(other)


def test_prompts_embedded_elsewhere_are_those_embedded_here(
    config: PromptConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(
        tmp_path / "clip.mp4", np.random.default_rng(0).integers(256, size=(16, 64, 64, 3), dtype=np.uint8), 20
    )
    file = tmp_path / "prompts.npz"
    vlm_embed(VlmEmbedConfig(("walking", "kneeling"), (video,), vlm=str(config.vlm), out=file, device="cpu"))
    here = prompts(replace(config, prompt=("walking", "kneeling"), video=(video,)))
    # The machine of the model has no VLM.
    away = replace(config, vlm=None)
    monkeypatch.setattr("genrl.run.prompting.load_vlm", None)
    there = prompts(replace(away, text_embedding=(str(file),), video_embedding=(str(file),)))
    assert [(p.label, p.align) for p in there] == [("walking", True), ("kneeling", True), ("clip.mp4", False)]
    for one, other in zip(here, there, strict=True):
        assert torch.allclose(one.embedding, other.embedding, atol=1e-6)
    (one,) = prompts(replace(away, text_embedding=(f"{file}:kneeling",)))
    assert one.label == "kneeling"
    (both,) = prompts(replace(away, text_embedding=(str(file),), ensemble=True))
    assert both.label == "walking / kneeling"


def test_prompts_that_another_vlm_embedded_are_refused_by_name(config: PromptConfig, tmp_path: Path) -> None:
    tiny_vlm(seed=1).save(tmp_path / "other")
    file = tmp_path / "prompts.npz"
    vlm_embed(VlmEmbedConfig(("walking",), vlm=str(tmp_path / "other"), out=file, device="cpu"))
    said = f"embedded by VLM 'mini' of checksum {tiny_vlm(1).checksum}, but .*'mini' of {tiny_vlm().checksum}"
    with pytest.raises(UserError, match=said):
        prompts(replace(config, text_embedding=(str(file),)))
    with pytest.raises(UserError, match=f"checksum {tiny_vlm().checksum}, but the one here .*{tiny_vlm(1).checksum}"):
        prompts(replace(config, vlm=str(tmp_path / "other"), prompt=("walking",)))


def test_videos_read_at_another_rate_are_refused(config: PromptConfig, tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", np.zeros((30, 64, 64, 3), np.uint8), 20)
    file = tmp_path / "prompts.npz"
    vlm_embed(VlmEmbedConfig((), (video,), rate=10, vlm=str(config.vlm), out=file, device="cpu"))
    with pytest.raises(UserError, match="videos read at 10 frames a second, .* --rate 20"):
        prompts(replace(config, video_embedding=(str(file),)))


def test_videos_read_in_clips_of_other_lengths_are_refused(config: PromptConfig, tmp_path: Path) -> None:
    shown = EmbeddedPrompts(torch.ones(1, 16), ("clip.mp4",), ("video",), "mini", tiny_vlm().checksum, 20.0, frames=4)
    shown.save(tmp_path / "prompts.npz")
    with pytest.raises(UserError, match="clips of 4 frames, .* --frames 8"):
        prompts(replace(config, video_embedding=(str(tmp_path / "prompts.npz"),)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("imagine",), "--prompt is missing"),
        (("imagine", "--prompt", "walking", "--ensemble"), "--ensemble needs at least two wordings"),
        (("imagine", "--prompt", "walking", "--baseline-prompt", "x", "--baseline-strength", "2"), "[0, 1], got 2.0"),
        (("vlm", "embed"), "nothing to embed"),
        (("vlm", "embed", "walking", "walking"), "'walking' is given twice"),
        (("vlm", "embed", "walking", "--clip.frame", "0"), "--clip chooses from a --video"),
        (("vlm", "embed", "walking", "--rate", "0"), "--rate must be positive"),
        (("vlm", "embed", " "), "the prompt is empty"),
        (("prompt", "rank"), "no wordings"),
        (("prompt", "rank", "walking", "--ensemble"), "--ensemble needs at least two wordings"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    words: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("GENRL_TRACEBACK", raising=False)
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_without_texts_is_refused(config: PromptConfig, tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", np.zeros((16, 64, 64, 3), np.uint8), 20)
    with pytest.raises(UserError, match="--baseline-prompt acts on texts"):
        prompts(replace(config, video=(video,), baseline_prompt="a person"))


def test_the_target_is_the_candidate_whose_picture_fits_the_prompt_best(made: tuple[Path, Path]) -> None:
    model = load_model(made[0], vlm=str(made[1]))
    prompt, clip = model.prompt("walking"), model.model.spec.frames_per_clip
    candidates = model.model.target_candidates(model.goal(prompt), 2 * clip, 12)
    frames = model.model.decode(candidates.stoch)
    fits = [
        F.normalize(model.vlm.embed_video(shown.unflatten(0, (2, clip))).mean(0), dim=-1) @ prompt.embedding
        for shown in frames
    ]
    best = int(torch.stack(fits).argmax())
    assert model.target(prompt, 2 * clip, 12).stoch[0].equal(candidates.stoch[best])
    # The preview goes on from what `learn` follows, however short that is.
    assert model.target(prompt, 3, 12).stoch[0].equal(candidates.stoch[best, :3])
    assert (model.imagine(prompt, 3 * clip, 12)[: 2 * clip] == frames[best].numpy()).all()
    mode = model.target(prompt, 5)
    assert mode.stoch.equal(model.model.target(model.goal(prompt)[None], 5, align=False).stoch)


def test_without_the_vlm_the_target_is_the_mode(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(made[0], vlm=str(made[1]))
    prompt = model.prompt("walking")
    monkeypatch.setattr("genrl.run.prompting.find_vlm", lambda name: None)
    assert model.target(prompt, 5, 12).stoch.equal(model.target(prompt, 5).stoch)


def test_the_score_beside_a_preview_is_that_of_what_it_shows(made: tuple[Path, Path], tmp_path: Path) -> None:
    model = load_model(made[0], vlm=str(made[1]))
    prompt, clip = model.prompt("walking"), model.model.spec.frames_per_clip
    mode, drawn = (model.preview(prompt, 3 * clip, candidates) for candidates in (0, 12))
    assert (mode[0] != drawn[0]).any()
    for frames, fit in (mode, drawn):
        clips = torch.as_tensor(frames[: 2 * clip]).unflatten(0, (2, clip))
        shown = F.normalize(model.vlm.embed_video(clips).mean(0), dim=-1)
        assert fit is not None and fit.cosine == pytest.approx(float(shown @ prompt.embedding), abs=1e-5)
    assert drawn[1].cosine > mode[1].cosine
    # Compared with modes of other prompts.
    assert drawn[1].z_score == mode[1].z_score == model.groundability(prompt).z_score
    # Wordings are compared by the mode.
    assert model.groundability(prompt) == mode[1]
    # However short a preview is.
    frames, fit = model.preview(prompt, 3, 12)
    assert (frames == drawn[0][:3]).all() and fit == drawn[1]
    common = {"model": str(made[0]), "vlm": str(made[1]), "prompt": ("walking",), "steps": 8, "device": "cpu"}
    (shown,) = imagine(ImagineConfig(**common, target_candidates=12, out=tmp_path / "a.png"))
    assert shown.groundability == drawn[1]


def test_a_model_that_pictures_all_prompts_alike_has_no_z_score(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        FoundationModel, "decode", lambda self, stoch: torch.zeros(*stoch.shape[:2], 64, 64, 3, dtype=torch.uint8)
    )
    config = ImagineConfig(str(made[0]), str(made[1]), ("walking", "kneeling"), steps=8, out=tmp_path / "a.png")
    assert not any(preview.groundability.has_z for preview in imagine(replace(config, device="cpu")))
    out = capsys.readouterr().out
    assert (
        "nan" not in out and out.count("no z-score: the model's pictures of the reference prompts are all alike") == 1
    )


def test_the_vlms_caution_is_passed_on_once_and_for_prompts_alone(
    made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(made[0], vlm=str(made[1]))
    for _ in range(2):
        model.groundability(
            model.prompt("asdfgh", "walking")
        )  # "Shaking", a reference prompt, is in no caption either.
    assert [line.partition(" is ")[0] for line in capsys.readouterr().err.splitlines()] == ["caution: 'asdfgh'"]


def test_a_vlm_may_have_no_caution(made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    class Plain:
        def embed_text(self, texts: list[str]) -> torch.Tensor:
            return torch.ones(len(texts), 16)

    model = load_model(made[0], vlm=str(made[1]))
    model.__dict__["vlm"] = Plain()
    model.prompt("asdfgh")
    assert not capsys.readouterr().err


def rank(config: PromptConfig, *texts: str, **options) -> list:
    return prompt_rank(PromptRankConfig(texts, config.model, config.vlm, device="cpu", **options))


def test_wordings_are_ranked_by_their_z_score(
    config: PromptConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ("walking", "lying on the floor", "a handstand", "walking")
    ranked = rank(config, *texts, out=tmp_path / "rank.json")
    model = load_model(config.model, vlm=config.vlm)
    own = {text: model.groundability(text) for text in texts}
    assert [row.prompt for row in ranked] == sorted(own, key=lambda text: -own[text].z_score)
    assert [row.cosine for row in ranked] == pytest.approx([own[row.prompt].cosine for row in ranked], abs=1e-5)
    lines = [line for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [line.split("│")[1].strip() for line in lines] == ["1", "2", "3"] and ranked[0].prompt in lines[0]
    assert [row["prompt"] for row in json.loads((tmp_path / "rank.json").read_text())["prompts"]] == [
        row.prompt for row in ranked
    ]


def test_the_mean_and_the_wordings_against_a_baseline_are_ranked_too(config: PromptConfig) -> None:
    labels = {row.prompt for row in rank(config, "walking", "a stroll", ensemble=True, baseline_prompt="a person")}
    plain = {"walking", "a stroll", "walking / a stroll"}
    assert labels == plain | {f"{text} (less 0.5 of a person)" for text in plain}
