"""Formats that episodes come from and go to; one entry each.

The libraries of a format are imported when it is used.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from genrl.data.store import Store
from genrl.infra.checkpoint import atomic_path, atomic_write, remove_leftovers_of
from genrl.infra.errors import UserError
from genrl.interop.exporting import ExportReport, export_episodes
from genrl.interop.importing import ImportOptions, import_episodes, is_store, remembered_units
from genrl.interop.original_export import OriginalSink, read_provenance
from genrl.interop.original_import import ImportReport, episode_files, import_original, original_spec
from genrl.interop.videos import VIDEO_SUFFIXES, VideoSource, find_videos


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        recognise: Whether a path looks like it.
        options: Fields of `ImportOptions` that it has a use for.
        import_: Source, store, options -> what was done.
        export: Stores of one kind, directory, whether lossless -> what was done; None where we do not write it.
    """

    recognise: Callable[[Path], bool]
    options: frozenset[str]
    import_: Callable[[Path, Path, ImportOptions], ImportReport]
    export: Callable[[Sequence[Store], Path, bool], ExportReport] | None = None


def import_data(name: str, source: Path, out: Path, options: ImportOptions) -> ImportReport:
    """Import episodes of a format into a store.

    Args:
        name: Key of `FORMATS`, or `auto`.
        source: What to import.
        out: Store to make or to add to.
        options: What the data do not tell.

    Raises:
        UserError: If there is nothing to import, nothing was readable, an option has no meaning for the format, or the
            store holds something else.
    """
    name = _recognised(source) if name == "auto" else name
    chosen = FORMATS[name]
    for field in dataclasses.fields(ImportOptions):
        if field.name not in chosen.options and getattr(options, field.name) != field.default:
            raise UserError(f"--{field.name.replace('_', '-')} has no meaning for data of format {name}; leave it out")
    return chosen.import_(source, out, options)


