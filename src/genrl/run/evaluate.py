"""`genrl evaluate`: a policy runs in the simulator and is scored with the task's true reward."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from genrl.behavior.policy import Policy
from genrl.envs.rendering import Look, render_states
from genrl.envs.tasks import get_task, is_external
from genrl.evaluation.environments import EnvironmentConfig
from genrl.evaluation.rollouts import ConstantPolicy, FramePolicy, RandomPolicy, Rollouts, check_spec, rollout
from genrl.evaluation.scores import ReturnSummary, summarise
from genrl.infra.checkpoint import TENSORS_FILE, atomic_write, check_directory
from genrl.infra.compute import DeviceName, pick_device
from genrl.infra.config import changed_options, from_dict
from genrl.infra.errors import UserError
from genrl.infra.media import write_video
from genrl.infra.progress import ProgressReport, table_console
from genrl.models.foundation import ModelSpec

RESULT_FILE, VIDEO_FILE = "evaluation.json", "episode.mp4"
VIDEO_SIZE = 256
"""Height and width of the episode's video; the policy itself sees 64."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Run a policy in the simulator, or another environment, and score it with the task's true reward.

    The numbers go to OUT/evaluation.json, the first episode to OUT/episode.mp4.
    """

    policy: Path
    """Directory of a policy, or of the `genrl learn` run that made it."""
    task: str | None = None
    """Task that scores it; `genrl tasks` lists them."""
    episodes: int = 10
    seed: int = 0
    """Of the environments (the i-th starts from seed + i) and of the policy's latent samples."""
    env: str | None = None
    """Instead of a task: a Gymnasium environment, such as `Pendulum-v1` or `my_package:MyEnv-v0`; by default the one
    that the policy was made for. Its own reward scores."""
    episode_steps: int | None = None
    """Env steps of an episode, where --env has no time limit of its own."""
    references: bool = False
    """Score doing nothing and acting at random, too."""
    workers: int | None = None
    """Processes that simulate; by default one a core."""
    device: DeviceName = "auto"
    out: Path | None = None
    """By default `evaluation-TASK` beside the policy."""
    fresh: bool = False
    """Replace an evaluation of other episodes or of another policy in OUT."""


@dataclass(frozen=True)
class EvaluationResult:
    """How a policy did.

    Attributes:
        task: Name of the task.
        returns: Return of every episode.
        summary: Mean, spread and normalised score.
        video: The first episode, where one was written.
    """

    task: str
    returns: tuple[float, ...]
    summary: ReturnSummary
    video: Path | None = None

    @property
    def mean_return(self) -> float:
        """Mean return over episodes."""
        return self.summary.mean

    @property
    def score(self) -> float | None:
        """Normalised score of the mean return; None for a task without bounds."""
        return self.summary.score


def evaluate(config: EvaluateConfig) -> EvaluationResult:
    """Rolls out, prints the table, writes numbers and video; says so where that was done before.

    Raises:
        UserError: If the policy cannot be read or does not fit the task, or OUT holds another evaluation.
    """
    directory = policy_directory(config.policy)
    policy = Policy.load(directory, pick_device(config.device))
    task = get_task(task_name(config, policy.spec))
    check_spec(policy.spec, task.name, policy.spec.look, policy.spec.action_repeat, config.episode_steps)
    out = config.out or directory.parent / ("evaluation-" + re.sub(r"[^\w.-]", "-", task.name))
    check_directory(out)
    facts = {
        "policy": str(config.policy),
        "policy_checksum": policy_checksum(directory),
        "prompt": policy.info.get("prompt"),
        "model": policy.info.get("model"),
        "task": task.name,
        "episodes": config.episodes,
        "seed": config.seed,
        "references": config.references,
    }
    if config.episode_steps is not None:
        facts["episode_steps"] = config.episode_steps
    earlier = None if config.fresh else _earlier(out, facts)
    if earlier is not None:
        print(f"{out}: this evaluation is finished (--fresh does it again)")
        print_table({"policy": earlier.summary})
        return earlier

    spec = policy.spec
    agents: dict[str, FramePolicy] = {"policy": policy, **(reference_agents(spec) if config.references else {})}
    rollouts = {
        name: run_episodes(
            agent, spec, task.name, config.episodes, config.seed, config.workers, name, config.episode_steps
        )
        for name, agent in agents.items()
    }
    summaries = {name: summarise(result.returns, task) for name, result in rollouts.items()}
    out.mkdir(parents=True, exist_ok=True)
    video = write_video(
        out / VIDEO_FILE, draw_episode(task.name, spec.look, rollouts["policy"]), spec.frames_per_second
    )
    returns = rollouts["policy"].returns.tolist()
    numbers = {
        "facts": facts,
        "returns": returns,
        "lengths": rollouts["policy"].lengths.tolist(),
        "summaries": {name: asdict(summary) for name, summary in summaries.items()},
        "video": video.name,
    }
    atomic_write(out / RESULT_FILE, json.dumps(numbers, indent=2) + "\n")
    print_table(summaries)
    print(f"numbers: {out / RESULT_FILE}\nvideo:   {video}")
    return EvaluationResult(task.name, tuple(returns), summaries["policy"], video)


