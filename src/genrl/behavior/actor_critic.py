"""Actor, two-hot critic and their losses (DreamerV3, first version)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from genrl.infra.optim import OptimizerConfig
from genrl.nn.distributions import TwoHot, kl_divergence, mixed_probs, straight_through
from genrl.nn.layers import MLP
from genrl.nn.returns import ReturnNormalizer


@dataclass(frozen=True)
class ActorCriticConfig:
    """Networks, returns and optimisers of behaviour learning."""

    num_layers: int = 4
    hidden_dim: int = 1024
    horizon: int = 16
    """Imagined steps H."""
    discount: float = 0.99
    lambda_: float = 0.95
    """Mixing factor of the returns."""
    entropy_scale: float = 0.0
    gradient: Literal["dynamics", "reinforce"] = "dynamics"
    """Through the world model (continuous actions), or by the score function (REINFORCE)."""
    std_bias: float = 2.0
    """Added before the sigmoid of the actions' standard deviation: with 2 they begin at 0.89, with -1 at 0.34."""
    clip_actions: bool = False
    """Keep imagined actions in -1 ... 1, where the data's lie; the gradient passes as if they were not clipped."""
    target_update_every: int = 100
    """Updates between full copies of critic to target critic; the first follows update 1."""
    return_rate: float = 0.01
    """Rate at which return quantiles follow the present batch."""
    actor: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(3e-5, 1e-5, 100.0, 1e-6))
    critic: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(3e-5, 1e-5, 100.0, 1e-6))

    def __post_init__(self) -> None:
        if min(self.num_layers, self.hidden_dim, self.target_update_every) < 1:
            raise ValueError(
                "num-layers, hidden-dim and target-update-every must be at least 1, got "
                f"{self.num_layers}, {self.hidden_dim} and {self.target_update_every}"
            )
        if self.horizon < 2:
            raise ValueError(f"horizon must be at least 2, got {self.horizon}")
        if not 0.0 < self.discount <= 1.0:
            raise ValueError(f"discount must lie in (0, 1], got {self.discount}")
        if self.clip_actions and self.gradient == "reinforce":
            raise ValueError("clip-actions needs gradient dynamics: a clipped action has no density")


class Actor(nn.Module):
    """Policy over features: a normal whose mean passes tanh, or a categorical for one-hot actions.

    Args:
        std_bias: Of `ActorCriticConfig`.
        clip: Its `clip_actions`.
    """

    MIN_STD, MAX_STD = 0.1, 1.0

    def __init__(
        self,
        feature_dim: int,
        action_dim: int,
        discrete: bool,
        num_layers: int,
        hidden_dim: int,
        std_bias: float = 2.0,
        clip: bool = False,
    ) -> None:
        super().__init__()
        self.discrete = discrete
        self.std_bias = std_bias
        self.clip = clip
        self.action_dim = action_dim
        self.network = MLP(feature_dim, action_dim if discrete else 2 * action_dim, hidden_dim, num_layers)

    def normal(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(..., F) -> mean in -1 ... 1 and standard deviation in 0.1 ... 1, (..., A) each."""
        mean, std = self.network(features).float().chunk(2, dim=-1)
        return torch.tanh(mean), (self.MAX_STD - self.MIN_STD) * torch.sigmoid(std + self.std_bias) + self.MIN_STD

    def sample(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        """(..., F) -> (..., A) reparameterised action; `noise` is standard normal, drawn if None."""
        if self.discrete:
            return straight_through(self.network(features))
        mean, std = self.normal(features)
        action = mean + std * (torch.randn_like(mean) if noise is None else noise)
        return action + (action.clamp(-1, 1) - action).detach() if self.clip else action

    def best(self, features: Tensor) -> Tensor:
        """(..., F) -> (..., A) the action to act with: the mean, or the likeliest class."""
        return straight_through(self.network(features), mode=True) if self.discrete else self.normal(features)[0]

    def distance(self, other: Actor, features: Tensor) -> Tensor:
        """(..., F) -> (...,) mean squared difference of the mean actions; of one-hot actions the KL to the other's."""
        if self.discrete:
            return kl_divergence(self.network(features).unsqueeze(-2), other.network(features).unsqueeze(-2))
        return (self.normal(features)[0] - other.normal(features)[0]).square().mean(-1)

    def log_prob(self, features: Tensor, action: Tensor) -> Tensor:
        """(...,) log-density (or log-probability) of (..., A) actions."""
        if self.discrete:
            return (mixed_probs(self.network(features)).log() * action).sum(-1)
        mean, std = self.normal(features)
        return (-0.5 * ((action - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self, features: Tensor) -> Tensor:
        """(...,) entropy, summed over action entries."""
        if self.discrete:
            probs = mixed_probs(self.network(features))
            return -(probs * probs.log()).sum(-1)
        return (0.5 * math.log(2 * math.pi * math.e) + self.normal(features)[1].log()).sum(-1)


class ActorCritic(nn.Module):
    """Actor, critic, slow target critic and the scale of returns."""

    def __init__(self, config: ActorCriticConfig, feature_dim: int, action_dim: int, discrete: bool = False) -> None:
        super().__init__()
        if discrete and config.gradient == "dynamics":
            raise ValueError("discrete actions need actor-critic.gradient reinforce, got dynamics")
        self.config = config
        self.two_hot = TwoHot()
        self.actor = Actor(
            feature_dim,
            action_dim,
            discrete,
            config.num_layers,
            config.hidden_dim,
            config.std_bias,
            config.clip_actions,
        )
        self.critic = MLP(feature_dim, self.two_hot.num_buckets, config.hidden_dim, config.num_layers)
        # A fresh critic predicts 0 everywhere: random values would be chased before any reward is seen.
        nn.init.zeros_(self.critic.output.weight)
        nn.init.zeros_(self.critic.output.bias)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.normalizer = ReturnNormalizer(config.return_rate)

    def target_value(self, features: Tensor) -> Tensor:
        """(..., F) -> (...,) value by the slow critic; gradients flow to the features."""
        return self.two_hot.mean(self.target_critic(features))

    def update_target(self) -> None:
        """Copies the critic into the target critic."""
        self.target_critic.load_state_dict(self.critic.state_dict())

    def actor_loss(
        self, features: Tensor, actions: Tensor, returns: Tensor, values: Tensor, offset: Tensor, scale: Tensor
    ) -> Tensor:
        """Loss of the actor at each step.

        Args:
            features: (B, H-1, F) detached features of states 0 ... H-2.
            actions: (B, H-1, A) the actions taken in them.
            returns: (B, H-1) lambda returns of the states they led to, 1 ... H-1.
            values: (B, H-1) target values of states 0 ... H-2, the baseline of REINFORCE.
            offset: () low quantile of returns.
            scale: () spread of returns, at least 1.

        Returns:
            (B, H-1) minus normalised return, minus scaled entropy.
        """
        if self.config.gradient == "dynamics":
            objective = (returns - offset) / scale
        else:
            # values stand at the state acted in; the return that follows an action is one step later.
            advantage = ((returns - values) / scale).detach()
            objective = self.actor.log_prob(features, actions.detach()) * advantage
        if self.config.entropy_scale:
            objective = objective + self.config.entropy_scale * self.actor.entropy(features)
        return -objective

    def critic_loss(self, features: Tensor, returns: Tensor) -> Tensor:
        """(B, H, F) detached features, (B, H) returns -> (B, H) two-hot cross-entropy."""
        return -self.two_hot.log_prob(self.critic(features), returns.detach())
