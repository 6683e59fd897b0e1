"""Which frames of a video are shown to a video-language model."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genrl.infra.errors import UserError
from genrl.infra.media import Frames, iterate_video, resize_frames

MOST_CLIPS = 32
"""Clips read of a long video, evenly spread over it."""
ROUNDING = 0.01
"""Share of a frame's time that two times may differ by and still be the same."""


@dataclass(frozen=True)
class ClipConfig:
    """Which part of each --video is the prompt; by default all of it, long ones at 17 to 32 moments."""

    start: float = 0.0
    """Seconds of the video before the part begins."""
    stop: float | None = None
    """Second of the video at which it ends."""
    stride: int = 0
    """Take every n-th frame as it comes; 0 takes frames at the model's own rate, whatever the video's."""
    flip: bool = False
    """Mirror left and right."""
    frame: int | None = None
    """Take this frame alone, a pose to hold; the first is 0, the last -1."""

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise ValueError(
                f"--clip.start must be 0 or more and --clip.stop above it, got {self.start} and {self.stop}"
            )
        if self.stride < 0:
            raise ValueError(f"--clip.stride must be 0 or more, got {self.stride}")
        if self.frame is not None and (self.start, self.stop, self.stride) != (0.0, None, 0):
            raise ValueError("--clip.frame takes one frame of the whole video; leave --clip.start, stop and stride out")


@dataclass(frozen=True)
class VideoClips:
    """What was taken of a video.

    Attributes:
        clips: (M, L, size, size, 3) uint8, the middle square of each frame; an image is a clip that stands still.
        total: Clips that the part consists of; more than M in a long one.
    """

    clips: Frames
    total: int


def read_clips(path: Path, config: ClipConfig, frames_per_clip: int, fps: float, size: int) -> VideoClips:
    """Take a video's frames in clips of equal length, one after the other, in memory that does not grow with it.

    Args:
        path: A video, an animation or an image.
        config: Which part, and how.
        frames_per_clip: Length L of a clip.
        fps: Frames a second that the model knows.
        size: Height and width of the frames.

    Raises:
        UserError: If the file cannot be read, or the part is empty or shorter than a clip.
    """
    if config.frame is not None:
        return VideoClips(_still(_frame(path, config.frame), config, frames_per_clip, size), 1)
    video = iterate_video(path)
    opening = list(itertools.islice(video, 2))
    if len(opening) == 1 and config.start == 0.0:
        return VideoClips(_still(opening[0][1], config, frames_per_clip, size), 1)
    part = _Part(config)
    frames = part.cut(itertools.chain(opening, video))
    taken = itertools.islice(frames, None, None, config.stride) if config.stride else _at_rate(frames, fps)
    clips, total, count = _spread(taken, config, frames_per_clip, size)
    if not part.frames:
        raise UserError(f"{path} lasts {part.seconds:.2f} s; --clip.start {config.start:g} leaves nothing of it")
    if not clips:
        raise UserError(
            f"{path} has {count} frames; a video prompt needs {frames_per_clip} or more, an image has 1"
            + _hint(config, frames_per_clip, fps, part.frames)
        )
    return VideoClips(np.stack(clips), total)


def _hint(config: ClipConfig, frames_per_clip: int, fps: float, frames: int) -> str:
    """How there could be more frames, where the part has enough of them."""
    if frames < frames_per_clip or config.stride == 1:
        return ""
    taken = f"one in {config.stride}" if config.stride else f"{fps:g} a second"
    return f" ({taken} of {frames} frames; --clip.stride 1 takes each as it comes)"


class _Part:
    """Cuts a part out of a video, and knows afterwards what there was.

    Attributes:
        frames: Frames in the part.
        seconds: When the last frame was seen that was read.
    """

    def __init__(self, config: ClipConfig) -> None:
        self.config = config
        self.frames, self.seconds = 0, 0.0

    def cut(self, video: Iterator[tuple[float, Frames]]) -> Iterator[tuple[float, Frames]]:
        """Frames of the part, seconds since its start."""
        for seconds, frame in video:
            if self.config.stop is not None and seconds >= self.config.stop:
                return
            self.seconds = seconds
            if seconds >= self.config.start:
                self.frames += 1
                yield seconds - self.config.start, frame


def _at_rate(frames: Iterator[tuple[float, Frames]], fps: float) -> Iterator[tuple[float, Frames]]:
    """What is seen at every 1/fps of a second: frames are repeated or left out, the speed stays."""
    shown: tuple[float, Frames] | None = None
    ticks, period = 0, 0.0

    def until(end: float) -> Iterator[tuple[float, Frames]]:
        nonlocal ticks
        while shown is not None and (ticks + ROUNDING) / fps < end:
            yield ticks / fps, shown[1]
            ticks += 1

    for seconds, frame in frames:
        # Before the part's first frame there is nothing to show.
        ticks = ticks if shown is not None else int(np.ceil(seconds * fps - ROUNDING))
        period = seconds - shown[0] if shown is not None else period
        yield from until(seconds)
        shown = seconds, frame
    if shown is not None:
        yield from until(shown[0] + max(period, ROUNDING * 2 / fps))


def _spread(
    frames: Iterator[tuple[float, Frames]], config: ClipConfig, frames_per_clip: int, size: int
) -> tuple[list[Frames], int, int]:
    """Clips evenly spread over all; how many there were; how many frames. Every second one is dropped when too many."""
    kept: list[Frames] = []
    every, total, count = 1, 0, 0
    while True:
        wanted = total % every == 0
        clip = []
        for _, frame in itertools.islice(frames, frames_per_clip):
            count += 1
            clip.append(_shown(frame, config, size) if wanted else None)
        if len(clip) < frames_per_clip:
            return kept, total, count
        total += 1
        if wanted:
            if len(kept) == MOST_CLIPS:
                kept, every = kept[::2], 2 * every
                if (total - 1) % every:
                    continue
            kept.append(np.stack([frame for frame in clip if frame is not None]))


def _frame(path: Path, number: int) -> Frames:
    """One frame of a video; a negative number counts from the end."""
    count = 0
    last: deque[Frames] = deque(maxlen=max(0, -number))
    for count, (_, frame) in enumerate(iterate_video(path), start=1):
        if count - 1 == number:
            return frame
        last.append(frame)
    if 0 < -number <= count:
        return last[0]
    raise UserError(f"{path} has {count} frames; --clip.frame must lie in {-count} ... {count - 1}, got {number}")


def _still(frame: Frames, config: ClipConfig, frames_per_clip: int, size: int) -> Frames:
    """(1, L, size, size, 3) clip of one picture."""
    return np.broadcast_to(_shown(frame, config, size), (1, frames_per_clip, size, size, 3)).copy()


def _shown(frame: Frames, config: ClipConfig, size: int) -> Frames:
    """The square in the middle, mirrored if asked for, resized."""
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frame[top : top + side, left : left + side]
    return resize_frames(np.ascontiguousarray(square[:, ::-1] if config.flip else square), size)
