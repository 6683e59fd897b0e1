"""`genrl practice`: a model learns to reach what its data show, tries it out, and learns from what really happened."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from genrl.behavior.general import GeneralLearner, GeneralPolicy, GoalPolicy
from genrl.behavior.learner import BehaviorConfig
from genrl.behavior.start_states import StartConfig, data_free_starts
from genrl.data.sampler import WindowSampler
from genrl.data.store import StoreWriter, find_stores, open_stores
from genrl.envs.domain import MODULES, get_domain
from genrl.envs.environment import make_env
from genrl.envs.gl import require_gl
from genrl.envs.rendering import Look
from genrl.evaluation.environments import EnvironmentConfig, WorkerEnvironments
from genrl.evaluation.goal_episodes import GoalConfig, GoalEpisodes, follow_goals
from genrl.evaluation.prediction import predict_open_loop
from genrl.evaluation.rollouts import check_spec
from genrl.infra.captured import Captured
from genrl.infra.checkpoint import load_checkpoint
from genrl.infra.compute import DeviceName, autocast, pick_device, prepare
from genrl.infra.config import config_hash
from genrl.infra.errors import UserError
from genrl.infra.progress import ProgressReport
from genrl.infra.rundir import Run, seed_update
from genrl.models.latents import LatentCache
from genrl.models.learner import LatentLearner, select
from genrl.models.state import LatentState, cat_states
from genrl.run.embed import EmbedConfig, embed
from genrl.run.inputs import file_input, model_input, store_inputs
from genrl.run.learn import check_shown, fitting_behavior
from genrl.run.pretrain import PREDICTION_WINDOWS, StageConfig, prediction_errors
from genrl.run.prompting import GENERAL, PromptedModel, load_model, model_directory

SOURCE = "practice"
START_WINDOW = 16
"""Frames that the recurrent state of a start from data has seen."""


@dataclass(frozen=True)
class EpisodesConfig(GoalConfig):
    """What happens in the environment in each round."""

    count: int = 24
    """Episodes, all at once."""
    steps: int | None = None
    """Env steps of an episode; by default the time limit."""
    workers: int = 2
    """Processes that simulate and draw."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1 or self.workers < 1:
            raise ValueError(f"episodes.count and workers must be at least 1, got {self.count} and {self.workers}")
        if self.steps is not None and self.steps < START_WINDOW:
            raise ValueError(f"episodes.steps must be at least {START_WINDOW}, got {self.steps}")


@dataclass(frozen=True)
class PracticeConfig:
    """Trains a model's general policy, and the model itself on what that policy does.

    Each round: the policy learns, in imagination, to reach embeddings of the data's own clips; it acts in the
    environment, towards one clip after another; what happened joins the data, and everything sequential in the model
    (GRU, dynamics, connector, aligner) goes on learning from all of them. No task and no reward is read, and no text
    but those of --goal-texts. The result is OUT/model, with the general policy that `genrl learn` starts from, and the
    episodes in OUT/data. With --rounds 0 no environment is needed: the policy learns, the model stays. The same command
    resumes.
    """

    model: str = ""
    """Model to start from: a directory made by `genrl pretrain`, or a shipped one."""
    vlm: str | None = None
    """Where the model's VLM is, if not where it was in training: NAME=WHERE, the directory of a trained mini VLM, or
    package:Class (`genrl vlm list`)."""
    data: tuple[Path, ...] = ()
    """Stores with embeddings, or directories of stores: what the model was pretrained on."""
    goal_texts: Path | None = None
    """File of texts, one a line, of which every second goal is drawn; by default all goals are clips of the data. They
    take practice to what the data do not show."""
    out: Path | None = None
    """Run directory; by default named after verb, model and options."""
    rounds: int = 9
    first_updates: int = 700
    """Updates of the policy before its first round, beside those of every round."""
    policy_updates: int = 800
    """Updates of the policy in each round, and once more after the last."""
    latent: StageConfig = field(default_factory=lambda: StageConfig(updates=1500, batch_size=32, window=32))
    """Updates of the model in each round, from cached posteriors."""
    episodes: EpisodesConfig = field(default_factory=EpisodesConfig)
    behavior: BehaviorConfig = field(default_factory=BehaviorConfig)
    starts: StartConfig = field(default_factory=StartConfig)
    """Starts of the policy's updates: half of them states of the data, half data-free."""
    seed: int = 0
    device: DeviceName = "auto"
    fresh: bool = False
    """Start over, deleting an existing run and its episodes, but nothing else in its directory."""
    log_every: int = 50
    save_every: int = 400

    def __post_init__(self) -> None:
        if min(self.rounds, self.first_updates) < 0 or self.policy_updates < 1 or self.latent.updates < 1:
            raise ValueError(
                "--rounds and --first-updates must be 0 or more, --policy-updates and --latent.updates at least 1; got "
                f"{self.rounds}, {self.first_updates}, {self.policy_updates}, {self.latent.updates}"
            )

    @property
    def total(self) -> int:
        """Updates in all, of policy and model."""
        return self.first_updates + self.rounds * (self.policy_updates + self.latent.updates) + self.policy_updates

    def place(self, update: int) -> tuple[int, int]:
        """Round of an update, and its number within the model's share of it; negative where the policy learns."""
        turn, within = divmod(max(0, update - self.first_updates), self.policy_updates + self.latent.updates)
        return turn, within - self.policy_updates


