"""The film of a demo: what was imagined, how it was learnt, what came of it, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Frames = NDArray[np.uint8]
Color = tuple[int, int, int]

WIDTH, HEIGHT, FPS = 960, 448, 25
PANEL_SIZE = 292
MARGIN, GAP, TOP = 20, 22, 84
PREVIEW_FRAMES_PER_SECOND = 12.5
"""The preview is shown a little slower than it happens: it lasts two seconds."""
CURVE_START, CURVE_SECONDS, HOLD_SECONDS = 1.6, 5.4, 3.0
CAPTION_Y, FOOTER_Y = TOP + PANEL_SIZE + 6, TOP + PANEL_SIZE + 36

BACKGROUND: Color = (15, 18, 25)
CARD: Color = (25, 29, 39)
GRID: Color = (48, 54, 70)
TEXT: Color = (236, 239, 244)
MUTED: Color = (143, 151, 171)
CURVE: Color = (94, 182, 255)
SCORE: Color = (126, 211, 141)

SMOOTHING = 4
"""Factor by which lines are drawn larger and then shrunk, which smooths their edges."""
BAR_X, BAR_WIDTH, BAR_HEIGHT = MARGIN + PANEL_SIZE + GAP, PANEL_SIZE, 14


@dataclass(frozen=True)
class Story:
    """What a film tells.

    Attributes:
        prompt: Title.
        preview: (T, h, w, 3) uint8 decoded target.
        preview_note: Line below it.
        history: (update, imagined return) in order.
        unlearnt_note: What stands in the place of the curve where there is no history.
        episode: (K, PANEL_SIZE, PANEL_SIZE, 3) uint8 frames, shown one a film frame.
        episode_returns: (K,) return up to each of them; None does not tell it.
        episode_note: Added to the line below the episode.
        score_label: What the bar at the bottom measures.
        score: Length of the bar, clipped to [0, 1]; None leaves the bar out.
        score_text: The result in words.
    """

    prompt: str
    preview: Frames
    preview_note: str
    history: list[tuple[int, float]]
    unlearnt_note: str
    episode: Frames
    episode_returns: NDArray[np.float64] | None
    episode_note: str
    score_label: str
    score: float | None
    score_text: str


def film(story: Story) -> Frames:
    """(T, HEIGHT, WIDTH, 3) uint8 frames at FPS, with everything to be seen in the last one."""
    assert story.episode.shape[1:] == (PANEL_SIZE, PANEL_SIZE, 3)
    assert story.episode_returns is None or len(story.episode) == len(story.episode_returns)
    scene = _Scene(story)
    episode_start = round((CURVE_START + CURVE_SECONDS) * FPS)
    episode_end = episode_start + len(story.episode)
    length = episode_end + round(HOLD_SECONDS * FPS)
    frames = np.empty((length, HEIGHT, WIDTH, 3), np.uint8)
    for index in range(length):
        learnt = (index / FPS - CURVE_START) / CURVE_SECONDS
        ended = (index - episode_end) / FPS
        frames[index] = scene.draw(index / FPS, float(np.clip(learnt, 0, 1)), index - episode_start, ended)
    return frames


class _Scene:
    """Draws single frames over what never changes."""

    def __init__(self, story: Story) -> None:
        self.story = story
        size = (PANEL_SIZE, PANEL_SIZE)
        self.preview = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in story.preview]
        self.curve = _Curve(story.history)

    @cached_property
    def still(self) -> Image.Image:
        """Title, headings and the empty bar."""
        image = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
        draw = ImageDraw.Draw(image)
        _text(draw, (MARGIN, 14), f"“{self.story.prompt}”", 24, TEXT, WIDTH - 2 * MARGIN, bold=True)
        second = "2 · Learnt in imagination" if self.story.history else "2 · Nothing learnt for this prompt"
        headings = ("1 · Imagined from the prompt", second, "3 · Run in the simulator")
        for column, heading in enumerate(headings):
            _text(draw, (_left(column), TOP - 25), heading, 14, MUTED, PANEL_SIZE)
        _text(draw, (_left(0), CAPTION_Y), self.story.preview_note, 12, MUTED, PANEL_SIZE)
        if not self.story.history:
            _card(draw, _left(1), self.story.unlearnt_note)
        if self.story.score is not None:
            _text(draw, (MARGIN, FOOTER_Y), self.story.score_label, 14, MUTED, PANEL_SIZE)
            _bar(draw, 1.0, CARD)
        return image

    def draw(self, seconds: float, learnt: float, step: int, ended: float) -> Frames:
        """One frame.

        Args:
            seconds: Since the beginning.
            learnt: Share of the curve that is drawn.
            step: Frame of the episode; below zero it has not begun, above the last it is over.
            ended: Seconds since the episode's end; negative before.
        """
        image = self.still.copy()
        draw = ImageDraw.Draw(image)
        image.paste(self.preview[int(seconds * PREVIEW_FRAMES_PER_SECOND) % len(self.preview)], (_left(0), TOP))
        if self.story.history:
            image.paste(self.curve.draw(learnt), (_left(1), TOP))
            _text(draw, (_left(1), CAPTION_Y), self.curve.caption(learnt), 12, MUTED, PANEL_SIZE)
        self._draw_episode(image, draw, step)
        if ended >= 0:
            self._draw_score(draw, min(1.0, ended / 0.8))
        return np.asarray(image)

    def _draw_episode(self, image: Image.Image, draw: ImageDraw.ImageDraw, step: int) -> None:
        story = self.story
        if step < 0:
            waiting = Image.blend(Image.fromarray(story.episode[0]), Image.new("RGB", (PANEL_SIZE,) * 2, CARD), 0.75)
            image.paste(waiting, (_left(2), TOP))
            return
        step = min(step, len(story.episode) - 1)
        image.paste(Image.fromarray(story.episode[step]), (_left(2), TOP))
        told = "" if story.episode_returns is None else f"return {story.episode_returns[step]:.0f} · "
        caption = told + story.episode_note
        _text(draw, (_left(2), CAPTION_Y), caption, 12, MUTED, PANEL_SIZE)

    def _draw_score(self, draw: ImageDraw.ImageDraw, share: float) -> None:
        story = self.story
        if story.score is None:
            _text(draw, (MARGIN, FOOTER_Y), story.score_text, 14, TEXT, WIDTH - 2 * MARGIN)
            return
        _bar(draw, share * float(np.clip(story.score, 0.0, 1.0)), SCORE)
        _text(draw, (_left(2), FOOTER_Y - 1), story.score_text, 15, TEXT, PANEL_SIZE, bold=True)


class _Curve:
    """The learning curve, drawn up to any share of its length."""

    LEFT, RIGHT, UPPER, LOWER = 44, 14, 16, 30

    def __init__(self, history: list[tuple[int, float]]) -> None:
        self.updates = np.array([update for update, _ in history], float)
        self.values = np.array([value for _, value in history], float)
        self.last = self.updates[-1] if len(history) else 1.0
        low, high = (self.values.min(), self.values.max()) if len(history) else (0.0, 1.0)
        # A flat curve would otherwise be all noise.
        room = max(0.08 * (high - low), 0.01 * abs(high), 1e-3)
        self.low, self.high = low - room, high + room

    @cached_property
    def axes(self) -> Image.Image:
        """Grid and numbers."""
        image = Image.new("RGB", (PANEL_SIZE, PANEL_SIZE), CARD)
        draw = ImageDraw.Draw(image)
        for value in _ticks(self.low, self.high):
            y = round(self._y(value))
            draw.line([(self.LEFT, y), (PANEL_SIZE - self.RIGHT, y)], GRID)
            draw.text((self.LEFT - 6, y), f"{value:g}", MUTED, _font(11), anchor="rm")
        for value in _ticks(0.0, self.last):
            draw.text((round(self._x(value)), PANEL_SIZE - self.LOWER + 8), f"{value:g}", MUTED, _font(11), anchor="mt")
        draw.text((self.LEFT + 4, 4), "imagined return", MUTED, _font(11))
        draw.text((PANEL_SIZE - self.RIGHT, PANEL_SIZE - 3), "updates", MUTED, _font(10), anchor="rb")
        return image

    def draw(self, share: float) -> Image.Image:
        """(PANEL_SIZE, PANEL_SIZE) picture of the first `share` of the updates."""
        image = self.axes.copy()
        updates, values = self._until(share)
        if len(updates) == 0:
            return image
        points = [(self._x(x) * SMOOTHING, self._y(y) * SMOOTHING) for x, y in zip(updates, values, strict=True)]
        mask = Image.new("L", (PANEL_SIZE * SMOOTHING, PANEL_SIZE * SMOOTHING))
        draw = ImageDraw.Draw(mask)
        floor = (PANEL_SIZE - self.LOWER) * SMOOTHING
        if len(points) > 1:
            draw.polygon([(points[0][0], floor), *points, (points[-1][0], floor)], fill=40)
            draw.line(points, fill=255, width=2 * SMOOTHING, joint="curve")
        x, y = points[-1]
        radius = 4 * SMOOTHING
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        image.paste(CURVE, mask=mask.resize(image.size, Image.Resampling.BOX))
        return image

    def caption(self, share: float) -> str:
        """Where the pen is."""
        updates, values = self._until(share)
        return f"update {updates[-1]:.0f} · imagined return {values[-1]:.2f}" if len(updates) else ""

    def _until(self, share: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points up to a share of the updates, the last one interpolated."""
        end = share * self.last
        count = int(np.searchsorted(self.updates, end, side="right"))
        updates, values = self.updates[:count], self.values[:count]
        if 0 < count < len(self.updates) and end > updates[-1]:
            value = np.interp(end, self.updates, self.values)
            updates, values = np.append(updates, end), np.append(values, value)
        return updates, values

    def _x(self, update: float) -> float:
        return self.LEFT + (PANEL_SIZE - self.LEFT - self.RIGHT) * update / self.last

    def _y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return PANEL_SIZE - self.LOWER - (PANEL_SIZE - self.LOWER - self.UPPER) * share


