"""`genrl collect`: an agent acts, everything it did becomes an episode store."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

import genrl.envs  # noqa: F401 - chooses the OpenGL system before a simulator is loaded
from genrl.agents.agent import Agent
from genrl.agents.expert import Expert, ExpertConfig
from genrl.agents.exploration import Exploration, ExplorationConfig
from genrl.agents.random import HeldActions, RandomAgent, UniformActions, UniformChoices
from genrl.agents.rollout import record, rollout
from genrl.agents.trajectory import Trajectory, TrajectoryLog
from genrl.data.store import Episode, Store, StoreSpec, StoreWriter
from genrl.envs.domain import FRAME_SIZE
from genrl.envs.environment import BodyEnv, make_env
from genrl.envs.external import ExternalEnv, View
from genrl.envs.gl import require_gl
from genrl.envs.rendering import Look, RenderPool
from genrl.envs.tasks import domain_tasks, get_task, is_external
from genrl.infra.checkpoint import check_directory
from genrl.infra.compute import quiet_threads
from genrl.infra.errors import UserError
from genrl.infra.progress import ProgressReport
from genrl.infra.rundir import Run

EPISODES_PER_BATCH = 8
"""Episodes whose frames are drawn, and held in memory, at a time."""


@dataclass(frozen=True)
class CollectConfig:
    """Collects episodes of one source into a store. Run again it goes on; with more `--steps` it adds episodes.

    Of the suite's bodies, or with --env of any Gymnasium environment that draws itself.
    """

    out: Path
    """The store. What the collector remembers, to go on from, lies beside it in a directory that ends in `.run`."""
    domain: str = "walker"
    env: str | None = None
    """Instead of --domain: the id of a Gymnasium environment, such as `Pendulum-v1` or `my_package:MyEnv-v0`. The
    stored reward is its own."""
    camera: str | None = None
    """Camera of --env, handed to it as `camera_name`."""
    render_size: int | None = None
    """Height and width that --env draws in, handed to it as `width` and `height`; frames are resized to 64."""
    agent: Literal["random", "held", "expert", "exploration"] = "random"
    """Uniform random actions; random actions held for a while, weak in some episodes, so that the body lies and rolls
    too; TD3 on a task's reward; TD3 on novelty."""
    task: str | None = None
    """What the expert learns. The stored reward is this task's, or zero without a task."""
    steps: int = 10_000
    """Env steps in all, those of earlier calls included."""
    episode_steps: int | None = None
    """Env steps after which an episode is cut off; by default the task's time limit. Short episodes hold more starts,
    such as falling and getting up."""
    look: Look = "fast"
    """Of the suite's frames."""
    action_repeat: int = 2
    """Control steps of an env step."""
    workers: int = 2
    """Processes that draw the suite's frames; --env draws in this one."""
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
        if self.env is not None:
            self._check_env(self.env)
        elif self.camera is not None or self.render_size is not None:
            raise UserError("--camera and --render-size are options of --env")
        elif self.agent == "expert" and self.task is None:
            raise UserError("--agent expert needs a --task to learn")

    def _check_env(self, env: str) -> None:
        if not is_external(env):
            raise UserError(f"--env {env} is no Gymnasium id, such as Pendulum-v1; --domain names our bodies")
        if self.agent != "random":
            raise UserError(f"--agent {self.agent} learns from our simulator's state; with --env use random")
        if self.task is not None or self.pool:
            raise UserError("--task and --pool are options of the suite's bodies, not of --env")
        if self.render_size is not None and self.render_size < 1:
            raise UserError(f"--render-size must be at least 1, got {self.render_size}")

    @property
    def source(self) -> str:
        """Name of what is collected, such as `expert_walker_run`; a task in it tells how frames are drawn."""
        return f"{self.agent}_{self.task}" if self.task else self.agent


@dataclass(frozen=True)
class CollectResult:
    """What a store holds of one source."""

    store: Path
    source: str
    episodes: int
    steps: int
    mean_return: float
    """Of the last ten episodes, in the source's own task or the environment's own reward; 0 without."""


def collect(config: CollectConfig) -> CollectResult | None:
    """Collects what is missing. Returns None when it was asked to stop."""
    check_directory(config.out)
    return _collect_suite(config) if config.env is None else _collect_external(config, config.env)


