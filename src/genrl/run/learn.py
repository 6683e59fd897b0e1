"""`genrl learn`: prompts become policies, by actor-critic in imagination."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.policy import Policy
from genrl.behavior.start_states import StartConfig, data_free_starts, data_starts
from genrl.data.sampler import WindowSampler
from genrl.infra.compute import DeviceName, pick_device, reuse_memory
from genrl.infra.config import config_hash
from genrl.infra.errors import UserError
from genrl.infra.rundir import Run
from genrl.models.foundation import ModelSpec
from genrl.models.state import LatentState
from genrl.run.prompting import Prompt, PromptedModel, load_model
from genrl.run.prompts import PromptConfig, read_prompts

SLUG_LENGTH = 40


@dataclass(frozen=True)
class SettleConfig:
    """When learning has nothing more to gain: the imagined return has stopped rising."""

    patience: int = 400
    """Updates without progress after which learning stops; 0 never stops early."""
    min_gain: float = 0.01
    """Least rise of the smoothed imagined return that counts as progress, as a share of its value."""
    smoothing: int = 50
    """Updates averaged."""


@dataclass(frozen=True)
class LearnConfig(PromptConfig):
    """Learn a behaviour from a prompt, in imagination.

    Data-free unless --data names a store to start imagination from. Each --prompt or --video learns a policy of its
    own; --ensemble makes one target of several wordings, --baseline-prompt takes out what they have in common with a
    general one. The result is OUT/policy (OUT/NAME/policy for several prompts). The same command resumes.
    """

    data: tuple[Path, ...] = ()
    """Stores whose posterior states imagination starts from; none is data-free."""
    data_batch_size: int = 32
    """Windows of a batch of starts from data."""
    data_window: int = 32
    """Frames of such a window."""
    updates: int = 50_000
    """Most updates of actor and critic. 0 takes the model's general policy as it is, in no time."""
    warm_start: bool = False
    """Start from the model's general policy (`genrl practice`), where it has one, with that one's network sizes."""
    settle: SettleConfig = field(default_factory=SettleConfig)
    behavior: BehaviorConfig = field(default_factory=BehaviorConfig)
    starts: StartConfig = field(default_factory=StartConfig)
    seed: int = 0
    device: DeviceName = "auto"
    out: Path | None = None
    """Run directory; by default named after verb, model, prompt and options."""
    fresh: bool = False
    """Start over, deleting an existing run."""
    log_every: int = 10
    save_every: int = 200

    def __post_init__(self) -> None:
        if self.updates < 0:
            raise ValueError(f"--updates must be 0 or more, got {self.updates}")
        if self.updates == 0 and not self.warm_start:
            raise ValueError("--updates 0 needs --warm-start: without it there is nothing to act with")


@dataclass(frozen=True)
class LearnResult:
    """One learnt policy.

    Attributes:
        label: The prompt.
        policy: Its directory.
        updates: Updates done.
        imagined_return: Smoothed mean lambda return at the end.
        imagined_reward: Smoothed mean reward per imagined step at the end, at most 1 for cosines.
        settled: Whether learning stopped because the imagined return had settled.
        seconds: Time spent in updates, over all sessions.
        history: (update, imagined return) at every logged update.
    """

    label: str
    policy: Path
    updates: int
    imagined_return: float
    imagined_reward: float
    settled: bool
    seconds: float
    history: list[tuple[int, float]]


def learn(config: LearnConfig) -> list[LearnResult]:
    """Learns one policy for each prompt.

    Raises:
        UserError: If a prompt, the model or the data cannot be used, before anything is trained.
    """
    device = pick_device(config.device)
    config.require_prompt()
    model = load_model(config.model, device, config.vlm)
    config = replace(config, behavior=fitting_behavior(config.behavior, model.model.spec))
    if config.behavior.doubt and model.model.world_model.rssm.ensemble is None:
        raise UserError(
            f"--behavior.doubt needs a model with an ensemble, which {config.model} lacks; "
            "pretrain one with --model.world-model.rssm.ensemble 5, or leave --behavior.doubt out"
        )
    check_start(model, config)
    prompts = read_prompts(model, config)
    sampler = start_sampler(model, config)
    out = config.out or default_directory(config, prompts)
    results = []
    for prompt, name in zip(prompts, directory_names(prompts), strict=True):
        directory = out if len(prompts) == 1 else out / name
        results.append(learn_one(model, prompt, sampler, config, directory))
    return results


