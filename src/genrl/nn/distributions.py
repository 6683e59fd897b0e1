"""Categorical latents with straight-through gradients, and two-hot scalars."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genrl.nn.noise import uniform

UNIFORM_MIX = 0.01
"""Share of the uniform distribution mixed into every categorical (DreamerV3), so that no KL is infinite."""


def mixed_probs(logits: Tensor) -> Tensor:
    """(..., K) logits -> (..., K) probabilities `0.99 softmax + 0.01 / K`, in float32."""
    probs = logits.float().softmax(-1)
    return (1 - UNIFORM_MIX) * probs + UNIFORM_MIX / logits.shape[-1]


def straight_through(logits: Tensor, mode: bool = False, generator: torch.Generator | None = None) -> Tensor:
    """One-hot draw whose gradient is that of the mixed probabilities.

    Args:
        logits: (..., K) raw network outputs.
        mode: Take the class of highest logit instead of sampling.
        generator: Source of the draw; torch's global one if None.

    Returns:
        (..., K) one-hot, equal to `onehot + p - stop(p)`.
    """
    probs = mixed_probs(logits)
    if mode:
        index = logits.argmax(-1)
    else:
        # Inverse of the cumulative distribution: one random number a variable, not one a class.
        chance = uniform([*probs.shape[:-1], 1], probs.device, generator)
        index = (probs.cumsum(-1) < chance).sum(-1).clamp(max=probs.shape[-1] - 1)
    one_hot = F.one_hot(index, logits.shape[-1]).to(probs.dtype)
    if not probs.requires_grad:
        return one_hot
    return one_hot + (probs - probs.detach())


def tempered_draw(logits: Tensor, temperature: Tensor, generator: torch.Generator) -> Tensor:
    """One-hot draw with probabilities in proportion to `softmax(logits)^(1/temperature)`; the mode at 0.

    Args:
        logits: (..., K) raw network outputs.
        temperature: Broadcasts against the logits; 0 or more.
        generator: Source of the draw.

    Returns:
        (..., K) one-hot, without gradient.
    """
    chance = torch.rand(logits.shape, device=logits.device, generator=generator).clamp(min=1e-20)
    gumbel = -(-chance.log()).log()
    return F.one_hot((logits.float() + temperature * gumbel).argmax(-1), logits.shape[-1]).float()


def kl_divergence(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p || q) of S independent categoricals, (..., S, K) each -> (...,) summed over S."""
    p, q = mixed_probs(p_logits), mixed_probs(q_logits)
    return (p * (p.log() - q.log())).sum((-2, -1))


def entropy(logits: Tensor) -> Tensor:
    """(..., S, K) logits -> (...,) entropy summed over S."""
    p = mixed_probs(logits)
    return -(p * p.log()).sum((-2, -1))


def symlog(x: Tensor) -> Tensor:
    """Signed logarithm `sign(x) log(1 + |x|)`."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """Inverse of `symlog`."""
    return x.sign() * x.abs().expm1()


class TwoHot:
    """Scalar as a categorical over equal steps of its symlog (DreamerV3, first version).

    Args:
        num_buckets: Number of buckets from `-limit` to `limit` in symlog space.
        limit: Largest symlog value represented.
    """

    def __init__(self, num_buckets: int = 255, limit: float = 20.0) -> None:
        self.num_buckets = num_buckets
        self.limit = limit

    def buckets(self, like: Tensor) -> Tensor:
        """(num_buckets,) bucket centres on the device of `like`."""
        return torch.linspace(-self.limit, self.limit, self.num_buckets, device=like.device)

    def mean(self, logits: Tensor) -> Tensor:
        """(..., num_buckets) logits -> (...,) symexp of the mean bucket."""
        with torch.autocast(logits.device.type, enabled=False):  # which would round both to bfloat16, and the mean
            return symexp(logits.float().softmax(-1) @ self.buckets(logits))

    def log_prob(self, logits: Tensor, x: Tensor) -> Tensor:
        """(..., num_buckets) logits, (...,) values -> (...,) negative cross-entropy with the two-hot target."""
        position = (symlog(x).clamp(-self.limit, self.limit) + self.limit) * (self.num_buckets - 1) / (2 * self.limit)
        below = position.floor().clamp(0, self.num_buckets - 2)
        upper_weight = position - below
        # NaN becomes bucket 0 with weight NaN: the result is NaN, for the caller to refuse, not an index out of range.
        index = below.nan_to_num().long().unsqueeze(-1)
        log_probs = logits.float().log_softmax(-1)
        lower = log_probs.gather(-1, index).squeeze(-1)
        upper = log_probs.gather(-1, index + 1).squeeze(-1)
        return (1 - upper_weight) * lower + upper_weight * upper
