"""`genrl data ...`: look into stores, import and export, pack trajectories and draw them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Column, Table

from genrl.data.coverage import common_space, cover, near_duplicates
from genrl.data.inspection import EpisodeFault, Inspection, inspect_store
from genrl.data.store import Store, find_stores, open_stores
from genrl.infra.checkpoint import check_file
from genrl.infra.errors import UserError
from genrl.infra.media import video_grid, write_png
from genrl.infra.progress import ProgressReport, table_console
from genrl.interop.exporting import ExportReport
from genrl.interop.formats import export_data, export_report_path, import_data
from genrl.interop.importing import ImportOptions
from genrl.interop.original_import import ImportReport, report_path
from genrl.run.coverage_figure import draw_coverage

BARS = " ▁▂▃▄▅▆▇█"
FAULTS_SHOWN = 20


@dataclass(frozen=True)
class InspectConfig:
    """Counts, rewards by source, broken and suspicious episodes, coverage, and pictures of episode stores."""

    stores: tyro.conf.Positional[tuple[Path, ...]]
    """Stores, or directories of stores."""
    out: Path | None = None
    """PNG of the contact sheet, for one store only; STORE-inspect.png beside each store unless given."""
    columns: int = 12
    """Frames per source on the contact sheet."""
    coverage: Path | None = None
    """PNG of what each source covers; STORE-coverage.png beside the store, or coverage.png beside several."""


@dataclass(frozen=True, kw_only=True)
class ImportConfig(ImportOptions):
    """Turn episodes of another format into a store; the same command again goes on, and takes what is new.

    Formats: LeRobot v3, Minari, a directory of videos with their actions, and the original's `.npz` episodes.
    """

    source: tyro.conf.Positional[Path]
    """Directory of a data set, of videos or of episode files, or one of these; for Minari also the id of a set."""
    out: Path
    """Store to make or to add to."""
    format: Literal["auto", "lerobot", "minari", "videos", "original"] = "auto"
    """What it is; told from the files unless given."""


@dataclass(frozen=True)
class ExportConfig:
    """Write stores as a LeRobot v3 or a Minari data set, or as the original's `.npz` episodes.

    The same command again goes on; a Minari data set is written as a whole.
    """

    stores: tyro.conf.Positional[tuple[Path, ...]]
    """Stores, or directories of stores, all of one kind."""
    out: Path
    """Directory to write; for Minari named like `walker-v0`."""
    format: Literal["lerobot", "minari", "original"] = "lerobot"
    """What to write."""
    lossless: bool = True
    """Keep frames exactly; else videos are what every player reads, and Minari's images JPEG."""


@dataclass(frozen=True)
class PackConfig:
    """Keep what stores hold but their frames and embeddings, in one small file that `genrl data draw` reads."""

    stores: tyro.conf.Positional[tuple[Path, ...]]
    """Stores, or directories of stores."""
    out: Path
    """File to write, by custom named `.npz`."""


@dataclass(frozen=True)
class DrawConfig:
    """Draw the stores of a `genrl data pack` file again, in any look; the same command again goes on."""

    file: tyro.conf.Positional[Path]
    """The file."""
    out: Path
    """Directory of the stores."""
    look: Literal["paper", "fast"] = "fast"
    workers: int = 2
    """Processes that draw."""


def inspect(config: InspectConfig) -> dict[Path, Inspection]:
    """Print what stores hold, write a contact sheet for each, and what all of them cover.

    Raises:
        UserError: If a path is no store, one sheet is asked for several stores, or a picture cannot be written.
    """
    paths = find_stores(config.stores)
    if not paths:
        raise UserError("name an episode store: genrl data inspect STORE")
    if config.out is not None and len(paths) > 1:
        raise UserError("--out names one contact sheet, but there are several stores; leave it out")
    for option, picture in (("--out", config.out), ("--coverage", config.coverage)):
        if picture is not None:
            check_file(picture, option, (".png",))
    console = table_console()
    results = {}
    stores = [Store.open(path) for path in paths]
    for path, store in zip(paths, stores, strict=True):
        with ProgressReport(len(store.episodes), description=f"reading {path}", unit="episode") as progress:
            results[path] = inspect_store(store, progress.advance)
        _print_store(console, store, results[path])
        if store.num_frames:
            sheet = config.out or path.absolute().with_name(f"{path.absolute().name}-inspect.png")
            _write_contact_sheet(store, config.columns, sheet)
            console.print(f"contact sheet: {sheet}", soft_wrap=True)
    _print_duplicates(console, stores, results)
    filled = [store for store in stores if store.num_frames]
    if filled:
        first = filled[0].path.absolute()
        beside = first.with_name(f"{first.name}-coverage.png") if len(filled) == 1 else first.with_name("coverage.png")
        _print_coverage(console, filled, config.coverage or beside)
    return results


