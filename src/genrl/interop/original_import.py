"""A directory of the original's episode files becomes a store."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from genrl.data.store import EmbeddingInfo, Store, StoreSpec, StoreWriter
from genrl.infra.checkpoint import atomic_write, remove_leftovers_of
from genrl.infra.errors import UserError, did_you_mean
from genrl.infra.progress import ProgressReport
from genrl.interop.actions import ActionKind, NamedActions, check_one_hot, told_discrete
from genrl.interop.original import EMBEDDING, CorruptEpisodeError, OriginalEpisode, read_actions, read_original

IMPORTED_CHECKSUM = "imported"
FRAMES_PER_CLIP = 8

DOMAINS = {
    "stickman": ("side", 2, 0.025),
    "walker": ("side", 2, 0.025),
    "cheetah": ("side", 2, 0.01),
    "quadruped": ("y", 2, 0.02),
    "jaco": ("front_close", 2, 0.04),
    "kitchen": ("free", 2, 0.08),
}
"""Camera, action repeat and control step in seconds that the original's data were made with."""


@dataclass
class ImportReport:
    """What an import did; written as JSON beside the store.

    Attributes:
        imported: Files imported by this run.
        skipped: Files that the store had already.
        frames: Frames that this run added.
        set_aside: File -> why it could not be used; the files themselves stay where they are.
        without_embedding: Imported files that had no `clip_video`.
        ignored_arrays: Name -> number of files with an array that nobody here knows.
        resized: "height x width" -> number of files whose images were resized to the store's size.
    """

    imported: int = 0
    skipped: int = 0
    frames: int = 0
    set_aside: dict[str, str] = field(default_factory=dict)
    without_embedding: int = 0
    ignored_arrays: dict[str, int] = field(default_factory=dict)
    resized: dict[str, int] = field(default_factory=dict)


def import_original(source: Path, out: Path, spec: StoreSpec, kind: ActionKind = "auto") -> ImportReport:
    """Import one file, or every `.npz` file below a directory.

    Files that the store has already (by their path within `source`) are skipped, so the same command goes on after a
    kill. Files that cannot be used are named and left alone.

    Args:
        source: An episode file, or a directory of any depth.
        out: Store to make or to add to.
        spec: What the store is to hold; `action_dim` and `state_dim` are taken from the first readable file.
        kind: Whether actions are discrete; `auto` keeps to the store that is added to, or tells it from all files.

    Returns:
        What was done; also in `report_path(out)`.

    Raises:
        UserError: If there is no file, none was readable, or the store holds something else.
    """
    files = _named_files(source)
    store = Store.open(out) if (out / "store.json").exists() else None
    done = set() if store is None else set(store.episodes.origin)
    if kind != "auto":
        spec = replace(spec, discrete=kind == "discrete")
    else:
        spec = replace(spec, discrete=told_discrete(_actions(files)) if store is None else store.spec.discrete)
    report = ImportReport()
    writer: StoreWriter | None = None
    try:
        with ProgressReport(len(files), description="import", unit="file") as progress:
            for number, (file, name) in enumerate(files, start=1):
                origin = f"{source.name}/{name}" if source.is_dir() else name
                if origin in done:
                    report.skipped += 1
                else:
                    try:
                        found = read_original(file, spec.frame_size)
                        if spec.discrete:
                            check_one_hot(found.episode.action)
                        writer = writer or _open_writer(out, spec, found)
                        _add(writer, found, origin)
                    except CorruptEpisodeError as error:
                        report.set_aside[str(file)] = str(error)
                        progress.say(f"set aside {file}: {error}")
                    else:
                        _count(report, found, spec.frame_size, progress)
                progress.advance(number)
    finally:
        if writer is not None:
            writer.close()
    if not report.imported and not report.skipped:
        name, reason = next(iter(report.set_aside.items()))
        raise UserError(f"none of the {len(files)} files in {source} is readable; {name}: {reason}")
    remove_leftovers_of(report_path(out))
    atomic_write(report_path(out), json.dumps(asdict(report), indent=2) + "\n")
    return report


def report_path(out: Path) -> Path:
    """Where the report of an import into a store is written: beside it."""
    return out.with_name(f"{out.name}.import_report.json")


