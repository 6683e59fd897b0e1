"""Episodes of a policy in the simulator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from genrl.behavior.policy import Policy
from genrl.envs.external import OWN_CAMERA
from genrl.envs.gl import require_gl
from genrl.envs.rendering import check_look
from genrl.envs.tasks import TASKS, get_task, is_external
from genrl.evaluation.environments import EnvironmentConfig, Environments, LocalEnvironments, WorkerEnvironments
from genrl.infra.errors import UserError
from genrl.models.foundation import ModelSpec


class FramePolicy(Protocol):
    """Anything that acts on frames, for N episodes at once."""

    def reset(self, seed: int = 0, num_episodes: int | None = None) -> None:
        """Forgets the past."""

    def act(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, h, w, 3) frames -> (N, A) actions."""


@dataclass(frozen=True)
class Rollouts:
    """N episodes, whose frames and states are kept for the first one.

    Attributes:
        rewards: (N, T) float64 reward of every env step, zero after an episode's end.
        lengths: (N,) env steps of each episode.
        frames: (T_0 + 1, h, w, 3) uint8 as the policy saw them in the first episode.
        states: (T_0 + 1, S) float64 of the simulator in the first episode; they can be drawn at any size.
    """

    rewards: NDArray[np.float64]
    lengths: NDArray[np.int64]
    frames: NDArray[np.uint8]
    states: NDArray[np.float64]

    @property
    def returns(self) -> NDArray[np.float64]:
        """(N,) sum of each episode's rewards."""
        return self.rewards.sum(1)


