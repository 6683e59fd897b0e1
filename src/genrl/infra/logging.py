"""Metrics of a run: one JSON object a line, and TensorBoard beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from genrl.infra.checkpoint import atomic_write, disk_errors

METRICS_FILE = "metrics.jsonl"


class MetricsLogger:
    """Writes `metrics.jsonl` and `tensorboard/` in a directory.

    A row is `{"step": n, "group/name": value, ...}`. Rows are flushed as they are written; a row that a crash tore is
    dropped when the file is next opened.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.file = self.directory / METRICS_FILE
        self._stream: IO[str] | None = None
        self._board: Any = None

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one row.

        Raises:
            UserError: If the disk is full.
        """
        with disk_errors(self.file):
            if self._stream is None:
                self._open(after_step=None)
            assert self._stream is not None
            self._stream.write(json.dumps({"step": step, **metrics}) + "\n")
            self._stream.flush()
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)

    def truncate(self, after_step: int) -> None:
        """Drop the rows of later steps than `after_step`: a resumed run writes them again."""
        with disk_errors(self.file):
            self.close()
            self._open(after_step)

    def close(self) -> None:
        """Flush and close both files; a later `write` opens them again."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._board is not None:
            self._board.close()
            self._board = None

    def _open(self, after_step: int | None) -> None:
        # TensorBoard takes a second to import, which a run that never logs need not pay.
        from torch.utils.tensorboard import SummaryWriter

        rows = read_metrics(self.directory)
        kept = [row for row in rows if after_step is None or row["step"] <= after_step]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        if not self.file.exists() or self.file.read_text(errors="replace") != text:
            atomic_write(self.file, text)
        self._stream = self.file.open("a")
        # purge_step hides what TensorBoard already holds of the steps that will be written again.
        purge = None if after_step is None else after_step + 1
        self._board = SummaryWriter(str(self.directory / "tensorboard"), purge_step=purge)


def read_metrics(directory: str | Path) -> list[dict[str, float]]:
    """Rows of a run's `metrics.jsonl`, oldest first; a torn line is left out, a missing file has no rows."""
    file = Path(directory) / METRICS_FILE
    if not file.exists():
        return []
    rows = []
    for line in file.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows
