"""Several policies over one frozen model as one batched program: their parameters lie along a leading axis.

Rows of a batch are grouped by policy: (N * B, ...) holds B rows of the first of N policies, then B of the second. The
model, which is the same for all, sees one large batch; actor and critic become batched matrix products.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrl.behavior.actor_critic import Actor, ActorCritic
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.rewards import pairwise_reward
from genrl.behavior.shown import ShownReward
from genrl.infra.optim import Optimizer
from genrl.models.foundation import FoundationModel
from genrl.models.state import LatentState, grouped
from genrl.nn.layers import MLP
from genrl.nn.returns import ReturnNormalizer

SEPARATOR = "/"
"""Stands for the dot of a parameter's name, which a module does not allow in its own."""


class StackedMLP(nn.Module):
    """N networks of the same sizes, each over its own rows.

    Args:
        networks: Whose parameters are copied.
    """

    def __init__(self, networks: Sequence[MLP]) -> None:
        super().__init__()
        self.num_policies, self._example = len(networks), (copy.deepcopy(networks[0]),)  # a tuple: no submodule
        for name in networks[0].state_dict():
            stacked = torch.stack([network.state_dict()[name] for network in networks])
            self.register_parameter(name.replace(".", SEPARATOR), nn.Parameter(stacked.clone()))

    def forward(self, x: Tensor) -> Tensor:
        """(N * B, ..., input_dim) -> (N * B, ..., output_dim)."""
        rows = grouped(x, self.num_policies).flatten(1, -2)  # (N, R, input_dim)
        for index, layer in enumerate(self._example[0].hidden):
            if isinstance(layer, nn.Linear):
                rows = self._linear(f"hidden.{index}", rows)
            elif isinstance(layer, nn.LayerNorm):
                weight, bias = self._parameters_of(f"hidden.{index}")
                rows = F.layer_norm(rows, layer.normalized_shape, eps=layer.eps)
                rows = rows * weight.unsqueeze(1) + bias.unsqueeze(1)
            else:
                rows = layer(rows)
        return self._linear("output", rows).reshape(*x.shape[:-1], -1)

    def single(self, index: int) -> MLP:
        """A network of its own with the parameters of one."""
        network = copy.deepcopy(self._example[0]).to(next(self.parameters()).device)
        tensors = {name.replace(SEPARATOR, "."): value[index] for name, value in self.state_dict().items()}
        network.load_state_dict(tensors)
        return network

    def _linear(self, layer: str, rows: Tensor) -> Tensor:
        weight, bias = self._parameters_of(layer)
        return torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)

    def _parameters_of(self, layer: str) -> tuple[Tensor, Tensor]:
        """(N, ...) weight and bias."""
        weight, bias = (getattr(self, f"{layer}.{name}".replace(".", SEPARATOR)) for name in ("weight", "bias"))
        return weight, bias


class StackedNormalizer(nn.Module):
    """The return normalisers of N policies.

    Attributes:
        quantiles: (N, 2) running low and high quantiles.
    """

    quantiles: Tensor
    levels: Tensor

    def __init__(self, normalizers: Sequence[ReturnNormalizer]) -> None:
        super().__init__()
        self.rate, self.num_policies = normalizers[0].rate, len(normalizers)
        self.register_buffer("quantiles", torch.stack([normalizer.quantiles for normalizer in normalizers]))
        self.register_buffer("levels", normalizers[0].levels.clone(), persistent=False)

    @torch.no_grad()
    def update(self, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Mixes in the quantiles of (N * B, H) returns; (N * B, 1) offset and scale, one a policy."""
        rows = grouped(returns.detach().float(), self.num_policies).flatten(1)
        self.quantiles.lerp_(torch.quantile(rows, self.levels, dim=1).mT, self.rate)
        low, high = (x.repeat_interleave(len(returns) // self.num_policies).unsqueeze(1) for x in self.quantiles.T)
        return low, (high - low).clamp(min=1.0)


def stack_networks(networks: Sequence[ActorCritic]) -> ActorCritic:
    """N actor-critics of the same sizes as one over grouped rows."""
    stacked = copy.deepcopy(networks[0])
    stacked.actor.network = StackedMLP([own.actor.network for own in networks])  # type: ignore[assignment]
    stacked.critic = StackedMLP([own.critic for own in networks])  # type: ignore[assignment]
    slow = StackedMLP([own.target_critic for own in networks]).requires_grad_(False)
    stacked.target_critic = slow  # type: ignore[assignment]
    stacked.normalizer = StackedNormalizer([own.normalizer for own in networks])  # type: ignore[assignment]
    return stacked


class StackedOptimizer(Optimizer):
    """As `Optimizer` for parameters (N, ...) of N policies, each of which has its own gradient norm."""

    def clip(self, gradients: list[Tensor]) -> Tensor:
        """(N,) norms before clipping."""
        norm = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0).sqrt()
        factor = (self.config.clip / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))
        return norm


class StackedLearner(BehaviorLearner):
    """Behaviour learning of N prompts at once; each learns exactly what it would learn alone from the same rows.

    Args:
        model: Frozen model.
        targets: (N, T, ...) target trajectories, T at least horizon + 1.
        config: As for a single prompt.
        networks: Actor-critics to start from, one for each target.
        shown: As for a single prompt, with N goals; its reversed connector learns from the imagination of all.
    """

    optimizer = StackedOptimizer

    def __init__(
        self,
        model: FoundationModel,
        targets: LatentState,
        config: BehaviorConfig,
        networks: Sequence[ActorCritic],
        shown: ShownReward | None = None,
    ) -> None:
        self.num_policies = len(networks)
        super().__init__(model, targets, config, stack_networks(networks), shown)

    def mean(self, x: Tensor) -> Tensor:
        """(N * B, ...) -> (N,)."""
        return grouped(x, self.num_policies).flatten(1).mean(1)

    def pairs(self, states: LatentState) -> Tensor:
        """(N * B, H+1, H+1) rewards, every row against its own policy's target."""
        # Pairs of steps know nothing of trajectories: all steps of a policy against its target are one matrix.
        steps = states.map(lambda x: grouped(x, self.num_policies).flatten(1, 2))
        pairs = pairwise_reward(self.config.reward, self.model.world_model.decoder, steps, self.target)
        return pairs.view(*states.deter.shape[:2], -1)

    def single_actor(self, index: int) -> Actor:
        """The actor of one policy, who is to act in the end."""
        actor = copy.deepcopy(self.actor)
        assert isinstance(self.actor.network, StackedMLP)
        actor.network = self.actor.network.single(index)
        return actor