def import_(config: ImportConfig) -> ImportReport:
    """Import episodes of another format into a store, and print what was done.

    Raises:
        UserError: If there is nothing to import, nothing was readable, or the store holds something else.
    """
    report = import_data(config.format, config.source, config.out, config)
    console = table_console()
    if not report.imported:
        console.print(f"nothing new: {config.out} has all readable episodes of {config.source}", soft_wrap=True)
    else:
        line = f"{report.imported} episodes, {report.frames} frames -> {config.out}"
        console.print(f"{line}; {report.skipped} were there already" if report.skipped else line, soft_wrap=True)
    if report.without_embedding:
        console.print(f"{report.without_embedding} episodes had no clip_video")
    _print_set_aside(console, report.set_aside, report_path(config.out))
    return report


def export(config: ExportConfig) -> ExportReport:
    """Export stores, and print what was done.

    Raises:
        UserError: If the stores differ in kind, no episode could be written, or the directory holds something else.
    """
    if not config.stores:
        raise UserError("name an episode store: genrl data export STORE --out DIRECTORY")
    stores = open_stores(config.stores)
    report = export_data(config.format, stores, config.out, config.lossless)
    console = table_console()
    line = f"{report.exported} episodes, {report.frames} frames -> {config.out}"
    console.print(f"{line}; {report.skipped} were there already" if report.skipped else line, soft_wrap=True)
    _print_set_aside(console, report.set_aside, export_report_path(config.out))
    return report


def pack(config: PackConfig) -> None:
    """Write the trajectories of stores to a file.

    Raises:
        UserError: If a store keeps no simulator states, or OUT cannot be written.
    """
    from genrl.interop.trajectories import pack_stores  # loads the simulator

    paths = find_stores(config.stores)
    if not paths:
        raise UserError("name an episode store: genrl data pack STORE --out FILE")
    check_file(config.out)
    size = pack_stores(paths, config.out)
    print(f"{config.out}: trajectories of {len(paths)} stores, {size / 1e6:.1f} MB")


def draw(config: DrawConfig) -> list[Path]:
    """Draw the stores of a file of trajectories.

    Raises:
        UserError: If the file is none, or a store of that name holds something else.
    """
    from genrl.interop.trajectories import draw_store, read_packed  # loads the simulator

    if config.workers < 1:
        raise UserError(f"--workers must be at least 1, got {config.workers}")
    stores = read_packed(config.file)
    paths = [config.out / store.name for store in stores]
    if len(set(paths)) < len(paths):
        raise UserError(f"{config.file} has several stores of one name, which would be drawn as one; pack them again")
    for store, path in zip(stores, paths, strict=True):
        with ProgressReport(len(store.state), description=f"drawing {store.name}", unit="frame") as progress:
            frames = draw_store(store, path, config.look, config.workers, progress.advance)
        print(f"{path}: {frames} frames")
    return paths


def _print_set_aside(console: Console, set_aside: Mapping[str, str], file: Path) -> None:
    if set_aside:
        console.print(f"set aside {len(set_aside)} episodes, named in {file}:", soft_wrap=True)
        for name, reason in set_aside.items():
            console.print(f"  {name}: {reason}", soft_wrap=True, markup=False, highlight=False)