def _ticks(low: float, high: float) -> list[float]:
    """About four round numbers in [low, high]."""
    step = 10.0 ** np.floor(np.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 5)
    return [float(f"{index * step:.6g}") for index in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _left(column: int) -> int:
    return MARGIN + column * (PANEL_SIZE + GAP)


def _bar(draw: ImageDraw.ImageDraw, share: float, color: Color) -> None:
    """Bar at the bottom, filled up to a share."""
    width, y = round(share * BAR_WIDTH), FOOTER_Y + 2
    if width > 0:
        draw.rounded_rectangle((BAR_X, y, BAR_X + width, y + BAR_HEIGHT), min(BAR_HEIGHT, width) // 2, fill=color)


def _card(draw: ImageDraw.ImageDraw, left: int, text: str) -> None:
    """A panel of words."""
    draw.rectangle((left, TOP, left + PANEL_SIZE - 1, TOP + PANEL_SIZE - 1), CARD)
    middle = (left + PANEL_SIZE / 2, TOP + PANEL_SIZE / 2)
    draw.multiline_text(middle, text, TEXT, _font(15), anchor="mm", spacing=8, align="center")


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    color: Color,
    width: int,
    bold: bool = False,
) -> None:
    """One line that fits into a width: smaller first, then cut short."""
    text = " ".join(text.split())
    while _font(size, bold).getlength(text) > width and size > 11:
        size -= 1
    font = _font(size, bold)
    if font.getlength(text) > width:
        while text and font.getlength(text + "…") > width:
            text = text[:-1]
        text += "…"
    draw.text(place, text, color, font)


@lru_cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu, which comes with matplotlib and knows Latin, Greek and Cyrillic letters."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
