"""How far a loop has come: a rich bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

PLAIN_INTERVAL = 10.0
"""Seconds between two lines where there is no terminal."""


TABLE_WIDTH = 120
"""Columns of a table where there is no terminal."""


class ProgressReport:
    """Context manager around a loop of known length.

    Args:
        total: Number of steps.
        start: Steps that an earlier process has done.
        description: What is being done, in a word or two.
        unit: What a step is, for the rate.
    """

    def __init__(self, total: int, start: int = 0, description: str = "", unit: str = "update") -> None:
        self.total, self.start, self.description, self.unit = total, start, description, unit
        self.done = start
        self._note = ""
        self._began = self._last_line = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> ProgressReport:
        self._began = self._last_line = time.monotonic()
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                _RateColumn(self.unit),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._bar.add_task(self.description, total=self.total, completed=self.start, note="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self.done > self.start:
            print(self._line(), file=sys.stderr, flush=True)

    def advance(self, done: int, note: str = "") -> None:
        """Say that `done` steps of `total` are behind; `note` replaces the words at the end of the line."""
        self.done = done
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, note=self._note)
        elif time.monotonic() - self._last_line >= PLAIN_INTERVAL:
            self._last_line = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Print a line without tearing the bar."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def _line(self) -> str:
        seconds = time.monotonic() - self._began
        rate = (self.done - self.start) / seconds if seconds > 0 else 0.0
        left = f", {_clock((self.total - self.done) / rate)} left" if rate > 0 and self.done < self.total else ""
        head = f"{self.description}: " if self.description else ""
        note = f", {self._note}" if self._note else ""
        return f"{head}{self.done}/{self.total} {self.unit}s, {rate:.3g}/s{left}{note}"


class _RateColumn(ProgressColumn):
    """Steps a second since this process began."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Rate of the last half minute, as rich measures it."""
        return Text(f"{task.speed or 0:.3g} {self.unit}s/s")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def table_console() -> Console:
    """Where tables are printed; where there is no terminal, rich would cut them at 80 columns."""
    return Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
