"""Returns of imagined trajectories and their scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lambda_returns(reward: Tensor, next_value: Tensor, discount: Tensor | float, lambda_: float) -> Tensor:
    """`G_t = r_t + discount ((1 - lambda) v_{t+1} + lambda G_{t+1})`, with `G_H = v_H`.

    The reward is that of state t, not of t+1 (as the original has it).

    Args:
        reward: (B, H) rewards of states 0 ... H-1.
        next_value: (B, H) values of states 1 ... H.
        discount: Scalar or (B, H).
        lambda_: Mixing factor in [0, 1].

    Returns:
        (B, H) returns.
    """
    discounts = discount if isinstance(discount, Tensor) else torch.full_like(reward, discount)
    discounts = discounts.expand_as(reward)
    one_step = reward + discounts * (1 - lambda_) * next_value
    returns = []
    following = next_value[:, -1]
    for t in reversed(range(reward.shape[1])):
        following = one_step[:, t] + discounts[:, t] * lambda_ * following
        returns.append(following)
    return torch.stack(returns[::-1], dim=1)


class ReturnNormalizer(nn.Module):
    """Running 5 % and 95 % quantiles of returns (DreamerV3); small returns are never blown up.

    Attributes:
        quantiles: (2,) running low and high quantile.
    """

    quantiles: Tensor
    levels: Tensor

    def __init__(self, rate: float = 0.01) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("quantiles", torch.zeros(2))
        # On the device: a captured update copies nothing from the host.
        self.register_buffer("levels", torch.tensor([0.05, 0.95]), persistent=False)

    @torch.no_grad()
    def update(self, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Mixes in the quantiles of `returns` (any shape); returns (offset, scale) of the updated values."""
        new = torch.quantile(returns.detach().float().flatten(), self.levels)
        self.quantiles.lerp_(new, self.rate)
        low, high = self.quantiles.unbind()
        return low.clone(), (high - low).clamp(min=1.0)
