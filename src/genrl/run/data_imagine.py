"""`genrl data imagine`: what a policy does inside its model becomes episodes of a store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genrl.behavior.actor_critic import Actor
from genrl.behavior.imagination import imagine
from genrl.behavior.policy import Policy
from genrl.behavior.start_states import StartConfig, data_free_starts
from genrl.data.store import Episode, StoreSpec, StoreWriter
from genrl.infra.compute import DeviceName, pick_device
from genrl.infra.errors import UserError
from genrl.infra.progress import ProgressReport
from genrl.infra.rundir import seed_update
from genrl.models.foundation import FoundationModel, ModelSpec
from genrl.run.evaluate import policy_directory
from genrl.run.prompting import model_directory

BATCH = 16
"""Episodes imagined at once."""


@dataclass(frozen=True)
class ImagineDataConfig:
    """Roll a policy out inside its world model, without a simulator, and keep the decoded frames as episodes.

    Starts are drawn as learning draws them, from no data. Rewards are zero: nobody knows the true ones here. The store
    is like any other for `data inspect`, `data export` and the rest; its source is called `imagined:PROMPT`. The same
    command goes on.
    """

    policy: Path
    """Directory of a policy, or of the `genrl learn` run that made it."""
    out: Path
    """Store to make or to add to."""
    model: str | None = None
    """Model to imagine in; by default the one that the policy was learnt in."""
    episodes: int = 16
    """Episodes in all."""
    steps: int = 100
    """Actions of an episode."""
    seed: int = 0
    device: DeviceName = "auto"

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.steps < 1:
            raise ValueError(f"--episodes and --steps must be at least 1, got {self.episodes} and {self.steps}")


class _Mean:
    """An actor without exploration, as it is when it runs."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor

    def sample(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, F) features -> (B, A) actions; there is no noise."""
        return self.actor.best(features)


def imagine_data(config: ImagineDataConfig) -> Path:
    """Fills the store; returns it.

    Raises:
        UserError: If policy and model cannot be read or do not belong together, or the store holds something else.
    """
    device = pick_device(config.device)
    directory = policy_directory(config.policy)
    policy = Policy.load(directory, device)
    name = config.model or policy.info.get("model")
    if name is None:
        raise UserError(f"{directory} does not say which model it was learnt in; pass --model")
    model = FoundationModel.load(model_directory(name), device)
    if model.spec != policy.spec:
        raise UserError(f"--model {name} is not the model of {config.policy}: {model.spec} against {policy.spec}")
    prompt = str(policy.info.get("prompt") or "")
    with (
        StoreWriter.open(config.out, _store_spec(model.spec)) as writer,
        ProgressReport(config.episodes, description="imagine", unit="episode") as progress,
    ):
        for first in range(0, config.episodes, BATCH):
            numbers = range(first, min(first + BATCH, config.episodes))
            origins = [f"imagined:{prompt}:{config.steps}:{config.seed}:{number}" for number in numbers]
            if not set(origins) <= writer.origins:
                for origin, episode in zip(origins, _episodes(model, policy.actor, config, first), strict=False):
                    if origin not in writer.origins:
                        writer.add(replace(episode, prompt=prompt), f"imagined:{prompt}", origin)
            progress.advance(numbers[-1] + 1)
    print(f"{config.out}: {config.episodes} imagined episodes of {config.steps + 1} frames")
    return config.out


def _episodes(model: FoundationModel, actor: Actor, config: ImagineDataConfig, first: int) -> list[Episode]:
    """A whole batch of episodes; each batch has draws of its own, so that going on repeats none."""
    seed_update(config.seed, first)
    dynamics = model.world_model.rssm.dynamics
    with torch.no_grad():
        start = data_free_starts(model, actor, StartConfig(num_starts=BATCH))
        trajectory = imagine(dynamics, _Mean(actor), start, config.steps)
    actions = trajectory.actions.clamp(-1.0, 1.0).cpu().numpy()
    zeros = np.zeros(config.steps + 1, np.float32)
    return [
        Episode(
            frames=model.decode(trajectory.states.stoch[number]).cpu().numpy(),
            action=np.concatenate([np.zeros_like(action[:1]), action]),
            reward=zeros,
            is_terminal=zeros.astype(bool),
        )
        for number, action in enumerate(actions)
    ]


def _store_spec(spec: ModelSpec) -> StoreSpec:
    return StoreSpec(
        domain=spec.domain,
        action_dim=spec.action_dim,
        look=spec.look,
        camera=spec.camera,
        action_repeat=spec.action_repeat,
        control_timestep=spec.control_timestep,
        action_low=spec.action_low,
        action_high=spec.action_high,
        discrete=spec.discrete,
    )
