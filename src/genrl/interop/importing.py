"""What importing is the same for every format: episodes one at a time, bad ones set aside, the same command goes on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from genrl.data.episode import Array, Episode, check_episode
from genrl.data.store import Store, StoreSpec, StoreWriter
from genrl.infra.checkpoint import atomic_write, remove_leftovers_of
from genrl.infra.config import from_dict
from genrl.infra.errors import UserError
from genrl.infra.media import resize_frames
from genrl.infra.progress import ProgressReport
from genrl.interop.actions import ActionKind, ActionUnits, check_one_hot
from genrl.interop.original import CorruptEpisodeError
from genrl.interop.original_import import ImportReport, report_path
from genrl.interop.rate import Merge, frames_per_row, thinned


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What is to be said about data that do not say it themselves; a format refuses options it has no use for."""

    domain: str | None = None
    """Body the episodes are of; told from the data or their name unless given."""
    look: str | None = None
    """Render look of the frames: by default `paper` for the original's, `camera` for others."""
    frame_size: int = 64
    """Height and width of the frames in the store; images of another size are resized."""
    camera: str | None = None
    """Which images to take, where there are several."""
    fps: float | None = None
    """Frames a second of the data, where they do not tell, or tell wrong."""
    store_fps: float | None = None
    """Frames a second of the store, where fewer than the data's, which are a multiple: every n-th frame is kept."""
    merge: Merge = "mean"
    """The action that stands for n of them: their mean (for forces, velocities) or the last (for positions)."""
    action_low: tuple[float, ...] = ()
    """Smallest native action, one number or one for each component; by default what the data declare or hold."""
    action_high: tuple[float, ...] = ()
    """Largest native action."""
    action_kind: ActionKind = "auto"
    """Whether actions are choices, kept as one-hot; told from the data, where all are one-hot, unless given."""
    actions: Literal["next", "previous"] = "next"
    """Where there are as many actions as frames: whether a row's action leads to the next frame or led to this one."""

    def __post_init__(self) -> None:
        if self.frame_size < 1:
            raise ValueError(f"--frame-size must be at least 1, got {self.frame_size}")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"--fps must be above 0, got {self.fps}")
        if self.store_fps is not None and not self.store_fps > 0:
            raise ValueError(f"--store-fps must be above 0, got {self.store_fps}")
        if self.merge != "mean" and self.store_fps is None:
            raise ValueError(f"--merge {self.merge} has a meaning only with --store-fps")


@dataclass(frozen=True)
class FoundEpisode:
    """An episode and how it was found.

    Attributes:
        episode: Its rows.
        source: Agent that made it, or where it came from.
        size: (height, width) of its images before they were resized.
        every: How many of its steps become one in the store.
    """

    episode: Episode
    source: str
    size: tuple[int, int]
    every: int = 1