def export_data(name: str, stores: Sequence[Store], out: Path, lossless: bool) -> ExportReport:
    """Export stores to a format.

    Args:
        name: Key of `EXPORTS`.
        stores: Stores of one kind.
        out: Directory to write.
        lossless: Whether frames are to stay exactly what they are.

    Returns:
        What was done; also in `export_report_path(out)`.

    Raises:
        UserError: If the stores differ in kind, no episode could be written, or the directory holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a new directory")
    spec = stores[0].spec
    for store in stores[1:]:
        for field in dataclasses.fields(spec):
            one, other = getattr(spec, field.name), getattr(store.spec, field.name)
            if one != other:
                raise UserError(
                    f"{stores[0].path} has {field.name} {one!r}, {store.path} has {other!r}; export them apart"
                )
    report = EXPORTS[name](stores, out, lossless)
    remove_leftovers_of(export_report_path(out))
    atomic_write(export_report_path(out), json.dumps(asdict(report), indent=2) + "\n")
    return report


def export_report_path(out: Path) -> Path:
    """Where the report of an export is written: beside it."""
    return out.with_name(f"{out.name}.export_report.json")


def _import_lerobot(source: Path, out: Path, options: ImportOptions) -> ImportReport:
    from genrl.interop.lerobot import LeRobotSource

    return import_episodes(LeRobotSource(source, options, remembered_units(out)), out, options.merge)


def _export_lerobot(stores: Sequence[Store], out: Path, lossless: bool) -> ExportReport:
    from genrl.interop.lerobot_export import LeRobotSink

    with LeRobotSink(out, stores[0].spec, lossless) as sink:
        return export_episodes(stores, sink)


def _import_minari(source: Path, out: Path, options: ImportOptions) -> ImportReport:
    from genrl.interop.minari import MinariSource

    return import_episodes(MinariSource(source, options), out, options.merge)


def _export_minari(stores: Sequence[Store], out: Path, lossless: bool) -> ExportReport:
    from genrl.interop.minari import MinariSink, check_id

    check_id(out.name)
    if out.exists():
        raise UserError(f"--out {out} exists; a Minari data set is written as a whole, name another or delete it")
    remove_leftovers_of(out)
    with atomic_path(out) as aside:
        return export_episodes(stores, MinariSink(aside, out.name, stores[0].spec, lossless))


def _import_videos(source: Path, out: Path, options: ImportOptions) -> ImportReport:
    return import_episodes(VideoSource(source, options, remembered_units(out)), out, options.merge)


def _import_original(source: Path, out: Path, options: ImportOptions) -> ImportReport:
    own, kind = read_provenance(source), options.action_kind
    if own is None:
        spec = original_spec(source, options.domain, options.look or "paper", options.frame_size, options.fps)
    else:
        said: dict[str, Any] = {
            name: value for name in ("domain", "look") if (value := getattr(options, name)) is not None
        }
        if options.fps is not None:
            said |= {"action_repeat": 1, "control_timestep": 1 / options.fps}
        spec = replace(own.spec, frame_size=options.frame_size, **said)
        if kind == "auto":
            kind = "discrete" if own.spec.discrete else "continuous"
    return import_original(source, out, spec, kind)


def _export_original(stores: Sequence[Store], out: Path, lossless: bool) -> ExportReport:
    if not lossless:
        raise UserError("--no-lossless has no meaning for the original's format, which keeps frames as they are")
    return export_episodes(stores, OriginalSink(out, stores[0].spec))


def _recognised(source: Path) -> str:
    """Key of the format that a path looks like.

    Raises:
        UserError: If it looks like none; says what it looks like instead.
    """
    if not source.exists():
        raise UserError(f"{source} does not exist; name an episode file or a data set (or --format minari and an id)")
    if is_store(source):
        raise UserError(f"{source} is an episode store already; pass it to --data as it is")
    whole = ("lerobot", "minari")
    inside = sorted(path.name for path in source.glob("*") if any(FORMATS[name].recognise(path) for name in whole))
    if inside and not any(FORMATS[name].recognise(source) for name in whole):
        raise UserError(f"{source} holds data sets; name one of them: {', '.join(inside)}")
    for name, candidate in FORMATS.items():
        if candidate.recognise(source):
            return name
    if source.suffix.lower() in VIDEO_SUFFIXES:
        raise UserError(f"{source} is one video; name the directory that it and its actions lie in")
    raise UserError(
        f"{source} is no data of a known format: {'' if source.is_dir() else 'it is no directory, and '}there is no "
        "meta/info.json (LeRobot v3), no data/metadata.json (Minari), no video and no .npz episode"
    )


def _is_lerobot(path: Path) -> bool:
    return (path / "meta" / "info.json").is_file()


def _is_minari(path: Path) -> bool:
    return (path / "data" / "metadata.json").is_file() or (path / "metadata.json").is_file()


def _is_videos(path: Path) -> bool:
    return path.is_dir() and bool(find_videos(path))


def _is_original(path: Path) -> bool:
    return path.suffix == ".npz" if path.is_file() else bool(episode_files(path))


SAID = {"domain", "look", "frame_size"}
BOUNDS = {"action_low", "action_high"}
KIND = {"action_kind"}
RATES = {"fps", "store_fps", "merge"}
FORMATS = {
    "lerobot": Format(
        _is_lerobot, frozenset(SAID | BOUNDS | RATES | KIND | {"camera"}), _import_lerobot, _export_lerobot
    ),
    "minari": Format(_is_minari, frozenset(SAID | BOUNDS | RATES | {"camera"}), _import_minari, _export_minari),
    "videos": Format(_is_videos, frozenset(SAID | BOUNDS | RATES | KIND | {"actions"}), _import_videos),
    # Last, since actions of videos are .npz files too.
    "original": Format(_is_original, frozenset(SAID | KIND | {"fps"}), _import_original, _export_original),
}
EXPORTS = {name: entry.export for name, entry in FORMATS.items() if entry.export is not None}
