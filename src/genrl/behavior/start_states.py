"""Where imagination starts: latent states drawn without any data, or posteriors of real windows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from genrl.behavior.imagination import ActsOnFeatures
from genrl.data.batch import SequenceBatch
from genrl.models.foundation import FoundationModel
from genrl.models.state import LatentState, cat_states


@dataclass(frozen=True)
class StartConfig:
    """How data-free starts are drawn. Paper: GenRL, section 4 (data-free policy learning)."""

    num_starts: int = 1024
    """Starts N of an update; an even number."""
    uniform_share: float = 0.5
    """Probability that an initial state is uniform over classes instead of the connector's."""
    connector_steps: int = 16
    """Length of the connector trajectories whose every step is an initial state."""
    warmup_steps: int = 5
    """Steps through the dynamics that give the recurrent state its velocity."""

    def __post_init__(self) -> None:
        if self.num_starts < 2 or self.num_starts % 2:
            raise ValueError(f"starts.num-starts must be even and positive, got {self.num_starts}")
        if self.connector_steps < 1 or self.warmup_steps < 0:
            raise ValueError(
                "starts.connector-steps must be at least 1 and starts.warmup-steps 0 or more, got "
                f"{self.connector_steps} and {self.warmup_steps}"
            )
        if not 0.0 <= self.uniform_share <= 1.0:
            raise ValueError(f"starts.uniform-share must lie in [0, 1], got {self.uniform_share}")


@torch.no_grad()
def data_free_starts(
    model: FoundationModel, actor: ActsOnFeatures, config: StartConfig, num_policies: int = 1
) -> LatentState:
    """N starts from no data: N/2 initial states, warmed up once with uniform actions and once with the policy's.

    Args:
        model: Gives them.
        actor: The policy; of several ones, which act on rows grouped by policy.
        config: How many, and how.
        num_policies: How many policies want N starts each.

    Returns:
        (num_policies * N, ...) states grouped by policy, of each those of uniform actions first.
    """
    initial = initial_states(model, replace(config, num_starts=num_policies * config.num_starts))
    # Both halves take a step at once.
    warm = warm_up(model, cat_states([initial, initial]), actor, config.warmup_steps)
    return warm.map(lambda x: x.unflatten(0, (2, num_policies, -1)).transpose(0, 1).flatten(0, 2))


def initial_states(model: FoundationModel, config: StartConfig) -> LatentState:
    """(N/2, ...) states with zero recurrent state, each as a whole either uniform or the connector's."""
    count = config.num_starts // 2
    dynamics = model.world_model.rssm.dynamics
    device = model.device
    uniform = uniform_samples(count, dynamics.stoch_shape, device)
    connected = connector_samples(model, count, config.connector_steps)
    is_uniform = torch.rand(count, device=device) < config.uniform_share
    stoch = torch.where(is_uniform[:, None, None], uniform, connected)
    return LatentState(torch.zeros(count, dynamics.deter_dim, device=device), stoch, torch.zeros_like(stoch))


def uniform_samples(count: int, shape: tuple[int, int], device: torch.device) -> Tensor:
    """(count, S, K) one-hot samples, uniform over the classes, independent for every variable."""
    num_variables, num_classes = shape
    index = torch.randint(num_classes, (count, num_variables), device=device)
    return F.one_hot(index, num_classes).float()


def connector_samples(model: FoundationModel, count: int, steps: int) -> Tensor:
    """(count, S, K) samples along connector trajectories, an independent random embedding at each step."""
    trajectories = -(-count // steps)
    noise = torch.randn(trajectories, steps, model.spec.embed_dim, device=model.device)
    embedding = model.aligner.align(F.normalize(noise, dim=-1))
    return model.connector.imagine(embedding).stoch.flatten(0, 1)[:count]


def warm_up(model: FoundationModel, state: LatentState, actor: ActsOnFeatures, steps: int) -> LatentState:
    """Last state of `steps` imagined steps; the first half of the rows acts at random, the other as the actor does."""
    half = len(state.deter) // 2
    for _ in range(steps):
        action = torch.cat([uniform_actions(model, half), actor.sample(state.features[half:])])
        state = model.world_model.rssm.dynamics.step(state, action)
    return state


def uniform_actions(model: FoundationModel, count: int) -> Tensor:
    """(count, A) actions, uniform in -1 ... 1, or one-hot if discrete."""
    spec = model.spec
    if spec.discrete:
        return uniform_samples(count, (1, spec.action_dim), model.device)[:, 0]
    return 2 * torch.rand(count, spec.action_dim, device=model.device) - 1


@torch.no_grad()
def data_starts(model: FoundationModel, batch: SequenceBatch) -> LatentState:
    """(B*T, ...) posterior states of every frame of real windows."""
    return model.world_model.observe(batch.frames, batch.action, batch.is_first).flatten()