def practice(config: PracticeConfig) -> Path:
    """Runs or resumes practice.

    Returns:
        Directory of the model.

    Raises:
        UserError: If model, data, environment and options do not fit, before anything is trained.
    """
    if not config.model or not config.data:
        raise UserError("--model and --data are needed: a pretrained model, and the stores it was pretrained on")
    device = pick_device(config.device)
    prepare(device)
    model = load_model(config.model, device, config.vlm)
    data = check_data(model, config)
    check_shown(model, config.behavior)
    texts = embed_lines(model, config.goal_texts) if config.goal_texts else None
    config = replace(config, behavior=fitting_behavior(config.behavior, model.model.spec))
    out = config.out or Path(f"practice-{Path(config.model).name}-{config_hash(config)}")
    # OUT/data is the run's own.
    inputs = [model_input("--model", config.model), *store_inputs(data)]
    if config.goal_texts is not None:
        inputs.append(file_input("--goal-texts", config.goal_texts))
    with Run.open(
        out,
        "practice",
        config,
        fresh=config.fresh,
        extendable=("rounds",),
        results=("model", "data/round_*"),
        inputs=inputs,
    ) as run:
        if run.is_complete(lambda: (load_checkpoint(out / "model"), load_checkpoint(out / "model" / GENERAL))):
            print(f"{out}: finished; the model is {out / 'model'} (--fresh starts over)")
            return out / "model"
        torch.manual_seed(config.seed)
        practising = Practising(model, data, config, out / "data", texts)
        start = run.restore(practising)
        train(run, practising, start)
        if not run.stopped:
            save_model(practising, out / "model")
            run.finish({"model": str(out / "model")})
            print(f"model: {out / 'model'}")
    return out / "model"


def train(run: Run, practising: Practising, start: int) -> None:
    """Policy, episodes, model, in turn, in one count of updates."""
    config = practising.config
    for update in run.updates(config.total, start, "practice", headline="imagined/reward"):
        turn, of_model = config.place(update)
        if of_model == 0:
            if happened := practising.act(turn):
                run.log(update, happened)
            # Draw the same, whether the episodes have just been made or were there already.
            seed_update(config.seed, update)
        practising.enter(turn, of_model >= 0)
        run.log(update, practising.update(update, of_model), every=config.log_every)
        run.save(update, practising, every=config.save_every)


