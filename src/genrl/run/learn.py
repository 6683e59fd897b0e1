"""`genrl learn`: prompts become policies, by actor-critic in imagination."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrl.behavior.actor_critic import ActorCritic
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.policy import Policy
from genrl.behavior.shown import ShownReward
from genrl.behavior.stacked import StackedLearner
from genrl.behavior.start_states import StartConfig, data_free_starts, data_starts
from genrl.data.sampler import WindowSampler
from genrl.infra.captured import Captured
from genrl.infra.checkpoint import load_checkpoint
from genrl.infra.compute import DeviceName, autocast, pick_device, prepare
from genrl.infra.config import config_hash
from genrl.infra.errors import UserError
from genrl.infra.rundir import Run
from genrl.models.foundation import ModelSpec
from genrl.models.state import LatentState, cat_states
from genrl.run.inputs import model_input, prompt_inputs, store_inputs
from genrl.run.prompting import Prompt, PromptedModel, load_model
from genrl.run.prompts import PromptConfig, read_prompts
from genrl.run.settling import ReturnHistory, SettleConfig

SLUG_LENGTH = 40
WRITTEN = ("policy", "evaluation-*/evaluation.json", "evaluation-*/episode.mp4")
"""What is in the directory of a prompt; evaluations beside a policy are of that policy."""


@dataclass(frozen=True)
class LearnConfig(PromptConfig):
    """Learn a behaviour from a prompt, in imagination.

    Data-free unless --data names a store to start imagination from. Each --prompt or --video learns a policy of its
    own, all at once in one batched program; --ensemble makes one target of several wordings, --baseline-prompt takes
    out what they have in common with a general one. The result is OUT/policy (OUT/NAME/policy for several prompts).
    The same command resumes.
    """

    data: tuple[Path, ...] = ()
    """Stores whose posterior states imagination starts from; none is data-free."""
    data_batch_size: int = 32
    """Windows of a batch of starts from data."""
    data_window: int = 32
    """Frames of such a window."""
    updates: int = 50_000
    """Most updates of actor and critic. 0 takes the model's general policy as it is, in no time."""
    target_candidates: int = 0
    """Drawn target trajectories beside the connector's mode; the VLM chooses the one whose picture fits the prompt
    best, so that a gait moves where its mode stands still. 0 takes the mode, as the original."""
    warm_start: bool = False
    """Start from the model's general policy (`genrl practice`), where it has one, with that one's network sizes."""
    settle: SettleConfig = field(default_factory=SettleConfig)
    behavior: BehaviorConfig = field(default_factory=BehaviorConfig)
    starts: StartConfig = field(default_factory=StartConfig)
    at_once: int = 16
    """Most prompts that learn in one batched program, which takes memory for each; 1 learns one after another."""
    seed: int = 0
    device: DeviceName = "auto"
    out: Path | None = None
    """Run directory; by default named after verb, model, prompt and options."""
    fresh: bool = False
    """Start over, deleting an existing run."""
    log_every: int = 10
    save_every: int = 200

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise ValueError(f"--at-once must be at least 1, got {self.at_once}")
        if self.target_candidates < 0:
            raise ValueError(f"--target-candidates must be 0 or more, got {self.target_candidates}")
        if self.seed < 0:
            raise ValueError(f"--seed must be 0 or more, got {self.seed}")
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
    check_shown(model, config.behavior)
    prompts = read_prompts(model, config)
    sampler = start_sampler(model, config)
    out = config.out or default_directory(config, prompts)
    named = list(zip(directory_names(prompts), prompts, strict=True))
    if len(named) == 1:
        return [learn_one(model, prompts[0], sampler, config, out)]
    if config.at_once == 1 or not config.updates:
        return [learn_one(model, prompt, sampler, config, out / name) for name, prompt in named]
    groups = [dict(named[first : first + config.at_once]) for first in range(0, len(named), config.at_once)]
    directories = [out] if len(groups) == 1 else [out / f"group_{index:03d}" for index in range(len(groups))]
    learnt = (learn_group(model, *job, sampler, config) for job in zip(groups, directories, strict=True))
    return [result for results in learnt for result in results]


def learn_one(
    model: PromptedModel, prompt: Prompt, sampler: WindowSampler | None, config: LearnConfig, directory: Path
) -> LearnResult:
    """Learns, resumes or reports one policy, in `directory/policy`."""
    (result,) = learn_group(model, {"": prompt}, directory, sampler, config)
    return result


