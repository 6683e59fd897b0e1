"""What an agent did, before any picture is drawn of it."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from genrl.infra.checkpoint import atomic_path
from genrl.infra.errors import UserError


@dataclass(frozen=True)
class Trajectory:
    """One episode in numbers. Row t is (action that led here, its rewards, state); the first row is the reset.

    Attributes:
        observation: (N, O) float32 observation of the simulator's state.
        action: (N, A) float32 in -1 ... 1; the first row is zero.
        rewards: (N, R) float32, one column for each task of `TrajectoryLog.tasks`.
        state: (N, S) float64 of the simulator.
    """

    observation: np.ndarray
    action: np.ndarray
    rewards: np.ndarray
    state: np.ndarray

    @property
    def num_steps(self) -> int:
        """Env steps, one fewer than rows."""
        return len(self.action) - 1


class TrajectoryLog:
    """The trajectories of one source, a file each, in a directory. A file is there whole or not at all.

    Args:
        directory: Where the files are.
        tasks: What the columns of `rewards` are, the same for every file of a directory.
    """

    def __init__(self, directory: Path, tasks: tuple[str, ...]) -> None:
        self.directory = directory
        self.tasks = tasks
        self._lengths: list[int] = []
        self.refresh()

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def num_steps(self) -> int:
        """Env steps of all trajectories."""
        return sum(self._lengths)

    def length(self, index: int) -> int:
        """Env steps of one trajectory."""
        return self._lengths[index]

    def append(self, trajectory: Trajectory) -> None:
        """Writes the next trajectory."""
        with atomic_path(self._file(len(self))) as path, path.open("wb") as stream:
            arrays = {field.name: getattr(trajectory, field.name) for field in fields(trajectory)}
            np.savez(stream, tasks=np.array(self.tasks), **arrays)
        self._lengths.append(trajectory.num_steps)

    def read(self, index: int) -> Trajectory:
        """The trajectory of that index.

        Raises:
            UserError: If the file is damaged, or of other tasks.
        """
        file = self._file(index)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                if tuple(arrays["tasks"]) != self.tasks:
                    raise UserError(
                        f"{file} has rewards of other tasks than {', '.join(self.tasks)}; use another --out"
                    )
                return Trajectory(**{field.name: arrays[field.name] for field in fields(Trajectory)})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{file} is damaged; remove it and the later ones, and collect again") from error

    def refresh(self) -> range:
        """Looks for trajectories that another process has added; returns the indices of those new to this object."""
        known = len(self)
        for index in range(known, self._count()):
            self._lengths.append(self.read(index).num_steps)
        return range(known, len(self))

    def _count(self) -> int:
        count = 0
        while self._file(count).exists():
            count += 1
        return count

    def _file(self, index: int) -> Path:
        return self.directory / f"trajectory_{index:06d}.npz"
