"""Replay of state episodes for off-policy learners: plain arrays, n-step transitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Transitions:
    """A batch of n-step transitions.

    Attributes:
        observation: (B, O) float32 before the action.
        action: (B, A) float32.
        reward: (B,) float32, sum of the next n rewards, each discounted once per step.
        discount: (B,) float32, what the value of `next_observation` is multiplied with; 0 after a terminal one.
        next_observation: (B, O) float32, n steps later, or the last of the episode.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_observation: Tensor


class Replay:
    """Episodes of observations, side by side, with room that grows.

    As in an episode store, row t is (action that led here, reward of that action, observation), and the first row of an
    episode has a zero action. The end of an episode is a time limit unless its last row is terminal.
    """

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        self.num_rows = 0
        self._observation = np.zeros((0, observation_dim), np.float32)
        self._action = np.zeros((0, action_dim), np.float32)
        self._reward = np.zeros(0, np.float32)
        self._terminal = np.zeros(0, bool)
        self._last_row = np.zeros(0, np.int64)  # of the episode that each row belongs to
        self._starts = np.zeros(0, np.int64)  # rows that have a successor

    @property
    def observations(self) -> np.ndarray:
        """(N, O) all rows; do not write to it."""
        return self._observation[: self.num_rows]

    @property
    def num_transitions(self) -> int:
        """Steps stored."""
        return len(self._starts)

    def add_episode(
        self, observation: np.ndarray, action: np.ndarray, reward: np.ndarray, terminal: bool = False
    ) -> None:
        """Adds an episode of N rows: (N, O) observations, (N, A) actions, (N,) rewards."""
        start, stop = self.num_rows, self.num_rows + len(observation)
        if stop > len(self._reward):
            self._grow(max(stop, 2 * len(self._reward)))
        self._observation[start:stop] = observation
        self._action[start:stop] = action
        self._reward[start:stop] = reward
        self._terminal[stop - 1] = terminal
        self._last_row[start:stop] = stop - 1
        self._starts = np.concatenate([self._starts, np.arange(start, stop - 1)])
        self.num_rows = stop

    def relabel(self, reward: np.ndarray) -> None:
        """Replaces the reward of every row, (N,)."""
        self._reward[: self.num_rows] = reward

    def sample(self, random: np.random.Generator, batch_size: int, n_step: int, discount: float) -> Transitions:
        """Draws transitions uniformly; near the end of an episode they span fewer than `n_step` steps."""
        assert self.num_transitions > 0, "the replay is empty"
        return self.transitions(self._starts[random.integers(self.num_transitions, size=batch_size)], n_step, discount)

    def transitions(self, rows: np.ndarray, n_step: int, discount: float) -> Transitions:
        """The n-step transitions that begin at the given rows, (B,)."""
        last = self._last_row[rows]
        target = np.minimum(rows + n_step, last)
        reward = np.zeros(len(rows), np.float32)
        for step in range(1, n_step + 1):
            reward += (
                np.where(rows + step <= last, discount ** (step - 1), 0.0) * self._reward[np.minimum(rows + step, last)]
            )
        factor = np.where(self._terminal[target], 0.0, discount ** (target - rows))
        return Transitions(
            observation=torch.from_numpy(self._observation[rows]),
            action=torch.from_numpy(self._action[rows + 1]),
            reward=torch.from_numpy(reward),
            discount=torch.from_numpy(factor.astype(np.float32)),
            next_observation=torch.from_numpy(self._observation[target]),
        )

    def _grow(self, capacity: int) -> None:
        for name in ("_observation", "_action", "_reward", "_terminal", "_last_row"):
            old = getattr(self, name)
            new = np.zeros((capacity, *old.shape[1:]), old.dtype)
            new[: self.num_rows] = old[: self.num_rows]
            setattr(self, name, new)