def learn_group(
    model: PromptedModel,
    prompts: Mapping[str, Prompt],
    directory: Path,
    sampler: WindowSampler | None,
    config: LearnConfig,
) -> list[LearnResult]:
    """Learns, resumes or reports the policies of some prompts at once, in `directory/NAME/policy`."""
    prepare(model.device)
    policies = [directory / name / "policy" for name in prompts]
    labels = [prompt.label for prompt in prompts.values()]
    inputs = [model_input("--model", config.model), *prompt_inputs(config), *store_inputs(config.data)]
    # Of one prompt or of several, whichever the run before had.
    places = [f"{name}/" if name else "" for name in ("", *prompts)]
    written = [f"{place}{part}" for place in places for part in WRITTEN]
    with Run.open(directory, "learn", config, fresh=config.fresh, results=written, inputs=inputs) as run:
        if not run.is_complete(lambda: list(map(load_checkpoint, policies)), from_checkpoint=config.updates > 0):
            learning = Learning(make_learner(model, list(prompts.values()), config), config.settle, len(prompts))
            start = run.restore(learning)
            train(run, learning, start_drawer(model, learning.learner, sampler, config), config, start)
            summaries = learning.summaries()
            if run.stopped:
                return _results(labels, policies, summaries)
            for index, (label, path) in enumerate(zip(labels, policies, strict=True)):
                learnt_policy(model, learning.learner, index).save(path, prompt=label, model=model.name)
            run.finish(summaries[0] if len(prompts) == 1 else {"prompts": summaries})
        assert run.summary is not None
        results = _results(labels, policies, run.summary.get("prompts", [run.summary]))
    for result in results:
        print(describe(result))
    return results


def _results(labels: list[str], policies: list[Path], summaries: list[dict[str, Any]]) -> list[LearnResult]:
    rows = zip(labels, policies, summaries, strict=True)
    # A summary from a file has lists for pairs.
    return [
        LearnResult(label, policy, **summary | {"history": [(update, value) for update, value in summary["history"]]})
        for label, policy, summary in rows
    ]


def learnt_policy(model: PromptedModel, learner: BehaviorLearner, index: int) -> Policy:
    """What one of the learner's prompts has become."""
    actor = learner.single_actor(index) if isinstance(learner, StackedLearner) else learner.actor
    sizes = learner.actor_critic.config
    return Policy.build(model.model, actor, sizes.num_layers, sizes.hidden_dim)


def describe(result: LearnResult) -> str:
    """A line for the user."""
    if not result.updates:
        return f"{result.label}: the general policy, bound to the prompt: {result.policy}"
    why = "settled" if result.settled else "all done"
    return (
        f"{result.label}: {result.updates} updates ({why}), imagined reward {result.imagined_reward:.3f}, "
        f"imagined return {result.imagined_return:.2f}, {result.seconds:.0f} s: {result.policy}"
    )


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


def check_shown(model: PromptedModel, behavior: BehaviorConfig) -> None:
    """Raises UserError where nobody can tell what imagination shows."""
    if not behavior.shown.share:
        return
    if not model.has_vlm:
        raise UserError(
            f"--behavior.shown.share {behavior.shown.share:g} asks the VLM of {model.name} what imagination shows, and "
            f"{model.vlm_name!r} is not here; name it with --vlm, or leave the share at 0"
        )
    _ = model.vlm  # Another one is refused now.


def make_learner(model: PromptedModel, prompts: Sequence[Prompt], config: LearnConfig) -> BehaviorLearner:
    """The learner of one prompt or of several; with a warm start networks are the general policy, bound to a prompt."""
    steps = config.behavior.actor_critic.horizon + 1
    targets = [model.target(prompt, steps, config.target_candidates) for prompt in prompts]
    networks = [_networks(model, prompt, config) for prompt in prompts]
    behavior = config.behavior
    if not goes_on(model, config):
        behavior = replace(behavior, anchor=0.0)  # Nothing is worth staying near.
    shown = None
    if behavior.shown.share:
        goals = torch.stack([model.goal(prompt) for prompt in prompts])
        shown = ShownReward(model.model, goals, model.vlm.embed_video, behavior.shown)
    if len(prompts) == 1:
        return BehaviorLearner(model.model, targets[0], behavior, networks[0], shown)
    return StackedLearner(model.model, cat_states(targets), behavior, networks, shown)


def goes_on(model: PromptedModel, config: LearnConfig) -> bool:
    """Whether learning starts from the model's general policy."""
    return config.warm_start and model.general is not None


def _networks(model: PromptedModel, prompt: Prompt, config: LearnConfig) -> ActorCritic:
    torch.manual_seed(config.seed)
    if goes_on(model, config):
        assert model.general is not None
        return model.general.bind(model.goal(prompt))
    spec, feature_dim = model.model.spec, model.model.config.world_model.rssm.feature_dim
    networks = ActorCritic(config.behavior.actor_critic, feature_dim, spec.action_dim, spec.discrete)
    return networks.to(model.device)


