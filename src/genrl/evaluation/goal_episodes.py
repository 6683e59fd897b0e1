"""Episodes of a general policy in the environment, which follows one goal after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrl.behavior.general import GoalPolicy
from genrl.data.episode import Episode
from genrl.evaluation.environments import Environments

SETTLING_STEPS = 20
"""Env steps towards a goal before what happens counts as reaching it."""


@dataclass(frozen=True)
class GoalConfig:
    """How goals change, and how shaky the policy acts."""

    hold: tuple[int, int] = (30, 120)
    """Shortest and longest time that a goal is kept, in env steps."""
    noise: tuple[float, ...] = (0.0, 0.05, 0.1, 0.3)
    """Standard deviations of the noise on actions, of which every episode draws one."""

    def __post_init__(self) -> None:
        if not 0 < self.hold[0] <= self.hold[1]:
            raise ValueError(f"hold must be two positive numbers, the smaller one first, got {self.hold}")
        if not self.noise or min(self.noise) < 0:
            raise ValueError(f"noise must be one or more numbers, none below 0, got {self.noise}")


@dataclass(frozen=True)
class GoalEpisodes:
    """What happened in N episodes of up to T steps.

    Attributes:
        frames: (N, T+1, h, w, 3) uint8.
        actions: (N, T+1, A) that led to each frame, in -1 ... 1.
        states: (N, T+1, S) float64 of the simulator.
        lengths: (N,) rows of each episode.
        goals: (N, T+1, E) embedding that was followed at each frame.
        logits: (N, T+1, S, K) posterior of each frame.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    states: NDArray[np.float64]
    lengths: NDArray[np.int64]
    goals: Tensor
    logits: Tensor

    def episodes(self) -> list[Episode]:
        """For a store, without rewards."""
        parts = []
        for i, rows in enumerate(self.lengths.tolist()):
            zero = np.zeros(rows, np.float32)
            parts.append(
                Episode(self.frames[i, :rows], self.actions[i, :rows], zero, zero.astype(bool), self.states[i, :rows])
            )
        return parts

    def windows(self, length: int) -> tuple[Tensor, Tensor]:
        """Windows of posteriors that lie within one goal, after some time for the policy to reach it.

        Returns:
            (M, length, S, K) logits, and (M, E) their goals.
        """
        logits, goals = [], []
        for first in range(SETTLING_STEPS, self.goals.shape[1] - length + 1, length):
            rows = slice(first - SETTLING_STEPS, first + length)
            same = (self.goals[:, rows] == self.goals[:, first : first + 1]).all(-1).all(-1)
            same &= torch.from_numpy(self.lengths >= first + length)
            logits.append(self.logits[same, first : first + length])
            goals.append(self.goals[same, first])
        if not logits or not sum(map(len, logits)):
            return self.logits[:0, :length], self.goals[:0, 0]
        return torch.cat(logits), torch.cat(goals)


@torch.no_grad()
def follow_goals(
    policy: GoalPolicy,
    environments: Environments,
    draw_goals: Callable[[int], Tensor],
    count: int,
    steps: int,
    config: GoalConfig,
    random: np.random.Generator,
    progress: Callable[[int], None] | None = None,
) -> GoalEpisodes:
    """Runs N episodes at once, each towards a sequence of goals of its own.

    Args:
        policy: Who acts; its posterior samples come from torch's generator.
        environments: N of them.
        draw_goals: Number of goals -> (number, E) embeddings.
        count: N.
        steps: Env steps T.
        config: How goals change.
        random: Of goal lengths and noise.
        progress: Called with the env steps done.
    """
    policy.reset(count)
    noise = torch.from_numpy(random.choice(config.noise, count)).float()[:, None]
    goals, left = draw_goals(count), random.integers(config.hold[0], config.hold[1] + 1, count)
    rows, actions = environments.reset(), np.zeros((count, policy.action_dim), np.float32)
    history = []
    lengths = np.ones(count, np.int64)
    for step in range(steps + 1):
        wanted, logits = policy.act(rows.frames, goals)
        history.append((rows.frames, actions, rows.states, goals, logits))
        if step == steps or rows.over.all():
            break
        running = ~rows.over
        noisy = (wanted + noise.to(wanted.device) * torch.randn_like(wanted)).clamp(-1, 1)
        policy.action = noisy
        actions = noisy.cpu().numpy()
        rows = environments.step(actions)
        lengths += running
        left -= 1
        new = np.flatnonzero(left <= 0)
        if len(new):
            goals = goals.clone()
            goals[torch.from_numpy(new)] = draw_goals(len(new))
            left[new] = random.integers(config.hold[0], config.hold[1] + 1, len(new))
        if progress is not None:
            progress(count * (step + 1))
    frames, acted, states, followed, seen = zip(*history, strict=True)
    return GoalEpisodes(
        np.stack(frames, 1),
        np.stack(acted, 1),
        np.stack(states, 1),
        lengths,
        torch.stack(followed, 1),
        torch.stack(seen, 1),
    )