def learn_one(
    model: PromptedModel, prompt: Prompt, sampler: WindowSampler | None, config: LearnConfig, directory: Path
) -> LearnResult:
    """Learns, resumes or reports one policy."""
    reuse_memory(model.device)
    with Run.open(directory, "learn", config, fresh=config.fresh) as run:
        if not run.finished:
            learning = Learning(make_learner(model, prompt, config), config.settle)
            start = run.restore(learning)
            train(run, learning, start_drawer(model, learning.learner, sampler, config), config, start)
            if run.stopped:
                return learning.result(prompt.label, directory / "policy")
            networks = learning.learner.actor_critic
            sizes = networks.config
            policy = Policy.build(model.model, learning.learner.actor, sizes.num_layers, sizes.hidden_dim)
            policy.save(run.path / "policy", prompt=prompt.label, model=model.name)
            run.finish(learning.summary())
        assert run.summary is not None
        result = LearnResult(prompt.label, directory / "policy", **run.summary)
        why = "settled" if result.settled else "all done"
        if not result.updates:
            print(f"{prompt.label}: the general policy, bound to the prompt: {result.policy}")
            return result
        print(
            f"{prompt.label}: {result.updates} updates ({why}), imagined reward {result.imagined_reward:.3f}, "
            f"imagined return {result.imagined_return:.2f}, {result.seconds:.0f} s: {result.policy}"
        )
        return result


def fitting_behavior(behavior: BehaviorConfig, spec: ModelSpec) -> BehaviorConfig:
    """The same for continuous actions; for discrete ones, which no gradient passes, the actor learns by REINFORCE."""
    if not spec.discrete or behavior.actor_critic.gradient == "reinforce":
        return behavior
    print("actions are discrete: the actor learns by REINFORCE (--behavior.actor-critic.gradient)", file=sys.stderr)
    return replace(behavior, actor_critic=replace(behavior.actor_critic, gradient="reinforce", clip_actions=False))


def check_start(model: PromptedModel, config: LearnConfig) -> None:
    """Raises UserError where there would be nothing to act with."""
    if config.updates == 0 and model.general is None:
        raise UserError(
            f"--updates 0 needs a model with a general policy, which {config.model} lacks (`genrl practice`)"
        )


def make_learner(model: PromptedModel, prompt: Prompt, config: LearnConfig) -> BehaviorLearner:
    """The learner of one prompt; with a warm start its networks are the general policy, bound to the prompt."""
    target = model.target(prompt, config.behavior.actor_critic.horizon + 1)
    torch.manual_seed(config.seed)
    networks = None
    if config.warm_start and model.general is not None:
        networks = model.general.bind(model.goal(prompt))
    return BehaviorLearner(model.model, target, config.behavior, networks)


def train(
    run: Run, learning: Learning, draw_starts: Callable[[int], LatentState], config: LearnConfig, start: int
) -> None:
    """Updates until the budget is spent or the imagined return has settled."""
    if learning.settled:
        return
    for update in run.updates(config.updates, start, "learn", headline="imagined/reward"):
        metrics = learning.update(draw_starts(update))
        run.log(update, metrics, every=config.log_every)
        if (update + 1) % config.log_every == 0:
            learning.record(update + 1)
        run.save(update, learning, every=config.save_every)
        if learning.settled:
            run.save(update, learning, every=1)
            break