def train(
    run: Run, learning: Learning, draw_starts: Callable[[int], LatentState], config: LearnConfig, start: int
) -> None:
    """Updates until the budget is spent or the imagined return has settled."""
    if learning.settled:
        return
    for update in run.updates(config.updates, start, "learn", headline="imagined/reward"):
        metrics = learning.update(draw_starts(update))
        run.log(update, metrics, every=config.log_every)
        if (update + 1) % config.log_every == 0 or update + 1 == config.updates:
            learning.record(update + 1)
        run.save(update, learning, every=config.save_every)
        if learning.settled:
            run.save(update, learning, every=1)
            break


class Learning:
    """The learner of one prompt or of several, and the history of each one's imagined return."""

    def __init__(self, learner: BehaviorLearner, settle: SettleConfig, num_prompts: int = 1) -> None:
        self.learner = learner
        self.returns = [ReturnHistory(settle) for _ in range(num_prompts)]
        self.seconds = 0.0
        self._pending: list[Tensor] = []

    @property
    def settled(self) -> bool:
        """Whether no imagined return rises any more."""
        return all(own.settled for own in self.returns)

    def update(self, start: LatentState) -> dict[str, Tensor]:
        """One update; its returns and rewards wait on the device until `record`. Metrics are means over prompts."""
        began = time.monotonic()
        metrics = self.learner.update(start)
        # (2, prompts)
        self._pending.append(torch.stack([metrics[f"imagined/{name}"].reshape(-1) for name in ("return", "reward")]))
        self.seconds += time.monotonic() - began
        return {name: value.mean() for name, value in metrics.items()}

    def record(self, updates: int) -> None:
        """Takes in the returns since the last call, in one transfer."""
        for values, rewards in torch.stack(self._pending).tolist():
            for own, value, reward in zip(self.returns, values, rewards, strict=True):
                own.add(value, reward)
        self._pending.clear()
        for own in self.returns:
            assert own.updates == updates
            own.record()

    def summaries(self) -> list[dict[str, Any]]:
        """JSON-ready fields of each `LearnResult` but label and policy. Several prompts share the time evenly."""
        return [own.summary() | {"seconds": self.seconds / len(self.returns)} for own in self.returns]

    def state_tensors(self) -> dict[str, Tensor]:
        """Those of the learner, and the returns not yet recorded."""
        tensors = self.learner.state_tensors()
        return tensors | {"pending": torch.stack(self._pending)} if self._pending else tensors

    def state_meta(self) -> dict[str, Any]:
        """The learner's and the histories."""
        returns = [own.state_meta() for own in self.returns]
        return self.learner.state_meta() | {"seconds": self.seconds, "returns": returns}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Takes back what `state_tensors` and `state_meta` gave."""
        self.learner.load_state(tensors, meta)
        self.seconds = meta["seconds"]
        for own, saved in zip(self.returns, meta["returns"], strict=True):
            own.load_state(saved)
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
    count = learner.num_policies if isinstance(learner, StackedLearner) else 1
    actor, precision = learner.actor_critic.actor, config.behavior.precision

    def from_data(update: int) -> LatentState:
        # Each policy starts from the states of the same windows.
        assert sampler is not None
        with autocast(model.device, precision):
            return repeated(data_starts(model.model, sampler.batch(update).to(model.device)), count)

    def from_nothing() -> LatentState:
        with autocast(model.device, precision):
            return data_free_starts(model.model, actor, config.starts, count)

    if sampler is not None:
        return from_data
    draw = Captured(from_nothing, model.device, wanted=learner.captures)
    return lambda update: draw()


def repeated(states: LatentState, count: int) -> LatentState:
    """(B, ...) states once for each of several policies, (count * B, ...)."""
    return states.map(lambda x: x.expand(count, *x.shape).flatten(0, 1))


def default_directory(config: LearnConfig, prompts: list[Prompt]) -> Path:
    """Named after verb, model, first prompt and a hash of the options but the device."""
    options = config_hash(replace(config, device="auto"))
    return Path(f"learn-{slug(Path(config.model).name)}-{slug(prompts[0].label)}-{options}")


def directory_names(prompts: list[Prompt]) -> list[str]:
    """One for each prompt; those that begin alike are numbered."""
    slugs = [slug(prompt.label) for prompt in prompts]
    counts = [slugs[: index + 1].count(name) for index, name in enumerate(slugs)]
    return [name if count == 1 else f"{name}-{count}" for name, count in zip(slugs, counts, strict=True)]


def slug(text: str) -> str:
    """Letters, digits and hyphens, for a directory."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:SLUG_LENGTH].strip("-") or "prompt"
