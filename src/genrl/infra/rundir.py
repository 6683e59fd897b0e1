"""One run, one directory: options, metrics, checkpoints, resuming, stopping."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from genrl.infra.checkpoint import atomic_write, check_directory, load_checkpoint, remove_leftovers, save_checkpoint
from genrl.infra.config import changed_options, to_dict
from genrl.infra.distributed import ALONE, World
from genrl.infra.errors import NonFiniteError, UserError
from genrl.infra.finite import explain_non_finite
from genrl.infra.inputs import RunInput, changed_inputs
from genrl.infra.logging import MetricsLogger
from genrl.infra.process import lock_directory, signals_call
from genrl.infra.progress import ProgressReport
from genrl.infra.run_files import (
    CHECKPOINTS,
    CONFIG_FILE,
    SUMMARY_FILE,
    erase,
    read_config,
    refuse_foreign,
    some,
    written,
)

ALWAYS_CHANGEABLE = ("out", "fresh", "device", "workers", "threads", "ray", "compile", "log_every", "save_every")
"""Options that say where, how fast or how talkatively, and leave the results alone."""


class Learner(Protocol):
    """What a run saves and restores."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything an uninterrupted run would carry into its next update."""

    def state_meta(self) -> dict[str, Any]:
        """JSON-ready facts beside the tensors."""

    def load_state(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Take the state back."""


class Run:
    """A run directory, locked by this process.

    `config.json`, `metrics.jsonl`, `tensorboard/`, `checkpoints/step_*/` and, once finished, `summary.json`. Nothing is
    written, and with `fresh` nothing deleted, before `begin`: a command that fails over its input leaves no trace. What
    no run wrote is never deleted.

    Attributes:
        path: The directory.
        stopped: Whether a signal asked the run to end early.
        finished: Whether an earlier process finished this run, with as many updates as are asked for now.
        summary: What `finish` was told.
    """

    def __init__(
        self,
        path: Path,
        verb: str,
        options: dict[str, Any],
        lock: IO[str] | None,
        keep: int = 2,
        world: World = ALONE,
        results: Collection[str] = (),
        inputs: Sequence[RunInput] = (),
    ) -> None:
        """Use `Run.open`."""
        self.world = world
        self.path, self.verb, self.options, self.keep = path, verb, options, keep
        self.results, self.inputs = results, inputs
        self.stopped = False
        self.finished = False
        self.summary: dict[str, Any] | None = None
        self.logger = MetricsLogger(path)
        self._lock = lock
        self._begun = False
        self._erase = False
        self._total = 0
        self._update = 0
        self._unsaved: tuple[int, Learner] | None = None
        self._note = ""
        self._headline = ""
        self._progress: ProgressReport | None = None
        self._loop: Generator[int, None, None] | None = None

    @classmethod
    def open(
        cls,
        out: str | Path,
        verb: str,
        config: Any,
        *,
        fresh: bool = False,
        extendable: Collection[str] = ("updates",),
        keep: int = 2,
        world: World = ALONE,
        results: Collection[str] = (),
        inputs: Sequence[RunInput] = (),
        name: str = "",
        mend: str = "use --fresh to start over, or take another --out",
    ) -> Run:
        """Create a run directory, or take up the run in it.

        Args:
            out: The directory.
            verb: Who runs; a directory belongs to one verb.
            config: Dataclass of all options; its `seed`, where it has one, seeds every update.
            fresh: Start over: what the old run wrote is deleted when this one begins, and nothing else.
            extendable: Dotted options, or groups of them, that may differ from the existing run's.
            keep: Number of checkpoints kept.
            world: The processes that share the run. The leader alone writes; the others follow it.
            results: Patterns of what the verb writes there beside the run's own files: `model`, `data/round_*`.
            inputs: What the result depends on; a run whose inputs have changed is refused.
            name: What the user called the directory, where that is not `--out OUT`.
            mend: What to do about options or inputs that differ.

        Raises:
            UserError: If the directory is in use, belongs to something else, or its options or inputs differ.
        """
        path, options, name = Path(out), to_dict(config), name or f"--out {out}"
        _check_intervals(options)
        if not world.leads:
            run = cls(path, verb, options, None, keep, world)
            run._follow()
            return run
        check_directory(path, name)
        try:
            refuse_foreign(path, verb, name, results)
            path.mkdir(parents=True, exist_ok=True)
            lock = lock_directory(path)
        except PermissionError as error:
            raise UserError(f"{name}: no permission to write there; choose another directory") from error
        run = cls(path, verb, options, lock, keep, world, results, inputs)
        try:
            run._take_up(fresh, extendable, name, mend)
        except UserError:
            run.close()
            raise
        run._follow()
        return run

    def is_complete(self, load: Callable[[], object], from_checkpoint: bool = True) -> bool:
        """Whether the run is finished and its result still there; where it is not, the run goes on to write it again.

        Args:
            load: Reads the result, with a `UserError` if it is missing or damaged.
            from_checkpoint: The result takes updates, so that it cannot be written again without a checkpoint.

        Raises:
            UserError: If there is none.
        """
        if self.finished and self.world.leads:
            try:
                load()
            except UserError as error:
                if from_checkpoint and self.last_checkpoint is None:
                    raise UserError(
                        f"{error}; the run is finished, but its result is lost, and no checkpoint is left to write it "
                        "again from: --fresh starts over"
                    ) from error
                self._say(f"{error}; the run goes on to write it again")
                self.finished, self.summary = False, None
        self._follow()
        return self.finished

    @property
    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint directory, if there is one."""
        return None if self._erase else next(iter(self._checkpoints()), None)

    def restore(self, learner: Learner) -> int:
        """Load the newest whole checkpoint into a learner, passing over damaged ones with a notice.

        Returns:
            The number of updates behind it, which is the index of the next one; 0 where there is no checkpoint.
        """
        if not self.world.leads:
            step = self.world.from_leader(0)
            if step:
                learner.load_state(*load_checkpoint(self.path / CHECKPOINTS / f"step_{step:08d}"))
            self.world.wait()
            return step
        step = self._restore(learner)
        self.world.from_leader(step)
        self.world.wait()  # A checkpoint that a follower still reads must not be replaced.
        return step

    def _restore(self, learner: Learner) -> int:
        if self._erase:
            return 0
        for checkpoint in self._checkpoints():
            try:
                tensors, meta = load_checkpoint(checkpoint)
            except UserError as error:
                self._say(f"passing over a checkpoint: {error}")
                continue
            learner.load_state(tensors, meta)
            step = _step_of(checkpoint)
            self._say(f"{self.path}: goes on after update {step}")
            return step
        return 0

    def updates(
        self, total: int, start: int = 0, description: str = "", headline: str = "", unit: str = "update"
    ) -> Iterator[int]:
        """Indices of the updates to do, each seeded from (seed, update), under a progress report.

        SIGTERM and SIGINT end the loop after the present update, which is then saved; a second SIGINT interrupts at
        once.

        Args:
            total: Updates of the whole run.
            start: The first one to do, as `restore` gave it.
            description: Words before the progress bar.
            headline: Metric shown beside it; without a name, the first one logged.
            unit: What a round of the loop is called.

        Returns:
            Iterator over start, start + 1, ..., total - 1.
        """
        self._loop = self._updates(total, start, description, headline, unit)
        return self._loop

    def log(self, update: int, metrics: Mapping[str, Tensor | float], every: int = 1) -> None:
        """Write metrics of the first, every `every`-th and the last update; `step` counts the updates behind.

        Tensors are fetched from their device, all at once, only when a row is due.
        """
        done = update + 1
        if not self.world.leads or (done % every and done not in (1, self._total)):
            return
        self.begin()
        values = _fetch(metrics)
        name = self._headline if self._headline in values else next(iter(values), "")
        self._note = f"{name} {values[name]:.4g}" if name else ""
        self.logger.write(done, values)

    def save(self, update: int, learner: Learner, every: int) -> None:
        """Checkpoint after every `every`-th update, the last, and the one at which the run was stopped.

        Raises:
            UserError: If the disk is full; the checkpoints before stay whole.
        """
        if not self.world.leads:
            return
        done = update + 1
        self._unsaved = (update, learner)
        if done % every == 0 or done == self._total or self.stopped:
            self._save_now(update, learner)

    def finish(self, summary: dict[str, Any]) -> None:
        """Mark the run finished, with its results; the same command then says so instead of running."""
        if not self.world.leads:
            return
        self.begin()
        atomic_write(self.path / SUMMARY_FILE, json.dumps(to_dict(summary), indent=2) + "\n")
        self.finished, self.summary = True, summary
        self.close()

    def begin(self) -> None:
        """Write the options down, deleting the old run where `fresh` asked for it; done by the first update or row."""
        if self._begun or not self.world.leads:
            return
        self._begun = True
        if self._erase:
            self._erase = False
            if kept := erase(self.path, self.results):
                self._say(f"{self.path}: --fresh keeps what this command does not write: {some(kept)}")
        if not self.finished:
            # Of a run that is now to be longer.
            (self.path / SUMMARY_FILE).unlink(missing_ok=True)
        remove_leftovers(self.path)
        remove_leftovers(self.path / CHECKPOINTS)
        inputs = {each.name: each.fingerprint for each in self.inputs}
        facts = {"verb": self.verb, "config": self.options, "inputs": inputs}
        atomic_write(self.path / CONFIG_FILE, json.dumps(facts, indent=2) + "\n")

    def close(self) -> None:
        """Close the logs and give the directory back."""
        if self._loop is not None:
            # After an error in its body the loop still holds the signals and the progress bar.
            self._loop.close()
        self.logger.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, NonFiniteError) and "at update" not in str(error):
            raise NonFiniteError(explain_non_finite(str(error), self._update, self)) from error

    def _updates(
        self, total: int, start: int, description: str, headline: str, unit: str
    ) -> Generator[int, None, None]:
        self._total, self._headline = total, headline
        if not self.world.leads:
            with signals_call(self._stop):
                yield from self._rounds(total, start)
            return
        self.begin()
        self.logger.truncate(after_step=start)
        with signals_call(self._stop), ProgressReport(total, start, description or self.verb, unit) as self._progress:
            for update in self._rounds(total, start):
                yield update
                self._progress.advance(update + 1, self._note)
            if self.stopped and self._unsaved is not None:
                # The signal came after the loop body had passed its `save`.
                self._save_now(*self._unsaved)
        self._progress = None
        if self.stopped:
            self._say(f"{self.path}: stopped after {self._update + 1} of {total} {unit}s; the same command goes on")

    def _follow(self) -> None:
        """All processes hear from the leader, who has looked at the directory, whether there is anything to do."""
        self.finished = bool(self.world.from_leader(int(self.finished)))

    def _rounds(self, total: int, start: int) -> Iterator[int]:
        """Indices of the updates, each seeded, until all processes are told to stop."""
        seed = int(self.options.get("seed") or 0)
        for update in range(start, total):
            self.stopped = self.world.any(self.stopped)
            if self.stopped:
                return
            self._update = update
            seed_update(seed, update)
            yield update

    def _take_up(self, fresh: bool, extendable: Collection[str], name: str, mend: str) -> None:
        """Compare with the run that the directory holds, if any."""
        file = self.path / CONFIG_FILE
        if not file.exists():
            return
        verb, old, inputs = read_config(file)
        if verb != self.verb:
            raise UserError(f"{name} holds a run of 'genrl {verb}', not of '{self.verb}'; choose another --out")
        if fresh:
            self._keep_inputs(name)
            self._erase = True
            return
        changed = changed_options(old, self.options)
        refused = [option for option in changed if not (_always_changeable(option) or _covered(option, extendable))]
        if refused:
            changes = ", ".join(
                f"{_flag(option)} was {_lookup(old, option)}, now {_lookup(self.options, option)}" for option in refused
            )
            raise UserError(f"{name} holds a run with other options: {changes}; {mend}")
        if moved := changed_inputs(inputs, self.inputs):
            raise UserError(f"{name} holds a run of other inputs: {some(moved)}; {mend}")
        summary = self.path / SUMMARY_FILE
        if summary.exists() and all(map(_always_changeable, changed)):
            try:
                self.summary = json.loads(summary.read_text())
            except ValueError:
                self._say(f"{summary} is damaged; the run goes on to write it again")
                return
            self.finished = True

    def _keep_inputs(self, name: str) -> None:
        """Refuses to start over from what would be deleted by that."""
        old = [entry.resolve() for entry in written(self.path, self.results)]
        for each in self.inputs:
            if each.path is not None and any(each.path.resolve().is_relative_to(entry) for entry in old):
                raise UserError(f"--fresh would delete {each.name} from {name}; choose another --out")

    def _checkpoints(self) -> list[Path]:
        """Checkpoint directories, newest first."""
        return sorted((self.path / CHECKPOINTS).glob("step_*"), key=_step_of, reverse=True)

    def _save_now(self, update: int, learner: Learner) -> None:
        self.begin()
        meta = {**learner.state_meta(), "update": update + 1}
        save_checkpoint(self.path / CHECKPOINTS / f"step_{update + 1:08d}", learner.state_tensors(), meta)
        self._unsaved = None
        checkpoints = self._checkpoints()
        # Later ones than this were passed over as damaged when the run was taken up.
        damaged = [checkpoint for checkpoint in checkpoints if _step_of(checkpoint) > update + 1]
        good = [checkpoint for checkpoint in checkpoints if checkpoint not in damaged]
        for checkpoint in damaged + good[self.keep :]:
            shutil.rmtree(checkpoint, ignore_errors=True)

    def _stop(self, number: int) -> None:
        if self.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopped = True

    def _say(self, line: str) -> None:
        if self._progress is not None:
            self._progress.say(line)
        else:
            print(line, file=sys.stderr, flush=True)


