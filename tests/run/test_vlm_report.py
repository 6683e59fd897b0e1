"""`genrl vlm report`: with rules, with names of sources and prompts, and with nothing known of the clips."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from genrl.data.store import Episode, Store, StoreSpec, StoreWriter
from genrl.infra.errors import UserError
from genrl.run.embed import EmbedConfig, embed
from genrl.run.report_clips import take_clips
from genrl.run.vlm_report import VlmReportConfig, vlm_report
from genrl.vlm.registry import load_vlm
from tests.run.tiny import make_model
from tests.vlm.tiny import noise, tiny_vlm


@pytest.fixture
def vlm(tmp_path: Path) -> Path:
    tiny_vlm().save(tmp_path / "vlm")
    return tmp_path / "vlm"


def embedded(path: Path, vlm: Path, sources: dict[str, str], episodes: int = 3, states: bool = False) -> Path:
    """A store of short episodes, so many from each source (name -> prompt), a colour for each source."""
    spec = StoreSpec("walker", 2, "fast", "side", 2, 0.025, state_dim=18 if states else 0)
    with StoreWriter.open(path, spec) as writer:
        for number, (source, prompt) in enumerate(sources.items()):
            for episode in range(episodes):
                frames = noise(20, 64, 64, seed=episode).numpy() // 4 + np.uint8(60 * number)
                zeros = np.zeros(20, np.float32)
                state = None
                if states:
                    state = np.zeros((20, 18))
                    state[:, 2] = np.pi * number  # The second source stands on its head.
                    state[:, 1] = 1.0 * number
                action = np.zeros((20, 2), np.float32)
                writer.add(Episode(frames, action, zeros, zeros.astype(bool), state, prompt=prompt), source)
    embed(EmbedConfig((path,), str(vlm), "cpu"))
    return path


def report_of(data: Path, vlm: Path, out: Path, **options) -> dict:
    report = vlm_report(VlmReportConfig((data,), vlm=str(vlm), out=out, device="cpu", **options))
    assert json.loads((out / "report.json").read_text()) == report
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    return report


def test_groups_named_after_sources_are_measured_by_retrieval(vlm: Path, tmp_path: Path) -> None:
    data = embedded(tmp_path / "store", vlm, {"first": "", "second": ""})
    file = tmp_path / "wordings.json"
    file.write_text(json.dumps({"first": ["walking", "a stroll"], "nobody": ["a cat"]}))
    report = report_of(data, vlm, tmp_path / "out", wordings=file)
    assert report["facts"]["clips"] == 2 * 6 and not report["facts"]["held_out"]  # 20 frames hold two clips of 8.
    walking, stroll, cat = report["texts"]
    assert cat["raw"]["auc"] is None and walking["raw"]["base_rate"] == 0.5

    model, opened = load_vlm(str(vlm)), Store.open(data)
    ends = [start + end for start in range(0, 120, 20) for end in (7, 15)]
    video = np.stack([opened.read("embedding/mini", end, end + 1)[0] for end in ends]).astype(np.float32)
    video /= np.linalg.norm(video, axis=1, keepdims=True)
    cosines = video @ model.embed_text(["walking"])[0].numpy()
    shown, others = cosines[:6], cosines[6:]
    assert walking["raw"]["auc"] == pytest.approx((shown[:, None] > others).mean())
    assert walking["raw"]["mean"] == pytest.approx(float(cosines.mean()), abs=1e-5)
    best = walking["raw"]["top"][0]
    assert best["row"] == ends[int(cosines.argmax())] and best["episode"] == best["row"] // 20
    assert report["spaces"]["raw"]["gap"] > 0 and "aligned" not in report["spaces"]


def test_recorded_prompts_are_the_texts_where_no_others_are_given(vlm: Path, tmp_path: Path) -> None:
    data = embedded(tmp_path / "store", vlm, {"first": "walking", "second": "lying still", "third": ""})
    report = report_of(data, vlm, tmp_path / "out")
    assert [row["text"] for row in report["texts"]] == ["walking", "lying still"]
    # What a clip without a prompt shows is unknown: the rate is that of the six and six.
    assert report["texts"][0]["raw"]["base_rate"] == 0.5 and report["texts"][0]["raw"]["auc"] is not None


def test_with_states_rules_say_what_clips_show(vlm: Path, tmp_path: Path) -> None:
    data = embedded(tmp_path / "store", vlm, {"upright": "", "on its head": ""}, states=True)
    report = report_of(data, vlm, tmp_path / "out")
    groups = {row["group"]: row["raw"]["base_rate"] for row in report["texts"]}
    assert groups["stand"] == 0.5 and "run" not in groups


def test_with_nothing_known_the_prompts_of_the_tasks_are_looked_at(vlm: Path, tmp_path: Path) -> None:
    data = embedded(tmp_path / "store", vlm, {"first": "", "second": ""})
    report = report_of(data, vlm, tmp_path / "out")
    assert "lying down horizontally" in [row["text"] for row in report["texts"]]
    assert report["spaces"]["raw"]["auc"] is None and report["sources"] == ["first", "second"]
    one = report["texts"][0]["raw"]
    assert one["by_source"][0] == pytest.approx(-one["by_source"][1], abs=1e-4)  # As many clips of each.


def test_with_a_model_texts_are_measured_past_its_aligner_too(tmp_path: Path) -> None:
    model, store, vlm = make_model(tmp_path)
    report = report_of(store, vlm, tmp_path / "out", model=str(model))
    raw, aligned = report["spaces"]["raw"], report["spaces"]["aligned"]
    assert raw["gap"] != aligned["gap"] and report["texts"][0]["aligned"]["mean"] != report["texts"][0]["raw"]["mean"]


def test_every_tenth_episode_is_held_out_and_the_clips_are_thinned_evenly(vlm: Path, tmp_path: Path) -> None:
    data = embedded(tmp_path / "store", vlm, {"only": ""}, episodes=21)
    model = load_vlm(str(vlm))
    clips = take_clips([Store.open(data)], model, 100)
    assert clips.held_out and clips.episode.tolist() == [9, 9, 19, 19]
    assert clips.row.tolist() == [9 * 20 + 7, 9 * 20 + 15, 19 * 20 + 7, 19 * 20 + 15]
    assert take_clips([Store.open(data)], model, 2).episode.tolist() == [9, 19]


def test_what_does_not_fit_is_refused(vlm: Path, tmp_path: Path) -> None:
    data = embedded(tmp_path / "store", vlm, {"first": ""})
    tiny_vlm(seed=1).save(tmp_path / "other")
    with pytest.raises(UserError, match="from other weights"):
        report_of(data, tmp_path / "other", tmp_path / "out")
    with pytest.raises(UserError, match="--data is missing"):
        vlm_report(VlmReportConfig())
    file = tmp_path / "wordings.json"
    for text in ("{", '{"walk": "walking"}', "[]", '{"walk": [3]}', '{"walk": []}'):
        file.write_text(text)
        with pytest.raises(UserError, match="--wordings"):
            report_of(data, vlm, tmp_path / "out", wordings=file)
    with pytest.raises(ValueError, match="--clips"):
        VlmReportConfig(clips=1)
    assert not (tmp_path / "out").exists()