def original_spec(source: Path, domain: str | None, look: str, frame_size: int, fps: float | None = None) -> StoreSpec:
    """What the store of an import holds, as far as it is known before a file is read.

    Args:
        source: File or directory; its name tells the domain where that is not given.
        domain: Domain, or None.
        look: Render look of the frames.
        frame_size: Height and width the frames are to have.
        fps: Frames a second; those of the original's data of the domain unless given.

    Raises:
        UserError: If the domain is unknown, or cannot be told from the names.
    """
    if domain is None:
        parts = [part.lower() for part in reversed(source.absolute().parts)]
        named = next((known for part in parts for known in DOMAINS if known in part), None)
        if named is None:
            raise UserError(f"cannot tell the domain from {source}; pass --domain, one of {', '.join(DOMAINS)}")
        domain = named
    if domain not in DOMAINS and fps is None:
        hint = did_you_mean(domain, DOMAINS)
        raise UserError(f"unknown --domain {domain!r}; {hint}; episodes of another body need --fps too")
    camera, action_repeat, control_timestep = DOMAINS.get(domain, ("camera", 1, 0.0))
    if fps is not None:
        action_repeat, control_timestep = 1, 1 / fps
    return StoreSpec(domain, 0, look, camera, action_repeat, control_timestep, frame_size=frame_size)


def episode_files(root: Path) -> list[Path]:
    """Episode files below a directory, sorted; hidden ones are what a killed export or a file manager left."""
    return sorted(file for file in root.rglob("*.npz") if file.is_file() and not file.name.startswith("."))


def _named_files(source: Path) -> list[tuple[Path, str]]:
    """(file, name within the source) of every episode, sorted."""
    if source.is_file():
        return [(source, source.name)]
    if not source.exists():
        raise UserError(f"{source} does not exist; name an episode file or a directory of them")
    files = episode_files(source)
    if not files:
        raise UserError(f"{source} holds no .npz file; name a directory of the original's episodes")
    return [(file, file.relative_to(source).as_posix()) for file in files]


def _actions(files: list[tuple[Path, str]]) -> NamedActions:
    """Of the files that can be read; the others are set aside when they are imported."""
    for file, _ in files:
        with suppress(CorruptEpisodeError):
            yield str(file), read_actions(file)


def _open_writer(out: Path, spec: StoreSpec, found: OriginalEpisode) -> StoreWriter:
    """Open the store with the sizes of the first episode that could be read."""
    episode = found.episode
    state_dim = 0 if episode.state is None else episode.state.shape[1]
    values = asdict(spec) | {"action_dim": episode.action.shape[1], "state_dim": state_dim}
    writer = StoreWriter.open(out, StoreSpec(**values))
    if EMBEDDING in writer.embeddings:
        writer.declare_embedding(writer.embeddings[EMBEDDING])
    return writer


def _add(writer: StoreWriter, found: OriginalEpisode, origin: str) -> None:
    """Add an episode, or refuse it when it is not like the ones before it."""
    embedding = found.episode.embeddings.get(EMBEDDING)
    if embedding is not None and EMBEDDING not in writer.embeddings:
        info = EmbeddingInfo(EMBEDDING, embedding.shape[1], FRAMES_PER_CLIP, IMPORTED_CHECKSUM)
        writer.declare_embedding(info)
    try:
        writer.check(found.episode)
    except UserError as error:
        raise CorruptEpisodeError(str(error)) from error
    folder = origin.rpartition("/")[0]
    writer.add(found.episode, source=f"original:{folder}" if folder else "original", origin=origin)


def _count(report: ImportReport, found: OriginalEpisode, frame_size: int, progress: ProgressReport) -> None:
    """Take an imported file into the report; what is unusual is said the first time it occurs."""
    report.imported += 1
    report.frames += len(found.episode)
    report.without_embedding += EMBEDDING not in found.episode.embeddings
    for name in sorted(found.unknown):
        if name not in report.ignored_arrays:
            progress.say(f"array {name!r} is unknown and ignored")
        report.ignored_arrays[name] = report.ignored_arrays.get(name, 0) + 1
    if found.resized_from is not None:
        size = f"{found.resized_from[0]} x {found.resized_from[1]}"
        if size not in report.resized:
            progress.say(f"images of {size} are resized to {frame_size} x {frame_size}")
        report.resized[size] = report.resized.get(size, 0) + 1
