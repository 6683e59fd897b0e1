"""What exporting is the same for every format: episodes one at a time, damaged ones set aside."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from genrl.data.episode import Episode
from genrl.data.store import Store
from genrl.infra.errors import UserError
from genrl.infra.progress import ProgressReport
from genrl.interop.original import CorruptEpisodeError


@dataclass
class ExportReport:
    """What an export did.

    Attributes:
        exported: Episodes written by this run.
        skipped: Episodes that were there already.
        frames: Frames that this run wrote.
        set_aside: Episode -> why it could not be written.
    """

    exported: int = 0
    skipped: int = 0
    frames: int = 0
    set_aside: dict[str, str] = field(default_factory=dict)


class EpisodeSink(Protocol):
    """Where episodes go."""

    @property
    def origins(self) -> Collection[str]:
        """Names of the episodes that are there already."""

    def write(self, episode: Episode, source: str, origin: str) -> None:
        """Adds an episode.

        Raises:
            CorruptEpisodeError: If the format cannot hold it.
        """


def export_episodes(stores: Sequence[Store], sink: EpisodeSink) -> ExportReport:
    """Export what is not there yet.

    Args:
        stores: Stores of one data set.
        sink: Where their episodes go; named after store and number.

    Raises:
        UserError: If no episode could be written, or two stores have one name.
    """
    names = [store.path.absolute().name for store in stores]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two of the stores are named {twice}, so that their episodes would be; export them apart")
    report = ExportReport()
    total = sum(len(store.episodes) for store in stores)
    with ProgressReport(total, description="export", unit="episode") as progress:
        for store in stores:
            for index in range(len(store.episodes)):
                origin = f"{store.path.absolute().name}#{index}"
                if origin in sink.origins:
                    report.skipped += 1
                else:
                    try:
                        episode = _read(store, index)
                        sink.write(episode, store.sources[store.episodes.source[index]], origin)
                    except CorruptEpisodeError as error:
                        report.set_aside[origin] = str(error)
                        progress.say(f"set aside {origin}: {error}")
                    else:
                        report.exported += 1
                        report.frames += len(episode)
                progress.advance(report.exported + report.skipped + len(report.set_aside))
    if not report.exported and not report.skipped:
        reason = next(iter(report.set_aside.values()), "there are none")
        raise UserError(f"none of the {total} episodes can be exported: {reason}")
    return report


def _read(store: Store, index: int) -> Episode:
    try:
        return store.episode(index)
    except UserError as error:
        raise CorruptEpisodeError(str(error)) from error