def _print_store(console: Console, store: Store, inspection: Inspection) -> None:
    spec = store.spec
    num_bytes = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    console.print(
        f"[bold]{store.path}[/bold]: {spec.domain}, look {spec.look}, camera {spec.camera}, "
        f"{spec.frame_size} x {spec.frame_size}, action size {spec.action_dim}, state size {spec.state_dim}, "
        f"{spec.action_repeat} x {spec.control_timestep:g} s a step; "
        f"{len(store.episodes)} episodes, {store.num_frames} frames, {num_bytes / 1e6:.1f} MB",
        soft_wrap=True,
    )
    table = Table(Column("source", overflow="fold"), "episodes", "frames", "length", Column("return", no_wrap=True))
    if inspection.sources:
        edges = inspection.sources[0].edges
        table.add_column(f"rewards {edges[0]:.2g} ... {edges[-1]:.2g}", no_wrap=True)
    for source in inspection.sources:
        lengths = source.lengths
        table.add_row(
            source.name,
            str(len(lengths)),
            str(lengths.sum()),
            f"{lengths.min()} ... {lengths.max()}" if lengths.min() < lengths.max() else str(lengths.min()),
            f"{source.returns.mean():.1f} ± {source.returns.std():.1f}",
            _bars(source.histogram),
        )
    console.print(table)
    for name in store.embeddings:
        info = store.embedding_info(name)
        console.print(
            f"embedding {name}: {store.embedded_rows(name)} of {store.num_frames} rows, size {info.dim}, "
            f"{info.frames_per_clip} frames a clip, checksum {info.checksum}",
            soft_wrap=True,
        )
    broken = len({fault.episode for fault in inspection.faults})
    console.print(f"broken episodes: {broken}" if broken else "no broken episodes")
    _print_episodes(console, inspection.faults)
    if inspection.suspicions:
        console.print(f"suspicious episodes: {len({doubt.episode for doubt in inspection.suspicions})}")
        _print_episodes(console, inspection.suspicions)
    prompts = Counter(filter(None, store.episodes.prompt))
    if prompts:
        console.print(f"prompts of {prompts.total()} episodes, {len(prompts)} different:")
        for prompt, count in prompts.most_common(FAULTS_SHOWN):
            console.print(f"  {count} x {prompt}", soft_wrap=True, markup=False, highlight=False)


def _print_episodes(console: Console, faults: Sequence[EpisodeFault]) -> None:
    for fault in faults[:FAULTS_SHOWN]:
        origin = f" ({fault.origin})" if fault.origin else ""
        console.print(f"  episode {fault.episode}, {fault.source}{origin}: {fault.fault}", markup=False)
    if len(faults) > FAULTS_SHOWN:
        console.print(f"  and {len(faults) - FAULTS_SHOWN} more")


def _print_duplicates(console: Console, stores: Sequence[Store], inspections: Mapping[Path, Inspection]) -> None:
    """Episodes that show what an earlier one shows, over all stores of one frame size or another."""
    names = [f"episode {index} of {store.path}" for store in stores for index in range(len(store.episodes))]
    pairs = near_duplicates(np.concatenate([inspections[store.path].signatures for store in stores]))
    console.print(f"near-duplicates: {len(pairs)} of {len(names)} episodes show nearly what an earlier one shows")
    for later, earlier in pairs[:FAULTS_SHOWN]:
        console.print(f"  {names[later]}: {names[earlier]}", soft_wrap=True, markup=False, highlight=False)
    if len(pairs) > FAULTS_SHOWN:
        console.print(f"  and {len(pairs) - FAULTS_SHOWN} more")


def _print_coverage(console: Console, stores: Sequence[Store], picture: Path) -> None:
    space = common_space(stores)
    if space is None:
        console.print("no coverage: the stores have neither embeddings nor states in common (`genrl embed` adds some)")
        return
    try:
        coverage = cover(stores, space)
    except UserError as error:
        console.print(f"no coverage: {error}", soft_wrap=True, markup=False)
        return
    table = Table("store", Column("source", overflow="fold"), "fills", "alone", title=f"coverage of {space}")
    for source in coverage.sources:
        table.add_row(source.store, source.source, f"{source.share:.0%}", f"{source.alone:.0%}")
    console.print(table)
    draw_coverage(coverage, picture)
    console.print(f"picture of it: {picture}", soft_wrap=True)


def _bars(histogram: np.ndarray) -> str:
    """A bar for each bin; a bin that is not empty always shows."""
    top = max(int(histogram.max()), 1)
    return "".join(BARS[-(-int(count) * (len(BARS) - 1) // top)] for count in histogram)


def _write_contact_sheet(store: Store, columns: int, sheet: Path) -> None:
    """One strip of frames for each source, evenly spread over its episodes and over time within them.

    A frame that cannot be read is black: the sheet of a damaged store shows what is left of it.
    """
    black = np.zeros((store.spec.frame_size, store.spec.frame_size, 3), np.uint8)
    strips = []
    for number in range(len(store.sources)):
        episodes = np.flatnonzero(store.episodes.source == number)
        strip = []
        for column in range(columns):
            episode = episodes[column * len(episodes) // columns]
            # Steps of the golden ratio: columns of one episode, or of few, show different moments of it.
            moment = int((column * 0.618 % 1.0) * store.episodes.length[episode])
            row = int(store.episodes.start[episode]) + moment
            try:
                strip.append(store.read("frames", row, row + 1)[0])
            except UserError:
                strip.append(black)
        strips.append(np.concatenate(strip, axis=1)[None])
    write_png(sheet, video_grid(strips, store.sources, columns=1, scale=1)[0])
