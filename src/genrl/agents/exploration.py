"""Exploration from the simulator's state: seek states that are far from those seen, without any task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrl.agents.expert import Expert, ExpertConfig
from genrl.agents.random import HeldActions, UniformActions
from genrl.agents.trajectory import Trajectory

_CHUNK = 4096


@dataclass(frozen=True)
class ExplorationConfig:
    """How novelty is measured, and how often actions are random."""

    expert: ExpertConfig = field(
        default_factory=lambda: ExpertConfig(updates_per_step=0.5, prepare_updates=0, noise=(0.1, 0.3, 0.5))
    )
    neighbours: int = 12
    """A state's novelty is its mean distance to that many nearest ones of the sample."""
    sample_size: int = 1024
    """States that novelty is measured against, drawn anew after every episode."""
    bound: float = 2.0
    """Observations are standardised and cut off here, in standard deviations, so that wild speed is no end."""
    random_every: int = 4
    """Every so many episodes actions are random, in turn uniform and held."""


def novelty(states: Tensor, sample: Tensor, neighbours: int) -> Tensor:
    """Particle estimate of how rare states are: `log(1 + mean distance to the nearest neighbours)`.

    Args:
        states: (N, O) standardised observations.
        sample: (M, O) observations that are compared with, M greater than `neighbours`.
        neighbours: Number of nearest ones, k.

    Returns:
        (N,) at least 0. The expected sum over states estimates, up to constants, the entropy of their distribution.

    Source: Liu & Abbeel 2021 (APT, arXiv 2103.04551).
    """
    parts = []
    for chunk in states.split(_CHUNK):
        nearest = torch.cdist(chunk, sample).topk(neighbours, dim=1, largest=False).values
        parts.append(torch.log1p(nearest.mean(1)))
    return torch.cat(parts)


class Exploration:
    """TD3 that is rewarded with the novelty of the states it reaches; rewards are measured anew after every episode.

    Args:
        observation_dim: O.
        action_dim: A.
        config: How novelty is measured.
        seed: Of everything random.
    """

    def __init__(self, observation_dim: int, action_dim: int, config: ExplorationConfig, seed: int) -> None:
        self.config = config
        self._learner = Expert(observation_dim, action_dim, 0, config.expert, seed)
        self._action_dim, self._seed = action_dim, seed
        self.begin_episode(0)

    def remember(self, trajectory: Trajectory) -> None:
        """Adds an episode to the replay; its rewards do not matter."""
        self._learner.remember(trajectory)

    def prepare(self) -> None:
        """Fits pooled episodes, once: from those of experts it learns to explore upright, not on the floor alone."""
        if self._learner.replay.num_transitions:
            self._measure()
        self._learner.prepare()

    def begin_episode(self, index: int) -> None:
        """Decides between random actions and the policy."""
        self._learner.begin_episode(index)
        random = np.random.default_rng((self._seed, index, 1))
        kinds = (UniformActions, HeldActions)
        turn, rest = divmod(index, self.config.random_every)
        self._actions = kinds[turn % 2](self._action_dim, random) if rest == 0 else None

    def act(self, observation: np.ndarray) -> np.ndarray:
        """(A,) random, or the policy's with noise."""
        return self._actions() if self._actions is not None else self._learner.act(observation)

    def learn(self, num_steps: int) -> dict[str, float]:
        """Measures the novelty of all states again, then updates the policy."""
        reward = self._measure()
        return {"novelty/mean": float(reward.mean()), **self._learner.learn(num_steps)}

    def state_tensors(self) -> dict[str, Tensor]:
        """The learner's."""
        return self._learner.state_tensors()

    def state_meta(self) -> dict[str, Any]:
        """The learner's."""
        return self._learner.state_meta()

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restores the learner."""
        self._learner.load_state(tensors, meta)

    def _measure(self) -> Tensor:
        """(N,) novelty of all states, which becomes their reward."""
        replay = self._learner.replay
        states = torch.from_numpy(replay.observations)
        states = (states - states.mean(0)) / (states.std(0) + 1e-6)
        states = states.clamp(-self.config.bound, self.config.bound)
        random = np.random.default_rng((self._seed, len(states), 2))
        sample = states[random.choice(len(states), min(self.config.sample_size, len(states)), replace=False)]
        reward = novelty(states, sample, min(self.config.neighbours, len(sample) - 1))
        replay.relabel(reward.numpy())
        return reward