def evaluate_policy(policy: Policy | Path | str, task: str, episodes: int = 10, seed: int = 0) -> EvaluationResult:
    """Scores a policy, or the one in a directory, without writing anything.

    Raises:
        UserError: If the policy cannot be read or does not fit the task.
    """
    if not isinstance(policy, Policy):
        policy = Policy.load(policy_directory(Path(policy)), pick_device("auto"))
    rollouts = run_episodes(policy, policy.spec, task, episodes, seed)
    return EvaluationResult(task, tuple(rollouts.returns.tolist()), summarise(rollouts.returns, get_task(task)))


def run_episodes(
    agent: FramePolicy,
    spec: ModelSpec,
    task: str,
    episodes: int,
    seed: int,
    workers: int | None = None,
    label: str = "policy",
    episode_steps: int | None = None,
) -> Rollouts:
    """Rolls out under a progress bar, in the look and with the action repeat of a model."""
    env = EnvironmentConfig(task, spec.look, spec.action_repeat, camera=spec.camera, episode_steps=episode_steps).make(
        frames=False
    )
    total = env.episode_steps
    env.close()
    with ProgressReport(total, description=f"{label}, {episodes} episodes", unit="step") as progress:
        return rollout(
            agent,
            task,
            episodes,
            seed,
            look=spec.look,
            action_repeat=spec.action_repeat,
            camera=spec.camera,
            episode_steps=episode_steps,
            workers=workers,
            progress=progress.advance,
        )


def draw_episode(task: str, look: str, rollouts: Rollouts, size: int = VIDEO_SIZE, every: int = 1) -> NDArray[np.uint8]:
    """(T, size, size, 3) every k-th frame of the first episode, larger than the policy saw it.

    Drawn anew where the simulator is ours; the frames of other environments are enlarged, to a whole multiple.
    """
    if is_external(task):
        scale = max(1, size // rollouts.frames.shape[1])
        return rollouts.frames[::every].repeat(scale, 1).repeat(scale, 2)
    return render_states(task, rollouts.states[::every], cast(Look, look), size)


def task_name(config: EvaluateConfig, spec: ModelSpec) -> str:
    """What to evaluate on.

    Raises:
        UserError: If that is not told, or twice.
    """
    if config.task is not None and config.env is not None:
        raise UserError("give either --task or --env")
    if config.env is not None and not is_external(config.env):
        raise UserError(f"--env {config.env} is no Gymnasium id, such as Pendulum-v1; --task names tasks of the suite")
    name = config.task or config.env
    if name is None and is_external(spec.domain):
        name = spec.domain
    if name is None:
        raise UserError(f"--task is missing: the policy was made for {spec.domain}, see `genrl tasks`")
    if config.episode_steps is not None and not is_external(name):
        raise UserError(f"--episode-steps is an option of --env; {name} has its own time limit")
    return name


def reference_agents(spec: ModelSpec) -> dict[str, FramePolicy]:
    """Agents to compare with: one that does nothing, where that is possible, and one that acts at random."""
    if spec.discrete:
        return {"random": RandomPolicy(spec.action_dim, discrete=True)}
    nothing = np.zeros(spec.action_dim, np.float32).clip(spec.action_low, spec.action_high)
    return {
        "nothing": ConstantPolicy(nothing),
        "random": RandomPolicy(spec.action_dim, spec.action_low, spec.action_high),
    }


def policy_directory(path: Path) -> Path:
    """The policy directory in what a user named: itself, or the run that made it.

    Raises:
        UserError: If there is none.
    """
    for directory in (path, path / "policy"):
        if (directory / "meta.json").is_file():
            return directory
    raise UserError(f"--policy {path}: no policy there; give the directory that `genrl learn` wrote")


def policy_checksum(directory: Path) -> str:
    """First 12 hexadecimal digits of the sha256 of a policy's parameters."""
    return hashlib.sha256((directory / TENSORS_FILE).read_bytes()).hexdigest()[:12]


def print_table(summaries: dict[str, ReturnSummary]) -> None:
    """A table of return and score, each with its spread."""
    first = next(iter(summaries.values()))
    table = Table(
        "", "return ± std", "min", "max", "score ± error", title=f"{first.task}, {first.num_episodes} episodes"
    )
    for name, summary in summaries.items():
        table.add_row(name, summary.return_text, f"{summary.minimum:.1f}", f"{summary.maximum:.1f}", summary.score_text)
    table_console().print(table)


def _earlier(out: Path, facts: dict[str, Any]) -> EvaluationResult | None:
    """The same evaluation, if the directory holds it.

    Raises:
        UserError: If the directory holds another one, or the name is that of a file.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; name a directory")
    file = out / RESULT_FILE
    if not file.exists():
        return None
    try:
        numbers = json.loads(file.read_text())
        changed = [name for name in changed_options(numbers["facts"], facts) if name != "policy"]
        summary = from_dict(ReturnSummary, numbers["summaries"]["policy"], where=str(file))
        returns, video = tuple(float(value) for value in numbers["returns"]), out / numbers["video"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read ({error}); use --fresh to evaluate again") from error
    if changed:
        changes = ", ".join(f"{name} was {numbers['facts'].get(name)}, now {facts.get(name)}" for name in changed)
        raise UserError(f"--out {out} holds another evaluation: {changes}; use --fresh to replace it, or another --out")
    return EvaluationResult(summary.task, returns, summary, video) if video.exists() else None