def rollout(
    policy: FramePolicy,
    task: str,
    episodes: int = 10,
    seed: int = 0,
    *,
    look: str = "fast",
    action_repeat: int = 2,
    camera: str = OWN_CAMERA,
    episode_steps: int | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Rollouts:
    """Runs a policy for some episodes of a task.

    The environments are stepped together: one call of the policy for all of them, while worker processes simulate
    and draw. The same seed gives the same episodes whatever the number of workers.

    Args:
        policy: A learnt one is refused where it was made for another body, look or action repeat.
        task: Name of the task, or the id of another Gymnasium environment.
        episodes: N; environment i starts from seed + i.
        seed: Of the environments and of the policy's draws.
        look: Of the frames: `fast` or `paper`, or how another environment draws (`genrl.envs.external.View`).
        action_repeat: Control steps per env step.
        camera: Of another environment.
        episode_steps: Env steps of an episode, where another environment has no time limit of its own.
        workers: Processes; by default one a core and at most one an episode. With 1 all happens in this process.
        progress: Called with the number of env steps done.

    Raises:
        UserError: For an unknown task, a policy that does not fit, numbers out of range, or no GL.
    """
    check_episodes(episodes, seed)
    if workers is not None and workers < 1:
        raise UserError(f"--workers must be at least 1, got {workers}")
    if isinstance(policy, Policy):
        check_spec(policy.spec, task, look, action_repeat, episode_steps)
    if not is_external(task):
        check_look(look)
        require_gl()
    config = EnvironmentConfig(get_task(task).name, look, action_repeat, True, camera, episode_steps)
    seeds = [seed + index for index in range(episodes)]
    policy.reset(seed, num_episodes=episodes)
    workers = min(workers or _num_cores(), episodes)
    with _environments(config, seeds, workers) as environments, _threads(1 if workers > 1 else torch.get_num_threads()):
        steps = environments.reset()
        frames, states, rewards, running = [steps.frames[0]], [steps.states[0]], [], []
        while not steps.over.all():
            running.append(~steps.over)
            first_runs = not steps.over[0]
            steps = environments.step(policy.act(steps.frames))
            rewards.append(steps.rewards)
            if first_runs:
                frames.append(steps.frames[0])
                states.append(steps.states[0])
            if progress is not None:
                progress(len(rewards))
    return Rollouts(np.stack(rewards, axis=1), np.sum(running, axis=0), np.stack(frames), np.stack(states))


def check_episodes(episodes: int, seed: int) -> None:
    """Raises UserError for fewer than one episode or a negative seed."""
    if episodes < 1:
        raise UserError(f"--episodes must be at least 1, got {episodes}")
    if seed < 0:
        raise UserError(f"--seed must be 0 or more, got {seed}")


def check_spec(spec: ModelSpec, task: str, look: str, action_repeat: int, episode_steps: int | None = None) -> None:
    """Refuses a task, look or action repeat that a model, and a policy learnt in it, was not made for.

    Args:
        spec: What it was made for.
        task: Name of the task, or the id of another Gymnasium environment.
        look: Of the frames.
        action_repeat: Control steps per env step.
        episode_steps: Where another environment has no time limit of its own.

    Raises:
        UserError: Naming what differs.
    """
    entry = get_task(task)
    if entry.domain != spec.domain:
        if is_external(task) or is_external(spec.domain):
            raise UserError(f"the policy was made for {spec.domain}, and {task} is another environment")
        known = any(other.domain == spec.domain for other in TASKS.values())
        fitting = f"`genrl tasks --domain {spec.domain}` lists the tasks that fit" if known else "no task here fits"
        raise UserError(
            f"--task {task} is a task of {entry.domain}, but the policy was made for {spec.domain}; {fitting}"
        )
    if look != spec.look:
        raise UserError(f"frames of look {look!r} asked for, but the policy was made for {spec.look!r}")
    config = EnvironmentConfig(task, look, action_repeat, camera=spec.camera, episode_steps=episode_steps)
    env = config.make(frames=False)
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    own = {
        "action_repeat": action_repeat,
        "control_timestep": env.control_timestep,
        "camera": env.camera,
        "discrete": env.discrete,
        "action_dim": len(low),
    }
    if not env.discrete:
        own |= {"action_low": tuple(low.tolist()), "action_high": tuple(high.tolist())}
    env.close()
    for name, value in own.items():
        if value != getattr(spec, name):
            label = name.replace("_", " ")
            raise UserError(f"task {task} has {label} {value}, but the policy was made for {getattr(spec, name)}")


class ConstantPolicy:
    """Always the same action: (A,) in the environment's units. Zeros do nothing."""

    def __init__(self, action: NDArray[np.float32]) -> None:
        self._action = np.asarray(action, np.float32)

    def reset(self, seed: int = 0, num_episodes: int | None = None) -> None:
        """Nothing is remembered."""

    def act(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, h, w, 3) frames -> (N, A) actions, or one frame -> (A,)."""
        return np.broadcast_to(self._action, (*frame.shape[:-3], len(self._action)))


class RandomPolicy:
    """Actions of A numbers drawn uniformly at every step.

    Args:
        action_dim: A.
        low: Smallest number, or one for each.
        high: Largest number, or one for each.
        discrete: Draw one of A choices instead, as one-hot.
    """

    def __init__(
        self,
        action_dim: int,
        low: float | Sequence[float] = -1.0,
        high: float | Sequence[float] = 1.0,
        discrete: bool = False,
    ) -> None:
        self._action_dim, self._low, self._high, self._discrete = action_dim, low, high, discrete
        self._random = np.random.default_rng(0)

    def reset(self, seed: int = 0, num_episodes: int | None = None) -> None:
        """Starts the draws anew."""
        self._random = np.random.default_rng(seed)

    def act(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, h, w, 3) frames -> (N, A) actions, or one frame -> (A,)."""
        if self._discrete:
            choice = self._random.integers(self._action_dim, size=frame.shape[:-3])
            return np.eye(self._action_dim, dtype=np.float32)[choice]
        return self._random.uniform(self._low, self._high, (*frame.shape[:-3], self._action_dim)).astype(np.float32)


def _environments(config: EnvironmentConfig, seeds: list[int], workers: int) -> AbstractContextManager[Environments]:
    if workers == 1:
        return nullcontext(LocalEnvironments(config, seeds))
    return cast(AbstractContextManager[Environments], WorkerEnvironments(config, seeds, workers))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Number of torch's threads for a while: a second one would take a core from the workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0))
