"""`genrl collect`: an agent acts, everything it did becomes an episode store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

import genrl.envs  # noqa: F401 - chooses the OpenGL system before a simulator is loaded
from genrl.agents.agent import Agent
from genrl.agents.expert import Expert, ExpertConfig
from genrl.agents.exploration import Exploration, ExplorationConfig
from genrl.agents.random import RandomAgent
from genrl.agents.rollout import rollout
from genrl.agents.trajectory import Trajectory, TrajectoryLog
from genrl.data.store import Episode, StoreSpec, StoreWriter
from genrl.envs.environment import FRAME_SIZE, BodyEnv, make_env
from genrl.envs.gl import require_gl
from genrl.envs.rendering import Look, RenderPool
from genrl.envs.tasks import domain_tasks, get_task
from genrl.infra.compute import quiet_threads
from genrl.infra.errors import UserError
from genrl.infra.progress import ProgressReport
from genrl.infra.rundir import Run

EPISODES_PER_BATCH = 8
"""Episodes whose frames are drawn, and held in memory, at a time."""


@dataclass(frozen=True)
class CollectConfig:
    """Collects episodes of one source into a store. Run again it goes on; with more `--steps` it adds episodes."""

    out: Path
    """The store. What the collector remembers, to go on from, lies beside it in a directory that ends in `.run`."""
    domain: str = "walker"
    agent: Literal["random", "expert", "exploration"] = "random"
    task: str | None = None
    """What the expert learns. The stored reward is this task's, or zero without a task."""
    steps: int = 10_000
    """Env steps in all, those of earlier calls included."""
    episode_steps: int | None = None
    """Env steps after which an episode is cut off; by default the task's time limit. Short episodes hold more starts,
    such as falling and getting up."""
    look: Look = "fast"
    action_repeat: int = 2
    workers: int = 2
    """Processes that draw frames."""
    pool: tuple[Path, ...] = ()
    """Stores of other sources that the expert learns from too, while they grow."""
    append: bool = False
    """Add this source to a store that holds another."""
    seed: int = 0
    expert: ExpertConfig = field(default_factory=ExpertConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError(f"--steps must be at least 1, got {self.steps}")
        if self.episode_steps is not None and self.episode_steps < 1:
            raise UserError(f"--episode-steps must be at least 1, got {self.episode_steps}")
        if self.workers < 1:
            raise UserError(f"--workers must be at least 1, got {self.workers}")
        if self.agent == "expert" and self.task is None:
            raise UserError("--agent expert needs a --task to learn")

    @property
    def source(self) -> str:
        """Name of what is collected, such as `expert_walker_run`."""
        return f"{self.agent}_{self.task}" if self.task else self.agent


@dataclass(frozen=True)
class CollectResult:
    """What a store holds of one source."""

    store: Path
    source: str
    episodes: int
    steps: int
    mean_return: float
    """Of the last ten episodes, in the source's own task; 0 without a task."""


def collect(config: CollectConfig) -> CollectResult | None:
    """Simulates what is missing, then draws the frames that are missing. Returns None when it was asked to stop."""
    tasks = [task.name for task in domain_tasks(config.domain)]
    if config.task is not None and get_task(config.task).name not in tasks:
        raise UserError(f"--task {config.task} is not a task of --domain {config.domain}")
    require_gl()
    _refuse_other_source(config)
    quiet_threads(1)
    with Run.open(
        _run_directory(config.out, config.source),
        "collect",
        config,
        extendable=("steps", "pool", "append", "expert.updates_per_step", "exploration.expert.updates_per_step"),
        keep=1,
    ) as run:
        log = TrajectoryLog(run.path / "trajectories", _reward_tasks(config.domain, config.task))
        if not run.finished:
            _simulate(config, run, log)
            if run.stopped:
                return None
        env = make_env(config.task or tasks[0], config.look, config.action_repeat, frames=False)
        _draw(config, env, log)
        result = _result(config, log)
        if not run.finished:
            run.finish({"episodes": result.episodes, "steps": result.steps, "mean_return": result.mean_return})
    last = f", return {result.mean_return:.0f} over the last ten" if config.task else ""
    print(f"{config.out}: {result.source} is complete, {result.steps} steps in {result.episodes} episodes{last}")
    return result


def _simulate(config: CollectConfig, run: Run, log: TrajectoryLog) -> None:
    """Acts and learns until there are enough steps. A killed process repeats at most one episode and its learning."""
    env = make_env(log.tasks[0], config.look, config.action_repeat, frames=False, report=log.tasks)
    agent = _agent(config, env, log)
    pools = [pool for path in config.pool for pool in _pooled_logs(path, config, log)]
    learnt = min(run.restore(agent), len(log))
    _remember(agent, log, range(learnt))
    for pool in pools:
        _remember(agent, pool, range(len(pool)))
    if learnt == 0:
        if pools:
            print(f"{config.source}: learns from {sum(pool.num_steps for pool in pools)} pooled steps", file=sys.stderr)
        agent.prepare()
    episode_steps = min(config.episode_steps or env.episode_steps, env.episode_steps)
    total = len(log) + max(0, -(-(config.steps - log.num_steps) // episode_steps))
    column = log.tasks.index(config.task) if config.task else 0
    for index in run.updates(total, start=learnt, description=config.source, headline="return", unit="episode"):
        if index == len(log):
            remaining = min(episode_steps, config.steps - log.num_steps)
            log.append(rollout(env, agent, index, (config.seed, index), remaining))
        _remember(agent, log, range(index, index + 1))
        for pool in pools:
            _remember(agent, pool, pool.refresh())
        metrics = agent.learn(log.length(index))
        returns = log.read(index).rewards.sum(0)
        run.log(index, {"return": float(returns[column]), **_named(log.tasks, returns), **metrics})
        run.save(index, agent, every=1)


def _remember(agent: Agent, log: TrajectoryLog, indices: range) -> None:
    for index in indices:
        agent.remember(log.read(index))


def _draw(config: CollectConfig, env: BodyEnv, log: TrajectoryLog) -> None:
    """Adds the episodes to the store that it does not hold yet."""
    with StoreWriter.open(config.out, _spec(config, env)) as writer:
        first = _episodes_in(writer.frames_of(config.source), log)
        if first == len(log):
            return
        with (
            RenderPool(config.domain, config.look, config.workers) as pool,
            ProgressReport(log.num_steps, _steps_before(log, first), f"{config.source}, drawing", "frame") as progress,
        ):
            for batch in _batches(range(first, len(log))):
                trajectories = [log.read(index) for index in batch]
                frames = pool.stream([trajectory.state for trajectory in trajectories], FRAME_SIZE)
                for trajectory, drawn in zip(trajectories, frames, strict=True):
                    writer.add(_stored(trajectory, drawn, log, config.task), config.source)
                progress.advance(_steps_before(log, batch[-1] + 1))


def _stored(trajectory: Trajectory, frames: np.ndarray, log: TrajectoryLog, task: str | None) -> Episode:
    rows = len(frames)
    reward = trajectory.rewards[:, log.tasks.index(task)] if task else np.zeros(rows, np.float32)
    return Episode(frames, trajectory.action, reward, np.zeros(rows, bool), trajectory.state)


def _agent(config: CollectConfig, env: BodyEnv, log: TrajectoryLog) -> Agent:
    observation_dim = int(np.prod(env.observation_space.shape or ()))
    action_dim = int(np.prod(env.action_space.shape or ()))
    if config.agent == "expert":
        assert config.task is not None, "checked by CollectConfig"
        return Expert(observation_dim, action_dim, log.tasks.index(config.task), config.expert, config.seed)
    if config.agent == "exploration":
        return Exploration(observation_dim, action_dim, config.exploration, config.seed)
    return RandomAgent(action_dim, config.seed)


def _spec(config: CollectConfig, env: BodyEnv) -> StoreSpec:
    # Of the environment, which scales -1 ... 1 onto its actuators itself.
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    model = env.physics.model
    return StoreSpec(
        domain=config.domain,
        action_dim=len(low),
        look=config.look,
        camera=env.camera,
        action_repeat=config.action_repeat,
        control_timestep=env.domain.control_timestep,
        frame_size=FRAME_SIZE,
        state_dim=int(model.nq + model.nv),
        action_low=tuple(low.tolist()),
        action_high=tuple(high.tolist()),
    )


def _reward_tasks(domain: str, task: str | None) -> tuple[str, ...]:
    """Tasks whose rewards are kept with every step: those that data are collected for, so that experts can share."""
    tasks = domain_tasks(domain)
    shared = [entry.name for entry in tasks if entry.group == "behaviour"] or [entry.name for entry in tasks]
    return tuple(dict.fromkeys([*shared, *([task] if task else [])]))


def _run_directory(out: Path, source: str) -> Path:
    return out.with_name(f"{out.name}.run") / source


def _pooled_logs(path: Path, config: CollectConfig, log: TrajectoryLog) -> Iterator[TrajectoryLog]:
    runs = path.with_name(f"{path.name}.run")
    if not runs.is_dir():
        raise UserError(f"--pool {path}: nothing has been collected there (no {runs.name} beside it)")
    for run in sorted(runs.iterdir()):
        if run != _run_directory(config.out, config.source) and run.is_dir():
            yield TrajectoryLog(run / "trajectories", log.tasks)


def _refuse_other_source(config: CollectConfig) -> None:
    runs = config.out.with_name(f"{config.out.name}.run")
    others = [run.name for run in runs.iterdir() if run.is_dir() and run.name != config.source] if runs.is_dir() else []
    if others and not config.append:
        raise UserError(f"--out {config.out} holds {others[0]}; pass --append to add {config.source}, or another --out")


def _named(tasks: tuple[str, ...], returns: np.ndarray) -> dict[str, float]:
    return {f"return/{task}": float(value) for task, value in zip(tasks, returns, strict=True)}


def _episodes_in(frames: int, log: TrajectoryLog) -> int:
    """How many of the log's episodes the store holds."""
    count = 0
    while frames > 0:
        frames -= log.length(count) + 1
        count += 1
    assert frames == 0, "a store holds whole episodes"
    return count


def _steps_before(log: TrajectoryLog, index: int) -> int:
    return sum(log.length(i) for i in range(index))


def _batches(indices: range) -> Iterator[range]:
    for start in range(0, len(indices), EPISODES_PER_BATCH):
        yield indices[start : start + EPISODES_PER_BATCH]


def _result(config: CollectConfig, log: TrajectoryLog) -> CollectResult:
    returns: list[Any] = [0.0]
    if config.task is not None:
        column = log.tasks.index(config.task)
        returns = [log.read(index).rewards[:, column].sum() for index in range(max(0, len(log) - 10), len(log))]
    return CollectResult(config.out, config.source, len(log), log.num_steps, float(np.mean(returns)))
