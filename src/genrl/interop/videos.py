"""A plain directory of videos with their actions becomes a store.

    walk-1.mp4      frames, in any format that PyAV reads, or a GIF
    walk-1.csv      its actions, or walk-1.npy, or walk-1.npz
    walk-1.txt      what it shows, in words; may be missing
    actions.npz     instead of a file for each video: one array of actions under each video's name
    actions.csv     the same, with a column `video`

A `.npy` holds (N, A) numbers. A `.npz` holds `action` (N, A) and may hold `reward` and `is_terminal` (N,) and `state`
(N, S). A `.csv` has a line for each row, with or without a header; columns named `reward` and `is_terminal` are those,
the others are the action.

N is the number of frames, or one less. With one less, row t leads from frame t to frame t + 1. With as many rows as
frames, `--actions next` (the default) takes row t for what was done at frame t, so that the last one leads nowhere and
is left out, and `--actions previous` for what led to it, so that the first one comes from nowhere and is left out.
States belong to frames: there are as many.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genrl.data.episode import Array, Episode
from genrl.infra.errors import UserError
from genrl.infra.media import iterate_video, video_rate
from genrl.interop.actions import ActionUnits, after_frames, choose_units, given_units
from genrl.interop.importing import FoundEpisode, ImportOptions, describe, fitted_frames
from genrl.interop.original import CorruptEpisodeError
from genrl.interop.rate import RATE_TOLERANCE, frames_per_row

VIDEO_SUFFIXES = {".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ogv", ".gif"}
TABLE_SUFFIXES = (".npz", ".npy", ".csv")
SHARED = "actions"


@dataclass(frozen=True)
class ActionTable:
    """What goes with the frames of a video.

    Attributes:
        action: (N, A) native actions.
        reward: (N,) or None.
        is_terminal: (N,) bool or None.
        state: (frames, S) or None.
    """

    action: Array
    reward: Array | None = None
    is_terminal: Array | None = None
    state: Array | None = None


class VideoSource:
    """Episodes that are videos of one directory, of any depth.

    Args:
        root: The directory.
        options: What the files do not tell.
        units: Units of the actions in the store that is added to, if there is one.

    Raises:
        UserError: If there are no videos, or none has actions.
    """

    def __init__(self, root: Path, options: ImportOptions, units: ActionUnits | None) -> None:
        self.place, self.root, self.options = str(root), root, options
        self.videos = find_videos(root)
        if not self.videos:
            raise UserError(f"{root} holds no videos ({', '.join(sorted(VIDEO_SUFFIXES))})")
        self._shared = {file.suffix: file for file in root.glob(f"{SHARED}.*") if file.suffix in (".npz", ".csv")}
        _, first = next(self._tables(), ("", None))
        if first is None:
            video = self.videos[0]
            raise UserError(
                f"none of the {len(self.videos)} videos in {root} has readable actions; {video.name} needs "
                f"{video.stem}.npz, .npy or .csv beside it, or its name in {SHARED}.npz or {SHARED}.csv"
            )
        action_dim = first.action.shape[1]
        self.units = choose_units(
            options.action_kind,
            given_units(options.action_low, options.action_high, action_dim),
            units,
            lambda: ((name, table.action) for name, table in self._tables() if table.action.shape[1] == action_dim),
        )
        self._fps = next(filter(None, map(_rate, self.videos)), None)
        self.spec = describe(
            options,
            self.units,
            action_dim,
            0 if first.state is None else first.state.shape[1],
            own=None,
            domain=root.absolute().name,
            camera="camera",
            fps=self._fps,
            place=self.place,
        )
        self.origins = [f"{root.absolute().name}/{video.relative_to(root).as_posix()}" for video in self.videos]

    def read(self, index: int) -> FoundEpisode:
        """One video with its actions; frames are resized as they are read.

        Raises:
            CorruptEpisodeError: If it cannot be used.
        """
        video = self.videos[index]
        table = self._table(video)
        try:
            every = self._frames_per_row(video)
            images = (image for _, image in iterate_video(video))
            frames, size = fitted_frames(images, self.spec.frame_size)
        except UserError as error:
            raise CorruptEpisodeError(str(error)) from error
        action = after_frames(self.units.to_store(self._before(table.action, len(frames), "action")))
        reward, is_terminal = (
            np.zeros(len(frames)) if values is None else after_frames(self._before(values, len(frames), name))
            for name, values in (("reward", table.reward), ("is_terminal", table.is_terminal))
        )
        if table.state is not None and len(table.state) != len(frames):
            raise CorruptEpisodeError(f"there are {len(table.state)} states, but {len(frames)} frames")
        words = video.with_suffix(".txt")
        episode = Episode(
            frames=frames,
            action=action,
            reward=reward.astype(np.float32),
            is_terminal=is_terminal.astype(bool),
            state=None if table.state is None else table.state.astype(np.float64),
            prompt=" ".join(words.read_text(errors="replace").split()) if words.is_file() else "",
        )
        folder = self.origins[index].rpartition("/")[0]
        return FoundEpisode(episode, f"videos:{folder}", size, every)

    def _before(self, values: Array, frames: int, name: str) -> Array:
        """(frames - 1, ...) what leads from each frame to the next."""
        if len(values) == frames - 1:
            return values
        if len(values) != frames:
            raise CorruptEpisodeError(
                f"there are {len(values)} rows of {name}, but {frames} frames (or one less) needed"
            )
        return values[:-1] if self.options.actions == "next" else values[1:]

    def _frames_per_row(self, video: Path) -> int:
        """How many frames of a video become a row; videos of several rates can share a store only by --store-fps.

        Raises:
            UserError: If its rate does not fit.
        """
        rate, first = (self.options.fps or found for found in (_rate(video), self._fps))
        assert first is not None, "describe has refused it"
        rate = rate or first
        if self.options.store_fps is None and abs(rate / first - 1.0) > RATE_TOLERANCE:
            raise UserError(
                f"it has {rate:g} frames a second, not {first:g}; choose a rate for all by --store-fps, "
                "or pass --fps if that is wrong"
            )
        return frames_per_row(rate, self.options.store_fps, "it")

    def _tables(self) -> Iterator[tuple[str, ActionTable]]:
        """Those that can be read, with their videos, in order."""
        for video in self.videos:
            try:
                yield str(video), self._table(video)
            except CorruptEpisodeError:
                continue

    def _table(self, video: Path) -> ActionTable:
        own = next(filter(Path.is_file, map(video.with_suffix, TABLE_SUFFIXES)), None)
        try:
            if own is not None:
                return {".npz": _read_npz, ".npy": _read_npy, ".csv": _read_csv}[own.suffix](own)
            if ".npz" in self._shared:
                with np.load(self._shared[".npz"], allow_pickle=False) as arrays:
                    name = video.name if video.name in arrays else video.stem
                    return ActionTable(_matrix(arrays[name], name))
            if ".csv" in self._shared:
                return _read_csv(self._shared[".csv"], video)
        except CorruptEpisodeError:
            raise
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise CorruptEpisodeError(f"its actions cannot be read ({error})") from error
        raise CorruptEpisodeError(f"it has no actions: {video.stem}.npz, .npy or .csv is missing")


def find_videos(root: Path) -> list[Path]:
    """Videos below a directory, sorted; hidden files are what a killed process or a file manager left."""
    found = (file for file in root.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
    return sorted(file for file in found if not file.name.startswith("."))


def _rate(video: Path) -> float | None:
    """Frames a second; None where the file cannot be read or does not tell."""
    try:
        return video_rate(video)
    except UserError:
        return None


def _read_npy(file: Path) -> ActionTable:
    return ActionTable(_matrix(np.load(file, allow_pickle=False), "the array"))


def _read_npz(file: Path) -> ActionTable:
    with np.load(file, allow_pickle=False) as arrays:
        if "action" not in arrays:
            raise CorruptEpisodeError(f"{file.name} has no array 'action'; it has {', '.join(arrays)}")
        given = {name: arrays[name] for name in ("reward", "is_terminal") if name in arrays}
        return ActionTable(
            _matrix(arrays["action"], "action"),
            **{name: _matrix(values.reshape(len(values), -1), name)[:, 0] for name, values in given.items()},
            state=_matrix(arrays["state"], "state") if "state" in arrays else None,
        )


def _read_csv(file: Path, video: Path | None = None) -> ActionTable:
    """Of one video; of a file for all, the lines that name it in the column `video`."""
    with file.open(newline="") as stream:
        lines = [line for line in csv.reader(stream) if line]
    header = [word.strip() for word in lines[0]] if lines and not _is_number(lines[0][0]) else None
    if header is not None:
        lines = lines[1:]
    if video is not None:
        if header is None or "video" not in header:
            raise CorruptEpisodeError(f"{file.name} has no column 'video'")
        which = header.index("video")
        lines = [line[:which] + line[which + 1 :] for line in lines if line[which] in (video.name, video.stem)]
        header = header[:which] + header[which + 1 :]
    if not lines:
        raise CorruptEpisodeError(f"{file.name} has no rows for it")
    names = header or [f"action {number}" for number in range(len(lines[0]))]
    if any(len(line) != len(names) for line in lines):
        raise CorruptEpisodeError(f"{file.name} has lines of another length than {len(names)}")
    numbers = np.array(lines, np.float64)
    special = {name: numbers[:, names.index(name)] for name in ("reward", "is_terminal") if name in names}
    action = numbers[:, [column for column, name in enumerate(names) if name not in special]]
    return ActionTable(_matrix(action, "action"), **special)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _matrix(values: Array, name: str) -> Array:
    """(N, size) numbers."""
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiub":
        raise CorruptEpisodeError(f"{name} is {values.dtype} {values.shape}, not (rows, size) numbers")
    return values