class Learning:
    """A behaviour learner, the history of its imagined return, and the judgement whether that has settled."""

    def __init__(self, learner: BehaviorLearner, settle: SettleConfig) -> None:
        self.learner = learner
        self.settle = settle
        self.updates = 0
        self.seconds = 0.0
        self.smooth_return = 0.0
        self.smooth_reward = 0.0
        self.best_return = float("-inf")
        self.best_update = 0
        self.history: list[tuple[int, float]] = []
        self._pending: list[Tensor] = []

    @property
    def settled(self) -> bool:
        """Whether `patience` updates have passed without progress."""
        return bool(self.settle.patience) and self.updates - self.best_update >= self.settle.patience

    def update(self, start: LatentState) -> dict[str, Tensor]:
        """One update; its return and reward wait on the device until `record`."""
        began = time.monotonic()
        metrics = self.learner.update(start)
        self._pending.append(torch.stack([metrics["imagined/return"], metrics["imagined/reward"]]))
        self.seconds += time.monotonic() - began
        return metrics

    def record(self, updates: int) -> None:
        """Takes in the returns since the last call, in one transfer."""
        for value, reward in torch.stack(self._pending).tolist():
            # A running mean that starts as the plain mean of what there is.
            self.updates += 1
            rate = max(1.0 / self.settle.smoothing, 1.0 / self.updates)
            self.smooth_return += rate * (value - self.smooth_return)
            self.smooth_reward += rate * (reward - self.smooth_reward)
        self._pending.clear()
        assert self.updates == updates
        self.history.append((updates, self.smooth_return))
        needed = self.best_return + self.settle.min_gain * abs(self.best_return)
        if not self.best_update or self.smooth_return > needed:
            self.best_return, self.best_update = self.smooth_return, updates

    def result(self, label: str, policy: Path) -> LearnResult:
        """What there is so far."""
        return LearnResult(label, policy, **self.summary())

    def summary(self) -> dict[str, Any]:
        """JSON-ready fields of `LearnResult` but label and policy."""
        return {
            "updates": self.updates,
            "imagined_return": self.smooth_return,
            "imagined_reward": self.smooth_reward,
            "settled": self.settled,
            "seconds": self.seconds,
            "history": self.history,
        }

    def state_tensors(self) -> dict[str, Tensor]:
        """Those of the learner, and the returns not yet recorded."""
        tensors = self.learner.state_tensors()
        return tensors | {"pending": torch.stack(self._pending)} if self._pending else tensors

    def state_meta(self) -> dict[str, Any]:
        """The learner's and the history."""
        own = {name: getattr(self, name) for name in ("updates", "seconds", "smooth_return", "smooth_reward")}
        best = {"best_return": self.best_return, "best_update": self.best_update} if self.best_update else {}
        return self.learner.state_meta() | own | best | {"history": self.history}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Takes back what `state_tensors` and `state_meta` gave."""
        self.learner.load_state(tensors, meta)
        for name in ("updates", "seconds", "smooth_return", "smooth_reward", "best_return", "best_update"):
            setattr(self, name, meta.get(name, getattr(self, name)))
        self.history = [(int(update), float(value)) for update, value in meta["history"]]
        self._pending = list(tensors["pending"]) if "pending" in tensors else []


def start_sampler(model: PromptedModel, config: LearnConfig) -> WindowSampler | None:
    """Windows to start from, or None for data-free learning."""
    if not config.data:
        return None
    sampler = WindowSampler(config.data, config.data_window, config.data_batch_size, config.seed)
    spec = sampler.spec
    model.model.check_spec(f"--data {config.data[0]}", domain=spec.domain, look=spec.look, action_dim=spec.action_dim)
    return sampler


def start_drawer(
    model: PromptedModel, learner: BehaviorLearner, sampler: WindowSampler | None, config: LearnConfig
) -> Callable[[int], LatentState]:
    """Function from an update's number to its starts."""
    if sampler is None:
        return lambda update: data_free_starts(model.model, learner.actor_critic.actor, config.starts)
    return lambda update: data_starts(model.model, sampler.batch(update).to(model.device))


def default_directory(config: LearnConfig, prompts: list[Prompt]) -> Path:
    """Named after verb, model, first prompt and a hash of the options."""
    return Path(f"learn-{slug(Path(config.model).name)}-{slug(prompts[0].label)}-{config_hash(config)}")


def directory_names(prompts: list[Prompt]) -> list[str]:
    """One for each prompt; those that begin alike are numbered."""
    slugs = [slug(prompt.label) for prompt in prompts]
    counts = [slugs[: index + 1].count(name) for index, name in enumerate(slugs)]
    return [name if count == 1 else f"{name}-{count}" for name, count in zip(slugs, counts, strict=True)]


def slug(text: str) -> str:
    """Letters, digits and hyphens, for a directory."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:SLUG_LENGTH].strip("-") or "prompt"
