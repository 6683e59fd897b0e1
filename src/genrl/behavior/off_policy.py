"""TD3 on vectors: twin delayed deep deterministic policy gradient, with n-step returns and LayerNorm networks.

Source: Fujimoto et al. 2018 (arXiv 1802.09477). Differences: n-step targets, and normalised hidden layers, which let
one step of experience be used for several updates.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrl.behavior.replay import Transitions
from genrl.nn.layers import MLP


@dataclass(frozen=True)
class TD3Config:
    """Sizes and rates of a TD3 learner."""

    hidden_dim: int = 256
    num_layers: int = 2
    batch_size: int = 256
    n_step: int = 3
    discount: float = 0.99
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    target_rate: float = 0.01
    """Share of the online networks that moves into the target networks at each update."""
    policy_noise: float = 0.2
    """Standard deviation of the noise on target actions."""
    noise_clip: float = 0.3
    """Bound of that noise."""
    actor_every: int = 2
    """Critic updates per actor update."""

    def __post_init__(self) -> None:
        if self.n_step < 1:
            raise ValueError(f"n_step must be at least 1, got {self.n_step}")
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f"discount must lie in [0, 1], got {self.discount}")


class Actor(nn.Module):
    """Deterministic policy with actions in -1 ... 1."""

    def __init__(self, observation_dim: int, action_dim: int, config: TD3Config) -> None:
        super().__init__()
        self.net = MLP(observation_dim, action_dim, config.hidden_dim, config.num_layers)

    def forward(self, observation: Tensor) -> Tensor:
        """(B, O) -> (B, A)."""
        return torch.tanh(self.net(observation))


class TwinCritic(nn.Module):
    """Two independent action values."""

    def __init__(self, observation_dim: int, action_dim: int, config: TD3Config) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            MLP(observation_dim + action_dim, 1, config.hidden_dim, config.num_layers) for _ in range(2)
        )

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """(B, O), (B, A) -> (2, B)."""
        inputs = torch.cat([observation, action], dim=-1)
        return torch.stack([net(inputs).squeeze(-1) for net in self.nets])


class TD3:
    """Networks, their slow copies, optimisers, and one update.

    Args:
        observation_dim: O.
        action_dim: A.
        config: Sizes and rates.
        seed: Of the initial weights and of the target noise.
    """

    def __init__(self, observation_dim: int, action_dim: int, config: TD3Config, seed: int = 0) -> None:
        self.config = config
        self.updates = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = Actor(observation_dim, action_dim, config)
            self.critic = TwinCritic(observation_dim, action_dim, config)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.actor_lr, foreach=True)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=config.critic_lr, foreach=True)
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def act(self, observation: Tensor) -> Tensor:
        """(..., O) -> (..., A) the policy's action, without noise."""
        action: Tensor = self.actor(observation)
        return action

    @torch.no_grad()
    def targets(self, batch: Transitions) -> Tensor:
        """(B,) what the critics should say: n-step reward plus the lesser target value at a smoothed target action."""
        action = self.target_actor(batch.next_observation)
        noise = torch.randn(action.shape, generator=self._generator) * self.config.policy_noise
        action = (action + noise.clamp(-self.config.noise_clip, self.config.noise_clip)).clamp(-1, 1)
        value = self.target_critic(batch.next_observation, action).amin(0)
        return batch.reward + batch.discount * value

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        """One critic update, and at every `actor_every`-th call one of the actor."""
        target = self.targets(batch)
        values = self.critic(batch.observation, batch.action)
        critic_loss = F.mse_loss(values, target.expand_as(values), reduction="none").sum(0).mean()
        self.critic_optimizer.zero_grad(set_to_none=True)
        critic_loss.backward()
        self.critic_optimizer.step()
        metrics = {"critic/loss": critic_loss.detach(), "critic/value": values.detach().mean()}

        self.updates += 1
        if self.updates % self.config.actor_every == 0:
            self.critic.requires_grad_(False)
            actor_loss = -self.critic.nets[0](
                torch.cat([batch.observation, self.actor(batch.observation)], dim=-1)
            ).mean()
            self.critic.requires_grad_(True)
            self.actor_optimizer.zero_grad(set_to_none=True)
            actor_loss.backward()
            self.actor_optimizer.step()
            metrics["actor/loss"] = actor_loss.detach()
        self._move_targets()
        return metrics

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that changes in training, by name."""
        tensors = {"generator": self._generator.get_state()}
        for name, module in self._modules().items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self._optimizers().items():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
        return tensors

    def state_meta(self) -> dict[str, Any]:
        """JSON-ready facts beside the tensors."""
        return {"updates": self.updates}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restores what `state_tensors` and `state_meta` gave."""
        self.updates = int(meta["updates"])
        self._generator.set_state(tensors["generator"])
        for name, module in self._modules().items():
            module.load_state_dict({key: tensors[f"{name}/{key}"] for key in module.state_dict()})
        for name, optimizer in self._optimizers().items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"{name}/"):
                    _, index, entry = key.split("/")
                    state.setdefault(int(index), {})[entry] = value.clone()
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})

    @torch.no_grad()
    def _move_targets(self) -> None:
        online: list[Tensor] = [*self.actor.parameters(), *self.critic.parameters()]
        target: list[Tensor] = [*self.target_actor.parameters(), *self.target_critic.parameters()]
        torch._foreach_lerp_(target, online, self.config.target_rate)

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "target_actor": self.target_actor,
            "target_critic": self.target_critic,
        }

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"actor_optimizer": self.actor_optimizer, "critic_optimizer": self.critic_optimizer}