class Practising:
    """Model and general policy, whichever of them learns now, as one thing that a run saves and restores.

    Args:
        prompted: Model to go on from; trained in place.
        data: Stores that it was pretrained on.
        config: How.
        directory: Where the episodes of the rounds are kept, a store for each.
        texts: (M, E) unit embeddings of texts to practise towards, before the aligner; None for clips alone.
    """

    def __init__(
        self,
        prompted: PromptedModel,
        data: list[Path],
        config: PracticeConfig,
        directory: Path,
        texts: Tensor | None = None,
    ) -> None:
        self.prompted, self.model = prompted, prompted.model
        self.data, self.config, self.directory, self.texts = data, config, directory, texts
        self.column = self.model.spec.vlm
        self.policy = prompted.general or GeneralPolicy.for_model(self.model, config.behavior.actor_critic)
        embed_video = prompted.vlm.embed_video if config.behavior.shown.share else None
        self.policy_learner = GeneralLearner(self.model, self.policy, config.behavior, embed_video)
        self._free_starts = Captured(self._draw_free_starts, prompted.device, wanted=self.policy_learner.captures)
        self.model_learner: LatentLearner | None = None
        self.cache = LatentCache(self.model.world_model, self.column, prompted.device)
        self.num_cached = 0
        count, clip = config.starts.num_starts, self.model.spec.frames_per_clip
        self.clips = WindowSampler(data, clip, count, config.seed, self.column)
        self.windows: WindowSampler
        self.phase: tuple[int, bool] | None = None

    def store_of(self, turn: int) -> Path:
        """Where the episodes of a round lie."""
        return self.directory / f"round_{turn:03d}"

    def enter(self, turn: int, of_model: bool) -> None:
        """Takes in the episodes of the rounds so far; fresh optimisers for the model, a frozen model for the policy."""
        if self.phase == (turn, of_model):
            return
        self.phase = (turn, of_model)
        stores = [*self.data, *(self.store_of(earlier) for earlier in range(turn + of_model))]
        self._encode(stores[self.num_cached :])
        stage, seed = self.config.latent, self.config.seed
        if of_model:
            self.windows = WindowSampler(stores, stage.window, stage.batch_size, seed, self.column)
            self.model_learner = LatentLearner(self.model, stage.learner)
        else:
            self.windows = WindowSampler(stores, START_WINDOW, self.config.starts.num_starts // 2, seed, self.column)
            self.model_learner = None
            gc.collect()  # It refers to itself, and has moments and graphs.
            self.model.eval().requires_grad_(False)

    def update(self, number: int, of_model: int) -> dict[str, Tensor]:
        """One update.

        Args:
            number: Update of the run, which names the batch.
            of_model: Update of the model's share in this round; negative where the policy learns.
        """
        if self.model_learner is not None:
            batch = self.cache.batch(self.windows.rows(number))
            return self.model_learner.update_latents(batch, self.config.latent.rate(of_model))
        goals = self._goals(number)
        return self.policy_learner.update_towards(self._starts(number, goals), goals)

    @torch.no_grad()
    def _goals(self, number: int) -> Tensor:
        """(N, E) goals of an update: clips of the data, every second one a text where there are any."""
        goals = self.cache.batch(self.clips.rows(number)).embedding[:, -1]
        if self.texts is not None:
            random = np.random.default_rng((self.config.seed, number))
            chosen = torch.from_numpy(random.integers(len(self.texts), size=len(goals) // 2))
            goals[1::2] = self.model.aligner.align(self.texts[chosen.to(self.texts.device)])
        return goals

    @torch.no_grad()
    def _starts(self, number: int, goals: Tensor) -> LatentState:
        """(N, ...) starts: half of them states of the data, half data-free."""
        batch = self.cache.batch(self.windows.rows(number))
        rssm = self.model.world_model.rssm
        with self._autocast():
            states = rssm.observe(batch.logits, rssm.dynamics.code(batch.logits), batch.action, batch.is_first)[0]
        return cat_states([states.map(lambda x: x[:, -1]), self._free_starts(goals)])

    def _draw_free_starts(self, goals: Tensor) -> LatentState:
        """(N/2, ...) data-free starts for (N, E) goals."""
        half = replace(self.config.starts, num_starts=len(goals) // 2)
        # The last quarter is warmed up by the policy, on its way to the goals that it will be given.
        actor = self.policy.actor(goals[-(half.num_starts // 2) :])
        with self._autocast():
            return data_free_starts(self.model, actor, half)

    def _autocast(self) -> AbstractContextManager[object]:
        return autocast(self.prompted.device, self.config.behavior.precision)

    def act(self, turn: int) -> dict[str, float]:
        """The episodes of a round; returns the latent reward of what happened, nothing where they were there before."""
        store, spec, config = self.store_of(turn), self.model.spec, self.config.episodes
        partial = store.with_name(f"{store.name}.partial")
        if store.is_dir():
            return {}
        shutil.rmtree(partial, ignore_errors=True)
        task = get_domain(spec.domain).plain_task
        steps = config.steps or make_env(task, frames=False, action_repeat=spec.action_repeat).episode_steps
        seeds = np.random.SeedSequence((self.config.seed, turn)).generate_state(config.count).tolist()
        environment = EnvironmentConfig(task, cast(Look, spec.look), spec.action_repeat)
        random = np.random.default_rng((self.config.seed, turn))
        with (
            WorkerEnvironments(environment, seeds, min(config.workers, config.count)) as environments,
            ProgressReport(config.count * steps, 0, f"round {turn}, acting", "step") as progress,
        ):
            policy = GoalPolicy(self.model, self.policy_learner.averaged())
            episodes = follow_goals(
                policy,
                environments,
                lambda count: self._draw_goals(random, count),
                config.count,
                steps,
                config,
                random,
                progress.advance,
            )
        # Imported data may lack simulator states; these episodes can be packed and drawn again.
        shared = replace(open_stores(self.data)[0].spec, state_dim=episodes.states.shape[-1])
        with StoreWriter.open(partial, shared) as writer:
            for episode in episodes.episodes():
                writer.add(episode, SOURCE)
        spec = self.model.spec
        embed(EmbedConfig((partial,), self.prompted.vlm_name, self.config.device, frames=spec.frames_per_clip))
        partial.rename(store)
        rewards = self._real_reward(episodes)
        told = ", towards texts ".join(f"{reward:.3f}" for reward in rewards.values())
        held = self.config.behavior.actor_critic.horizon + 1
        told = told or f"is not known: no goal was held for {held} steps"
        print(f"round {turn}: latent reward of what really happened {told}", file=sys.stderr)
        return rewards

    def _draw_goals(self, random: np.random.Generator, count: int) -> Tensor:
        """(count, E) goals, at most `starts.num_starts`."""
        goals = self._goals(int(random.integers(2**31)))
        return goals[torch.from_numpy(random.permutation(len(goals))[:count]).to(goals.device)]

    @torch.no_grad()
    def _real_reward(self, episodes: GoalEpisodes) -> dict[str, float]:
        """Mean aligned reward of what happened, where a goal was held for long enough; nothing where none was."""
        length = self.config.behavior.actor_critic.horizon + 1
        logits, goals = episodes.windows(length)
        if not len(goals):
            return {}
        self.policy_learner.target = self.model.target(goals, length, align=False)
        code = self.model.world_model.rssm.dynamics.code(logits)
        reward = self.policy_learner.reward(LatentState(logits.new_zeros(*logits.shape[:2], 1), code, logits)).mean(1)
        rewards = {"practice/real_reward": float(reward.mean())}
        if self.texts is not None:
            similarity = goals @ self.model.aligner.align(self.texts).T
            of_texts = reward[similarity.amax(1) > 0.9999]
            if len(of_texts):
                rewards["practice/real_reward_texts"] = float(of_texts.mean())
        return rewards

    def _encode(self, stores: list[Path]) -> None:
        """Posteriors of further stores, under a progress bar of their own."""
        if stores:
            opened = open_stores(stores)
            with ProgressReport(sum(s.num_frames for s in opened), 0, "posteriors", "frame") as progress:
                self.cache.add(opened, progress.advance)
            self.num_cached += len(stores)

    def state_tensors(self) -> dict[str, Tensor]:
        """Those of the policy's learner, and of the model, with its optimisers while it learns."""
        policy = {f"policy.{name}": value for name, value in self.policy_learner.state_tensors().items()}
        if self.model_learner is not None:
            return policy | {f"learner.{name}": value for name, value in self.model_learner.state_tensors().items()}
        return policy | {f"model.{name}": value for name, value in self.model.state_dict().items()}

    def state_meta(self) -> dict[str, Any]:
        """The phase, beside the policy learner's."""
        return self.policy_learner.state_meta() | {"phase": self.phase}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Takes back what `state_tensors` and `state_meta` gave."""
        turn, of_model = meta["phase"]
        self.enter(turn, of_model)
        self.policy_learner.load_state(select(tensors, "policy."), meta)
        if self.model_learner is not None:
            self.model_learner.load_state(select(tensors, "learner."), {})
        else:
            self.model.load_state_dict(select(tensors, "model."))


def check_data(model: PromptedModel, config: PracticeConfig) -> list[Path]:
    """The stores, once everything fits together."""
    spec = model.model.spec
    stores = find_stores(config.data)
    if not stores:
        raise UserError("--data names no episode store")
    if config.starts.num_starts % 4:
        raise UserError(f"--starts.num-starts must be a multiple of 4, got {config.starts.num_starts}")
    sampler = WindowSampler(stores, config.latent.window, config.latent.batch_size, config.seed, spec.vlm)
    data, info = sampler.spec, sampler.embedding_info
    assert info is not None
    model.model.check_spec(
        f"--data {stores[0]}", domain=data.domain, look=data.look, camera=data.camera, action_dim=data.action_dim
    )
    model.model.check_spec(f"--data {stores[0]}", vlm_checksum=info.checksum)
    if config.latent.window % info.frames_per_clip:
        raise UserError(
            f"--latent.window {config.latent.window} is not a multiple of the {info.frames_per_clip} frames of a clip"
        )
    if config.rounds:
        if spec.domain not in MODULES:
            raise UserError(
                f"practice acts in the suite's environments alone, and {config.model} was made for {spec.domain}; "
                "--rounds 0 trains the general policy without acting"
            )
        if config.episodes.count > config.starts.num_starts:
            raise UserError(
                f"--episodes.count {config.episodes.count} is more than the {config.starts.num_starts} goals that are "
                "drawn at a time (--starts.num-starts)"
            )
        _ = model.vlm  # Which embeds the episodes: a missing or other one is refused now.
        check_spec(spec, get_domain(spec.domain).plain_task, spec.look, spec.action_repeat)
        require_gl()
    return stores


def embed_lines(model: PromptedModel, file: Path) -> Tensor:
    """(M, E) unit embeddings of the lines of --goal-texts.

    Raises:
        UserError: If there are none.
    """
    try:
        texts = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--goal-texts {file} cannot be read ({error}); give a file of texts, one a line") from error
    if not texts:
        raise UserError(f"--goal-texts {file} has no texts; write one a line")
    return torch.stack([model.prompt(text).embedding for text in texts])


def save_model(practising: Practising, directory: Path) -> None:
    """The model with its general policy inside, and what it was measured to predict."""
    model, config = practising.model, practising.config
    facts = load_checkpoint(model_directory(config.model))[1]
    sampler = WindowSampler(practising.data, config.latent.window, PREDICTION_WINDOWS, config.seed, read_ahead=0)
    measured = prediction_errors(predict_open_loop(model.world_model, sampler.batch(0).to(practising.prompted.device)))
    updates = facts.get("updates", {}) | {"practice_rounds": config.rounds, "practice": config.total}
    model.save(directory, updates=updates, measured=measured)
    practising.policy_learner.averaged().save(directory / GENERAL)