def seed_update(seed: int, update: int) -> None:
    """Seed torch from (seed, update), so that a resumed run draws what an uninterrupted one would."""
    torch.manual_seed(int(np.random.SeedSequence((seed, update)).generate_state(1, np.uint64)[0] >> 1))


def _check_intervals(options: Mapping[str, Any]) -> None:
    """Refuses to log or save every zeroth update."""
    for option in ("log_every", "save_every"):
        if options.get(option, 1) < 1:
            raise UserError(f"{_flag(option)} must be at least 1, got {options[option]}")


def _covered(name: str, options: Collection[str]) -> bool:
    """Whether a dotted name, or a group it is in, is among the options."""
    return any(name == option or name.startswith(f"{option}.") for option in options)


def _always_changeable(name: str) -> bool:
    """Whether a dotted name ends in one of those."""
    return name.rpartition(".")[2] in ALWAYS_CHANGEABLE


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _lookup(options: Mapping[str, Any], name: str) -> Any:
    value: Any = options
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return "not there"
        value = value[key]
    return value


def _step_of(checkpoint: Path) -> int:
    digits = checkpoint.name.removeprefix("step_")
    return int(digits) if digits.isdigit() else -1


def _fetch(metrics: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Metrics as numbers, with one transfer for each device."""
    values: dict[str, float] = {name: float(value) for name, value in metrics.items() if not isinstance(value, Tensor)}
    tensors = {name: value.detach() for name, value in metrics.items() if isinstance(value, Tensor)}
    for device in {tensor.device for tensor in tensors.values()}:
        there = {name: tensor for name, tensor in tensors.items() if tensor.device == device}
        stacked = torch.stack([tensor.float().reshape(()) for tensor in there.values()])
        values.update(zip(there, stacked.tolist(), strict=True))
    return {name: values[name] for name in metrics}
