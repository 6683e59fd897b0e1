"""Rewards: how much an imagined state resembles a target state, for all pairs at once.

Every reward is computed as one (B, H, H') matrix over agent steps and target steps by matrix products; alignment then
picks the entries it compares. All are functions of the latent sample or its distribution, never of the recurrent state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from genrl.models.decoder import Decoder
from genrl.models.state import LatentState
from genrl.nn.distributions import mixed_probs

RewardName = Literal["max_cosine", "cosine", "neg_mse", "exp_neg_mse", "neg_kl", "max_like", "combo"]

NORM_EPS = 1e-12
"""Keeps the gradient of a norm finite at zero."""


def pairwise_reward(name: RewardName, decoder: Decoder, agent: LatentState, target: LatentState) -> Tensor:
    """Reward of every agent step against every target step.

    Args:
        name: Which reward; `max_cosine` is the released code's, `cosine` the paper's text.
        decoder: Its first linear layer gives the features g(s) of the paper's reward.
        agent: (B, H, ...) imagined states; gradients flow through them.
        target: (B, H', ...) target states, or (1, H', ...) for one target for all; constant.

    Returns:
        (B, H, H') rewards.
    """
    # Rewards differ little from step to step: what bfloat16 keeps of them is too coarse to learn from.
    with torch.autocast(agent.stoch.device.type, enabled=False):
        return REWARDS[name](decoder, agent, target.detach())


def cosine(decoder: Decoder, agent: LatentState, target: LatentState) -> Tensor:
    """`x.y / (|x| |y|)` of the features."""
    dot, agent_norm, target_norm = _products(decoder, agent, target)
    return dot / (agent_norm * target_norm)


def max_cosine(decoder: Decoder, agent: LatentState, target: LatentState) -> Tensor:
    """`x.y / max(|x|, |y|)^2`: a cosine that also penalises a difference in length."""
    dot, agent_norm, target_norm = _products(decoder, agent, target)
    return dot / torch.maximum(agent_norm, target_norm).square()


def neg_mse(decoder: Decoder, agent: LatentState, target: LatentState) -> Tensor:
    """Minus the root mean square distance of the features (the original's name says less)."""
    x, y = _features(decoder, agent, target)
    # Distances, not `|x|^2 + |y|^2 - 2 x.y`, which loses the small ones to rounding.
    return -torch.cdist(x, y.expand(x.shape[0], -1, -1), compute_mode="donot_use_mm_for_euclid_dist") / math.sqrt(
        x.shape[-1]
    )


def exp_neg_mse(decoder: Decoder, agent: LatentState, target: LatentState) -> Tensor:
    """Exponential of `neg_mse`."""
    return neg_mse(decoder, agent, target).exp()


def neg_kl(decoder: Decoder, agent: LatentState, target: LatentState) -> Tensor:
    """`-KL(agent || target) / (S log K)` of the states' distributions."""
    num_variables, num_classes = agent.logits.shape[-2:]
    p, q = mixed_probs(agent.logits).flatten(-2), mixed_probs(target.logits).flatten(-2)
    negative_entropy = (p * p.log()).sum(-1, keepdim=True)
    return (p @ q.log().mT - negative_entropy) / (num_variables * math.log(num_classes))


def max_like(decoder: Decoder, agent: LatentState, target: LatentState) -> Tensor:
    """Log-likelihood of the target's sample under the agent's distribution, summed over variables."""
    return mixed_probs(agent.logits).flatten(-2).log() @ target.stoch.flatten(-2).mT


def combo(decoder: Decoder, agent: LatentState, target: LatentState) -> Tensor:
    """`cosine + neg_kl`."""
    return cosine(decoder, agent, target) + neg_kl(decoder, agent, target)


REWARDS: dict[str, Callable[[Decoder, LatentState, LatentState], Tensor]] = {
    "max_cosine": max_cosine,
    "cosine": cosine,
    "neg_mse": neg_mse,
    "exp_neg_mse": exp_neg_mse,
    "neg_kl": neg_kl,
    "max_like": max_like,
    "combo": combo,
}


def _features(decoder: Decoder, agent: LatentState, target: LatentState) -> tuple[Tensor, Tensor]:
    """(B, H, C) and (B or 1, H', C) decoder features, in float32."""
    return decoder.state_features(agent.stoch).float(), decoder.state_features(target.stoch).float()


def _products(decoder: Decoder, agent: LatentState, target: LatentState) -> tuple[Tensor, Tensor, Tensor]:
    """Dot products (B, H, H') and norms (B, H, 1), (B or 1, 1, H')."""
    weight, bias = decoder.input.weight, decoder.input.bias
    # x = W s + b is never formed: products with y read s through W^T y, the norm through W^T W. The features are
    # several times wider than the sample, so that this halves the arithmetic and most of the memory traffic.
    sample = agent.stoch.flatten(-2)
    y = decoder.state_features(target.stoch)
    dot = sample @ (y @ weight).mT + (y @ bias)[..., None, :]
    with torch.no_grad():
        product = sample @ (weight.T @ weight)
    form = (product * sample).sum(-1)
    # The gradient of s^T G s is 2 G s, which is there already: autograd would multiply by G again.
    square = 2 * form - form.detach() + 2 * (sample @ (bias @ weight)) + bias @ bias
    x_norm = square.clamp(min=NORM_EPS).sqrt().unsqueeze(-1)
    y_norm = torch.linalg.vector_norm(y, dim=-1).unsqueeze(-2)
    return dot, x_norm, y_norm
