"""Temporal alignment: which target step each imagined step is compared with.

Both kinds find the step `t_a` at which an imagined trajectory first resembles the opening of its target; before it the
agent is compared with the first target state, k steps after it with target state k. Paper: GenRL, section 4.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

AlignmentName = Literal["best_window", "best_initial", "none"]


def window_scores(rewards: Tensor, window: int) -> Tensor:
    """Mean reward of the target's opening laid at each offset.

    Args:
        rewards: (B, H, H') pairwise rewards of agent and target steps.
        window: Number of steps b compared, at least 1 and at most min(H, H').

    Returns:
        (B, H - window + 1) `score_i = mean_k rewards[i + k, k]`.

    Raises:
        ValueError: If the window does not fit into the trajectories.
    """
    horizon, target_steps = rewards.shape[-2:]
    if not 0 < window <= min(horizon, target_steps):
        raise ValueError(f"alignment window must lie in [1, {min(horizon, target_steps)}], got {window}")
    openings = rewards[..., :window].unfold(
        1, window, 1
    )  # (B, H - window + 1, window target steps, window agent steps)
    return openings.diagonal(dim1=-2, dim2=-1).mean(-1)


def best_offset(rewards: Tensor, alignment: AlignmentName, window: int, drop_last_window: bool = False) -> Tensor:
    """Step t_a at which each imagined trajectory first resembles the opening of its target.

    Args:
        rewards: (B, H, H') pairwise rewards.
        alignment: `best_window` compares `window` steps, `best_initial` the first target step alone, `none` gives 0.
        window: Steps b of `best_window`.
        drop_last_window: Leave out the last full window, as the original does.

    Returns:
        (B,) integer offsets; ties go to the earliest step.
    """
    if alignment == "none":
        return torch.zeros(rewards.shape[0], dtype=torch.long, device=rewards.device)
    if alignment == "best_initial":
        return rewards[:, :, 0].argmax(1)
    scores = window_scores(rewards, window)
    return (scores[:, :-1] if drop_last_window else scores).argmax(1)


def aligned_reward(rewards: Tensor, offset: Tensor) -> Tensor:
    """Reward of agent step t against target step max(0, t - t_a).

    Args:
        rewards: (B, H, H') pairwise rewards with H' at least H.
        offset: (B,) steps t_a.

    Returns:
        (B, H) rewards, with gradients.
    """
    steps = torch.arange(rewards.shape[1], device=rewards.device)
    target_step = (steps - offset[:, None]).clamp(min=0)
    return rewards.gather(2, target_step[..., None]).squeeze(-1)
