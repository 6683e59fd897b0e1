from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from genrl.evaluation import panel
from genrl.evaluation.panel import FPS, HEIGHT, MARGIN, PANEL_SIZE, TOP, WIDTH, Story, film
from genrl.infra.media import read_video, write_video

RED, GREEN = (200, 0, 0), (0, 200, 0)
STORY = Story(
    prompt="standing up straight",
    preview=np.full((4, 8, 8, 3), RED, np.uint8),
    preview_note="groundability 0.40",
    history=[(10, 1.0), (20, 3.0), (30, 4.0)],
    unlearnt_note="as it is",
    episode=np.full((5, PANEL_SIZE, PANEL_SIZE, 3), GREEN, np.uint8),
    episode_returns=np.arange(5.0),
    episode_note="2.5× speed",
    score_label="score on walker_stand",
    score=0.5,
    score_text="0.50 over 3 episodes",
)


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "CURVE_START", 0.2)
    monkeypatch.setattr(panel, "CURVE_SECONDS", 0.4)
    monkeypatch.setattr(panel, "HOLD_SECONDS", 1.0)


def of_color(frames: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Pixels of exactly that colour in each frame."""
    return (frames == np.array(color, np.uint8)).all(-1).sum((-1, -2))


def test_a_film_shows_its_parts_one_after_the_other_and_all_of_them_at_the_end(tmp_path: Path) -> None:
    frames = film(STORY)
    start, end = 15, 20  # 0.6 s of preview and curve, then 5 frames of the episode
    assert frames.shape == (end + FPS, HEIGHT, WIDTH, 3) and frames.dtype == np.uint8
    panel_pixels = PANEL_SIZE**2
    assert (of_color(frames, RED) == panel_pixels).all()
    assert (of_color(frames[:start], GREEN) == 0).all()
    assert (of_color(frames[start:], GREEN) == panel_pixels).all()
    curve = of_color(frames, panel.CURVE)
    assert curve[0] == 0 and curve[14] > curve[10] > 0 and (curve[start:] == curve[-1]).all()
    bar = of_color(frames, panel.SCORE)
    assert (bar[:end] == 0).all()
    # Half of the bar, less its rounded corners.
    half = panel.BAR_WIDTH * panel.BAR_HEIGHT / 2
    assert 0.9 * half < bar[-1] <= 1.2 * half

    written = write_video(tmp_path / "film.mp4", frames, FPS)
    back = read_video(written)
    assert back.shape == frames.shape
    assert np.abs(back[-1].astype(int) - frames[-1]).mean() < 3


@pytest.mark.parametrize("history", [[], [(10, 2.0)], [(10, 0.0), (20, 0.0)]])
def test_short_and_flat_histories_can_be_drawn(history: list[tuple[int, float]]) -> None:
    curve = of_color(film(dataclasses.replace(STORY, history=history))[-1], panel.CURVE)
    assert (curve > 0) == bool(history)


@pytest.mark.parametrize(("score", "share"), [(-0.2, 0.0), (1.7, 1.0)])
def test_the_bar_stays_in_its_place_whatever_the_score(score: float, share: float) -> None:
    bar = of_color(film(dataclasses.replace(STORY, score=score))[-1], panel.SCORE)
    whole = panel.BAR_WIDTH * panel.BAR_HEIGHT
    assert 0.95 * share * whole <= bar <= 1.1 * share * whole


def test_a_task_without_score_has_no_bar() -> None:
    last = film(dataclasses.replace(STORY, score=None, score_text="return 12.0 over 3 episodes"))[-1]
    assert of_color(last, panel.SCORE) == 0
    assert of_color(last[panel.FOOTER_Y :], panel.TEXT) > 50


def test_where_nothing_was_learnt_words_stand_in_the_place_of_the_curve() -> None:
    left = MARGIN + PANEL_SIZE + panel.GAP
    chart = film(dataclasses.replace(STORY, history=[]))[-1, TOP : TOP + PANEL_SIZE, left : left + PANEL_SIZE]
    assert of_color(chart, panel.TEXT) > 5
    # Neither axes nor numbers.
    assert of_color(chart, panel.GRID) == of_color(chart, panel.MUTED) == 0


def test_a_return_that_nobody_asked_for_is_not_told() -> None:
    told, untold = (film(dataclasses.replace(STORY, episode_returns=it))[-1] for it in (np.arange(5.0), None))
    caption = np.s_[panel.CAPTION_Y : panel.CAPTION_Y + 16]
    assert of_color(told[caption], panel.MUTED) > of_color(untold[caption], panel.MUTED) > 0


def test_long_and_foreign_prompts_keep_to_the_title_line() -> None:
    last = film(dataclasses.replace(STORY, prompt="стоять прямо и ровно " * 20))[-1]
    title = last[: TOP - 26]
    assert of_color(title[:, MARGIN : WIDTH - MARGIN], panel.TEXT) > 500
    margins = np.concatenate([title[:, :MARGIN], title[:, WIDTH - MARGIN :]], axis=1)
    assert of_color(margins, panel.BACKGROUND) == margins.shape[0] * margins.shape[1]


def test_ticks_are_round_numbers_inside_the_range() -> None:
    assert panel._ticks(0.0, 1000.0) == [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]
    assert panel._ticks(-0.13, 0.27) == [-0.1, 0.0, 0.1, 0.2]
