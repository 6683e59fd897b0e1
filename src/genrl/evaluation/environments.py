"""Several environments of one task stepped together, in this process or in workers of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

import genrl.envs  # noqa: F401 - chooses the OpenGL system before a simulator is loaded
from genrl.envs.environment import BodyEnv, make_env
from genrl.envs.external import OWN_CAMERA, ExternalEnv, View
from genrl.envs.rendering import Look
from genrl.envs.tasks import is_external


@dataclass(frozen=True)
class EnvironmentConfig:
    """Which environment, with what its frames and steps depend on."""

    task: str
    """A task of the suite, or the id of another Gymnasium environment."""
    look: str = "fast"
    action_repeat: int = 2
    evaluation: bool = False
    """Rewards and ends as the benchmark scores them, where a task is paid otherwise while data are collected."""
    camera: str = OWN_CAMERA
    """Of an environment that is not ours; the suite's bodies have one each."""
    episode_steps: int | None = None
    """Env steps of an episode, of an environment that has no time limit of its own."""

    def make(self, frames: bool = True) -> BodyEnv | ExternalEnv:
        """The environment.

        Args:
            frames: Whether ours is to draw; others always do.

        Raises:
            UserError: If there is none, or it cannot draw.
        """
        if is_external(self.task):
            return ExternalEnv(self.task, View.of(self.camera, self.look), self.action_repeat, self.episode_steps)
        return make_env(self.task, cast(Look, self.look), self.action_repeat, frames, evaluation=self.evaluation)


@dataclass(frozen=True)
class Steps:
    """What N environments answered.

    Attributes:
        frames: (N, h, w, 3) uint8; the last one stays after an episode's end.
        rewards: (N,) float64 of this env step, zero after an episode's end.
        states: (N, S) float64 of the simulator.
        over: (N,) bool, whether the episode has ended.
    """

    frames: NDArray[np.uint8]
    rewards: NDArray[np.float64]
    states: NDArray[np.float64]
    over: NDArray[np.bool_]

    @classmethod
    def join(cls, parts: Sequence[Steps]) -> Steps:
        """The answers of groups of environments as those of one."""
        names = ("frames", "rewards", "states", "over")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Environments(Protocol):
    """A group of environments."""

    def reset(self) -> Steps:
        """Starts an episode in each."""

    def step(self, actions: NDArray[np.float32]) -> Steps:
        """Applies (N, A) actions in the environment's own units; those of the suite lie in -1 ... 1."""


class LocalEnvironments:
    """Environments in this process; the i-th starts from seed `seeds[i]`."""

    def __init__(self, config: EnvironmentConfig, seeds: Sequence[int]) -> None:
        self._envs = [config.make() for _ in seeds]
        self._seeds = seeds

    def reset(self) -> Steps:
        """Starts the same episodes every time."""
        answers = [env.reset(seed=seed) for env, seed in zip(self._envs, self._seeds, strict=True)]
        self._rows: list[tuple[Any, ...]] = [(frame, 0.0, info["state"], False) for frame, info in answers]
        return self._steps()

    def step(self, actions: NDArray[np.float32]) -> Steps:
        """Steps the episodes that are not over."""
        for i, env in enumerate(self._envs):
            frame, _, state, over = self._rows[i]
            if over:
                self._rows[i] = (frame, 0.0, state, True)
                continue
            frame, reward, terminated, truncated, info = env.step(actions[i])
            self._rows[i] = (frame, reward, info["state"], terminated or truncated)
        return self._steps()

    def _steps(self) -> Steps:
        return Steps(*(np.stack(column) for column in zip(*self._rows, strict=True)))


class WorkerEnvironments:
    """Environments spread evenly over worker processes, which end with this one. Use it as a context manager.

    The workers are started as commands of their own, not by `multiprocessing`: its spawned processes run the main
    script once more, and a script that learns and evaluates would learn again in every worker.
    """

    def __init__(self, config: EnvironmentConfig, seeds: Sequence[int], workers: int) -> None:
        self._stack = ExitStack()
        self._workers = []
        for part in np.array_split(np.asarray(seeds), workers):
            worker = self._stack.enter_context(_Worker())
            worker.send((config, part.tolist()))
            self._workers.append((worker, len(part)))

    def reset(self) -> Steps:
        """Starts the same episodes every time."""
        for worker, _ in self._workers:
            worker.send(None)
        return self._receive()

    def step(self, actions: NDArray[np.float32]) -> Steps:
        """Steps all at once."""
        first = 0
        for worker, count in self._workers:
            worker.send(actions[first : first + count])
            first += count
        return self._receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _receive(self) -> Steps:
        return Steps.join([worker.receive() for worker, _ in self._workers])


class _Worker:
    """One worker process and the pipe to it."""

    def __init__(self) -> None:
        self._pipe, far_end = Pipe()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve({far_end.fileno()})"],
            pass_fds=[far_end.fileno()],
            env=environment,
            process_group=0,  # an interrupt from the terminal is for the parent, which then closes the pipe
        )
        far_end.close()

    def send(self, message: Any) -> None:
        try:
            self._pipe.send(message)
        except OSError as error:
            raise self._died() from error

    def receive(self) -> Steps:
        """The next answer; raises what the worker raised."""
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Steps)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pipe.close()
        self._process.wait()

    def _died(self) -> RuntimeError:
        return RuntimeError(f"an environment process ended unexpectedly with exit code {self._process.wait()}")


def serve(pipe: int) -> None:
    """Main function of a worker: answers on an inherited pipe until the other end is closed.

    Args:
        pipe: Its file descriptor. The first message is (config, seeds), every other one None for a reset or actions.
    """
    environments: LocalEnvironments | None = None
    with Connection(pipe) as connection:
        try:
            config, seeds = connection.recv()
            while True:
                actions = connection.recv()
                answer: Steps | Exception
                try:
                    environments = environments or LocalEnvironments(config, seeds)
                    answer = environments.reset() if actions is None else environments.step(actions)
                except Exception as error:
                    error.add_note(traceback.format_exc())  # of this process: the parent's shows only the receiving
                    answer = error
                connection.send(answer)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