@dataclass(frozen=True)
class Provenance:
    """What an export of ours says about itself; it travels with the data as JSON."""

    spec: StoreSpec
    """Of the store."""
    lossless: bool
    """Whether frames are what they were."""

    def to_json(self) -> str:
        """Text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, where: str) -> Provenance:
        """What `to_json` gave.

        Raises:
            UserError: If it is damaged; names `where`.
        """
        try:
            return from_dict(cls, json.loads(text), where)
        except json.JSONDecodeError as error:
            raise UserError(f"{where} is damaged ({error}); delete it and pass what it said as options") from error


class EpisodeSource(Protocol):
    """Episodes of another format.

    Attributes:
        spec: What a store of them holds.
        origins: Name of each episode, the same at every import, unlike those of other sources.
        place: Where they lie, for complaints.
    """

    spec: StoreSpec
    origins: list[str]
    place: str

    def read(self, index: int) -> FoundEpisode:
        """One episode.

        Raises:
            CorruptEpisodeError: If it cannot be used.
        """


def import_episodes(source: EpisodeSource, out: Path, merge: Merge) -> ImportReport:
    """Import what a store does not have yet, an episode at a time.

    Args:
        source: The episodes.
        out: Store to make or to add to.
        merge: The action that stands for several, where the store has fewer frames a second.

    Returns:
        What was done; also in `report_path(out)`.

    Raises:
        UserError: If no episode was readable, or the store holds something else.
    """
    done = set(Store.open(out).episodes.origin) if is_store(out) else set()
    report = ImportReport()
    writer: StoreWriter | None = None
    try:
        with ProgressReport(len(source.origins), description="import", unit="episode") as progress:
            for index, origin in enumerate(source.origins):
                if origin in done:
                    report.skipped += 1
                else:
                    try:
                        found = source.read(index)
                        if found.every > 1:
                            found = replace(found, episode=thinned(found.episode, found.every, merge))
                        _check(found.episode, source.spec, str(out))
                    except CorruptEpisodeError as error:
                        report.set_aside[origin] = str(error)
                        progress.say(f"set aside {origin}: {error}")
                    else:
                        writer = writer or StoreWriter.open(out, source.spec)
                        writer.add(found.episode, found.source, origin)
                        _count(report, found, source.spec.frame_size, progress)
                progress.advance(index + 1)
    finally:
        if writer is not None:
            writer.close()
    if not report.imported and not report.skipped:
        if not report.set_aside:
            raise UserError(f"{source.place} holds no episodes")
        name, reason = next(iter(report.set_aside.items()))
        raise UserError(f"none of the {len(source.origins)} episodes in {source.place} is readable; {name}: {reason}")
    remove_leftovers_of(report_path(out))
    atomic_write(report_path(out), json.dumps(asdict(report), indent=2) + "\n")
    return report


def is_store(path: Path) -> bool:
    """Whether there is a store."""
    return (path / "store.json").exists()


def remembered_units(out: Path) -> ActionUnits | None:
    """Units of the store that is added to, so that more episodes do not move them; None for a new store."""
    return ActionUnits.of(Store.open(out).spec) if is_store(out) else None


def describe(
    options: ImportOptions,
    units: ActionUnits,
    action_dim: int,
    state_dim: int,
    own: StoreSpec | None,
    domain: str,
    camera: str,
    fps: float | None,
    place: str,
) -> StoreSpec:
    """What a store of found episodes holds: first what the user says, then what a store said, then what the data say.

    Args:
        options: The user's words.
        units: Of the actions.
        action_dim: Size of an action.
        state_dim: Size of a state; 0 where there is none.
        own: Description of the store that the data were exported from, where it came along.
        domain: The data's word for the body.
        camera: The data's word for the camera.
        fps: The data's frames a second, None where they do not tell.
        place: Where the data lie, for complaints.

    Raises:
        UserError: If nobody tells the frames a second.
    """
    fps = recorded_fps(options, own, fps, place)
    if options.store_fps is not None and options.merge == "mean" and units.discrete:
        raise UserError(f"{place} has discrete actions, which have no mean; pass --merge last")
    if own is not None and options.fps is None:
        # The environment's own control step stays: a longer env step is more of them.
        every = frames_per_row(fps, options.store_fps, place)
        spec = replace(own, action_repeat=own.action_repeat * every)
    else:
        seconds = 1 / (options.store_fps or fps)
        spec = replace(own or StoreSpec(domain, 0, "camera", camera, 1, 0.0), action_repeat=1, control_timestep=seconds)
    return replace(
        spec,
        domain=options.domain or spec.domain,
        look=options.look or spec.look,
        frame_size=options.frame_size,
        action_dim=action_dim,
        state_dim=state_dim,
        action_low=units.low,
        action_high=units.high,
        discrete=units.discrete,
    )


def recorded_fps(options: ImportOptions, own: StoreSpec | None, fps: float | None, place: str) -> float:
    """Frames a second of the data: first what the user says, then what a store said, then what the data say.

    Raises:
        UserError: If nobody tells.
    """
    stored = None if own is None else 1.0 / (own.control_timestep * own.action_repeat)
    found = options.fps or stored or fps
    if found is None:
        raise UserError(f"{place} does not tell its frames a second; pass --fps")
    return found


def fitted_frames(images: Iterable[Array], frame_size: int) -> tuple[Array, tuple[int, int]]:
    """(N, size, size, 3) frames, resized one by one so that large images need not fit into memory; their own size.

    Raises:
        CorruptEpisodeError: If there are none, or they differ in size.
    """
    frames, sizes = [], set()
    for image in images:
        sizes.add(image.shape[:2])
        frames.append(resize_frames(image, frame_size))
    if len(sizes) != 1:
        raise CorruptEpisodeError("frames differ in size" if frames else "it has no frames")
    return np.stack(frames), sizes.pop()


def rgb_frames(images: Array) -> Array:
    """(N, h, w, 3) uint8 of images with the channels first or last, grey ones and those with alpha too.

    Raises:
        CorruptEpisodeError: If they are no images.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        raise CorruptEpisodeError(f"frames are {images.dtype} {images.shape}, not uint8 images")
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[-1] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        images = images.transpose(0, 2, 3, 1)
    if images.shape[-1] not in (1, 3, 4):
        raise CorruptEpisodeError(f"frames have shape {images.shape[1:]}, which is no image")
    return images.repeat(3, axis=-1) if images.shape[-1] == 1 else images[..., :3]


def _check(episode: Episode, spec: StoreSpec, where: str) -> None:
    """Refuse an episode that does not fit into the store, or holds what is no number."""
    try:
        check_episode(episode, spec, where)
    except UserError as error:
        raise CorruptEpisodeError(str(error)) from error
    if spec.discrete:
        check_one_hot(episode.action)
    for name in ("reward", "state"):
        values = getattr(episode, name)
        if values is not None and not np.isfinite(values).all():
            raise CorruptEpisodeError(f"{name} holds NaN or infinity")


def _count(report: ImportReport, found: FoundEpisode, frame_size: int, progress: ProgressReport) -> None:
    report.imported += 1
    report.frames += len(found.episode)
    if found.size != (frame_size, frame_size):
        name = f"{found.size[0]} x {found.size[1]}"
        if name not in report.resized:
            progress.say(f"images of {name} are resized to {frame_size} x {frame_size}, whatever their proportions")
        report.resized[name] = report.resized.get(name, 0) + 1