def _collect_suite(config: CollectConfig) -> CollectResult | None:
    """Simulates what is missing, then draws the frames that are missing."""
    tasks = [task.name for task in domain_tasks(config.domain)]
    if config.task is not None and get_task(config.task).name not in tasks:
        raise UserError(f"--task {config.task} is not a task of --domain {config.domain}")
    require_gl()
    _refuse_other_source(config)
    quiet_threads(1)
    env = make_env(config.task or tasks[0], config.look, config.action_repeat, frames=False)
    extendable = ("steps", "pool", "append", "expert.updates_per_step", "exploration.expert.updates_per_step")
    with _open_run(config, extendable) as run:
        log = TrajectoryLog(run.path / "trajectories", _reward_tasks(config.domain, config.task))
        if not run.finished:
            _simulate(config, run, log)
            if run.stopped:
                return None
        _draw(config, env, log)
        result = _result(config, log)
        if not run.finished:
            run.finish({"episodes": result.episodes, "steps": result.steps, "mean_return": result.mean_return})
    _report(result, bool(config.task))
    return result


def _collect_external(config: CollectConfig, name: str) -> CollectResult:
    """Acts, and stores what was seen, episode by episode. A killed process repeats those since the last commit."""
    _refuse_other_source(config)
    quiet_threads(1)
    env = ExternalEnv(name, View(config.camera, config.render_size), config.action_repeat, config.episode_steps)
    env.reset(seed=config.seed)  # Draws: what cannot is refused before anything is written.
    with (
        contextlib.closing(env),
        _open_run(config, ("steps", "append")) as run,
        StoreWriter.open(config.out, _spec(name, env)) as writer,
    ):
        agent = RandomAgent(env.action_dim, config.seed, UniformChoices if env.discrete else UniformActions)
        returns = _stored_returns(config.out, config.source)
        steps = writer.frames_of(config.source) - len(returns)
        done = run.finished and steps >= config.steps  # The store may have been deleted since.
        if not done:
            run.begin()
            with ProgressReport(config.steps, steps, f"{config.source}, {name}", "step") as progress:
                while steps < config.steps:
                    index, longest = len(returns), min(env.episode_steps, config.steps - steps)
                    episode = record(env, agent, index, (config.seed, index), longest)
                    writer.add(episode, config.source)
                    returns.append(float(episode.reward.sum()))
                    steps += len(episode) - 1
                    if len(returns) % EPISODES_PER_BATCH == 0:
                        writer.flush()
                    progress.advance(steps)
        result = CollectResult(config.out, config.source, len(returns), steps, float(np.mean(returns[-10:])))
        if not done:
            writer.flush()
            run.finish({"episodes": result.episodes, "steps": result.steps, "mean_return": result.mean_return})
    _report(result, True)
    return result


def _open_run(config: CollectConfig, extendable: Collection[str]) -> Run:
    directory = _run_directory(config.out, config.source)
    mend = f"take another --out, or delete {config.out} and {directory.parent} to start over"
    return Run.open(directory, "collect", config, extendable=extendable, keep=1, name=f"--out {config.out}", mend=mend)


def _stored_returns(path: Path, source: str) -> list[float]:
    """Return of every episode of a source that a store holds."""
    store = Store.open(path)
    if source not in store.sources:
        return []
    own = np.flatnonzero(store.episodes.source == store.sources.index(source))
    starts, lengths = store.episodes.start[own].tolist(), store.episodes.length[own].tolist()
    return [float(store.read("reward", s, s + n).sum()) for s, n in zip(starts, lengths, strict=True)]


def _report(result: CollectResult, has_reward: bool) -> None:
    last = f", return {result.mean_return:.0f} over the last ten" if has_reward else ""
    print(f"{result.store}: {result.source} is complete, {result.steps} steps in {result.episodes} episodes{last}")


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
    with StoreWriter.open(config.out, _spec(config.domain, env)) as writer:
        first = _episodes_in(writer.frames_of(config.source), log)
        if first == len(log):
            return
        with (
            RenderPool(config.task or config.domain, config.look, config.workers) as pool,
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
    return RandomAgent(action_dim, config.seed, HeldActions if config.agent == "held" else UniformActions)


def _spec(domain: str, env: BodyEnv | ExternalEnv) -> StoreSpec:
    # Of the environment: one of ours scales -1 ... 1 onto its actuators itself.
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    return StoreSpec(
        domain=domain,
        action_dim=len(low),
        look=env.look,
        camera=env.camera,
        action_repeat=env.action_repeat,
        control_timestep=env.control_timestep,
        frame_size=FRAME_SIZE,
        state_dim=env.state().size,
        action_low=() if env.discrete else tuple(low.tolist()),
        action_high=() if env.discrete else tuple(high.tolist()),
        discrete=env.discrete,
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
