"""Agents that do not learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from genrl.agents.trajectory import Trajectory

LONGEST_HOLD = 40
"""Steps that `HeldActions` keeps an action for, at most."""


class UniformActions:
    """Independent actions, uniform in -1 ... 1."""

    def __init__(self, action_dim: int, random: np.random.Generator) -> None:
        self._action_dim, self._random = action_dim, random

    def __call__(self) -> np.ndarray:
        """(A,) the next action."""
        return self._random.uniform(-1, 1, self._action_dim).astype(np.float32)


class UniformChoices:
    """Independent one-hot actions, all choices equally likely."""

    def __init__(self, action_dim: int, random: np.random.Generator) -> None:
        self._action_dim, self._random = action_dim, random

    def __call__(self) -> np.ndarray:
        """(A,) the next action."""
        return np.eye(self._action_dim, dtype=np.float32)[self._random.integers(self._action_dim)]


class HeldActions:
    """Random actions that are kept for a while, weaker in some episodes than in others.

    Where uniform noise makes a body tremble, these make it lie, slump, kick and roll.
    """

    def __init__(self, action_dim: int, random: np.random.Generator) -> None:
        self._action_dim, self._random = action_dim, random
        self._strength = random.uniform(0, 1)
        self._action = np.zeros(action_dim, np.float32)
        self._left = 0

    def __call__(self) -> np.ndarray:
        """(A,) the next action."""
        if self._left == 0:
            self._left = int(self._random.integers(1, LONGEST_HOLD + 1))
            self._action = (self._strength * self._random.uniform(-1, 1, self._action_dim)).astype(np.float32)
        self._left -= 1
        return self._action


RandomActions = UniformActions | UniformChoices | HeldActions


class RandomAgent:
    """Random actions, fresh at every step or held for a while; one-hot ones if discrete.

    Args:
        action_dim: A.
        seed: Of the actions.
        kind: Class of the actions of an episode.
    """

    def __init__(self, action_dim: int, seed: int, kind: type[RandomActions] = UniformActions) -> None:
        self._action_dim, self._seed, self._kind = action_dim, seed, kind
        self.begin_episode(0)

    def remember(self, trajectory: Trajectory) -> None:
        """Nothing to learn from it."""

    def prepare(self) -> None:
        """Nothing to prepare."""

    def begin_episode(self, index: int) -> None:
        """Draws from (seed, index)."""
        self._actions = self._kind(self._action_dim, np.random.default_rng((self._seed, index)))

    def act(self, observation: np.ndarray) -> np.ndarray:
        """(A,) random."""
        return self._actions()

    def learn(self, num_steps: int) -> dict[str, float]:
        """Nothing to learn."""
        return {}

    def state_tensors(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def state_meta(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Nothing to restore."""
