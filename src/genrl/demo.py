"""`genrl demo`: the whole road with one command, from a text prompt to a film of the behaviour and a score."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import genrl.envs  # noqa: F401 - chooses the OpenGL system before a simulator is loaded
from genrl.behavior.policy import Policy
from genrl.envs.gl import require_gl
from genrl.envs.tasks import Task, get_task
from genrl.evaluation.panel import FPS, PANEL_SIZE, Story, film
from genrl.evaluation.rollouts import Rollouts, check_episodes, check_spec
from genrl.evaluation.scores import ReturnSummary, summarise
from genrl.infra.checkpoint import atomic_write
from genrl.infra.compute import DeviceName, pick_device
from genrl.infra.config import from_dict
from genrl.infra.media import write_png, write_video
from genrl.models.foundation import ModelSpec
from genrl.presets import PRESETS
from genrl.run.evaluate import draw_episode, policy_checksum, print_table, run_episodes
from genrl.run.judge import Judge, find_judge
from genrl.run.learn import LearnConfig, LearnResult, check_start, learn_one, slug
from genrl.run.prompting import Groundability, load_model
from genrl.vlm.protocol import check_texts

RUN, FACTS_FILE, VIDEO_FILE, POSTER_FILE = "learn", "demo.json", "demo.mp4", "demo.png"
EPISODE_SECONDS = 10
"""How long the episode lasts in the film, about."""


@dataclass(frozen=True)
class DemoConfig:
    """A text prompt becomes a behaviour.

    Shows what the model understands of the prompt, learns the behaviour in imagination and without data, from the
    model's general policy where it has one, runs it in the simulator, scores it, and writes one film of all three. The
    same command resumes.
    """

    prompt: str = "standing up straight"
    """What the body is to do, in words."""
    task: str | None = None
    """Task whose true reward scores the behaviour; by default the one that your prompt surely means, if any."""
    model: str = "walker-mini"
    """Shipped model, or a directory made by `genrl pretrain`."""
    vlm: str | None = None
    """Where the model's VLM is, if not where it was in training: NAME=WHERE, the directory of a trained mini VLM, or
    package:Class (`genrl vlm list`)."""
    updates: int | None = None
    """Most updates of actor and critic; by default those of `genrl learn`."""
    episodes: int = 3
    """Episodes that are scored; the first is shown."""
    seed: int = 0
    device: DeviceName = "auto"
    out: Path = Path("genrl-demo")
    """The results lie in a directory below it, named after prompt and seed."""
    fresh: bool = False
    """Start over."""


@dataclass(frozen=True)
class DemoResult:
    """What came of a prompt.

    Attributes:
        task: Name of the task that scored it; None where none is surely meant.
        summary: Returns and score of that task.
        groundability: How well the preview fits the prompt.
        policy: Directory of the policy.
        video: The film.
    """

    task: str | None
    summary: ReturnSummary | None
    groundability: Groundability
    policy: Path
    video: Path


def demo(config: DemoConfig) -> DemoResult | None:
    """Preview, learning, episodes, score, film. Returns None when it was asked to stop.

    Raises:
        UserError: If the prompt, the task, the model or rendering cannot be used, before anything is learnt.
    """
    began = time.monotonic()
    check_episodes(config.episodes, config.seed)
    check_texts([config.prompt])
    directory = config.out / directory_name(config.prompt, config.seed)
    learning = learn_config(config, directory / RUN)
    chosen = Judge(get_task(config.task), True, "as --task says") if config.task is not None else None
    require_gl()
    model = load_model(config.model, pick_device(config.device), config.vlm)
    check_start(model, learning)
    spec = model.model.spec
    prompt = model.prompt(config.prompt)
    judge = chosen or find_judge(spec.domain, config.prompt)
    task = judge.task
    check_spec(spec, task.name, spec.look, spec.action_repeat)

    preview, groundability = model.preview(prompt, candidates=learning.target_candidates)
    assert groundability is not None, "the VLM has just embedded the prompt"
    print(f"prompt:        {config.prompt}")
    print(f"groundability: {groundability.cosine:.2f}, z-score {groundability.z_text()} among other prompts")
    print(f"scored by:     {task.name if judge.scores else 'no task'}, {judge.why}")

    learnt = learn_one(model, prompt, None, learning, directory / RUN)
    if not (learnt.policy / "meta.json").is_file():
        return None
    scored_by = task.name if judge.scores else None
    facts = {"task": scored_by, "episodes": config.episodes, "policy_checksum": policy_checksum(learnt.policy)}
    earlier = None if config.fresh else _earlier(directory, facts)
    summary: ReturnSummary | None
    if earlier is not None:
        summary, video = earlier
        print(f"{directory}: this demo is finished (--fresh does it again)")
    else:
        policy = Policy.load(learnt.policy, model.device)
        rollouts = run_episodes(policy, spec, task.name, config.episodes, config.seed)
        summary = summarise(rollouts.returns, task) if judge.scores else None
        story = tell(config.prompt, preview, groundability, learnt, rollouts, task, summary, spec)
        numbers = {"prompt": config.prompt, "summary": None if summary is None else asdict(summary)}
        video = _write(directory, story, {**facts, **numbers})
    if summary is not None:
        print_table({"policy": summary})
    print(f"film: {video} ({time.monotonic() - began:.0f} s in all)")
    return DemoResult(scored_by, summary, groundability, learnt.policy, video)


def directory_name(prompt: str, seed: int) -> str:
    """Readable, and another one for every prompt and seed."""
    name = slug(prompt)
    if name.replace("-", " ") != prompt:
        name += "-" + hashlib.sha256(prompt.encode()).hexdigest()[:6]
    return f"{name}-seed{seed}"


def learn_config(config: DemoConfig, out: Path) -> LearnConfig:
    """Options of `genrl learn`: its default preset, with what the demo lets one choose."""
    preset: LearnConfig = next(iter(PRESETS["learn"].values()))
    updates = preset.updates if config.updates is None else config.updates
    return replace(
        preset,
        model=config.model,
        prompt=(config.prompt,),
        updates=updates,
        seed=config.seed,
        device=config.device,
        out=out,
        fresh=config.fresh,
    )


def tell(
    prompt: str,
    preview: NDArray[np.uint8],
    groundability: Groundability,
    learnt: LearnResult,
    rollouts: Rollouts,
    task: Task,
    summary: ReturnSummary | None,
    spec: ModelSpec,
) -> Story:
    """The story of a demo, with its numbers put into words."""
    every = max(1, round(len(rollouts.states) / (EPISODE_SECONDS * FPS)))
    returns = np.concatenate([[0.0], rollouts.rewards[0].cumsum()])[: len(rollouts.states) : every]
    speed = FPS * every / spec.frames_per_second
    return Story(
        prompt=prompt,
        preview=preview,
        preview_note=f"groundability {groundability.cosine:.2f} (z-score {groundability.z_text()})",
        history=learnt.history,
        unlearnt_note="the general policy as it is,\ntold the prompt",
        episode=draw_episode(task.name, spec.look, rollouts, PANEL_SIZE, every),
        episode_returns=None if summary is None else returns,
        episode_note=f"{speed:.2g}× speed",
        score_label=f"score on {task.name}",
        score=None if summary is None else summary.score,
        score_text=_result(summary),
    )


def _result(summary: ReturnSummary | None) -> str:
    """The line at the bottom of the film."""
    if summary is None:
        return "not scored: no task is surely meant (--task NAME)"
    episodes = "1 episode" if summary.num_episodes == 1 else f"{summary.num_episodes} episodes"
    if summary.score is not None:
        return f"{summary.score_text} over {episodes}"
    return f"return {summary.return_text} over {episodes} of {summary.task}, which has no score bounds"


def _write(directory: Path, story: Story, facts: dict[str, Any]) -> Path:
    """Film and poster, then the facts, which say that both are there; returns the film."""
    frames = film(story)
    video = write_video(directory / VIDEO_FILE, frames, FPS)
    write_png(directory / POSTER_FILE, frames[-1])
    atomic_write(directory / FACTS_FILE, json.dumps({**facts, "video": video.name}, indent=2) + "\n")
    return video


def _earlier(directory: Path, facts: dict[str, Any]) -> tuple[ReturnSummary | None, Path] | None:
    """Result and film of the same policy in the same episodes, if the directory holds them."""
    try:
        found = json.loads((directory / FACTS_FILE).read_text())
        video = directory / found["video"]
        told = found["summary"]
        summary = None if told is None else from_dict(ReturnSummary, told, where=str(directory / FACTS_FILE))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = all(found.get(name) == value for name, value in facts.items())
    return (summary, video) if same and video.is_file() else None
