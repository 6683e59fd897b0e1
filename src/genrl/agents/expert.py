"""Expert: TD3 on the simulator's state and the task's own reward, to have data from clumsy to skilled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrl.agents.random import UniformActions
from genrl.agents.trajectory import Trajectory
from genrl.behavior.off_policy import TD3, TD3Config
from genrl.behavior.replay import Replay


@dataclass(frozen=True)
class ExpertConfig:
    """How the expert learns and how noisy it acts."""

    td3: TD3Config = field(default_factory=TD3Config)
    updates_per_step: float = 2.0
    """Gradient steps per env step."""
    prepare_updates: int = 4000
    """Gradient steps on pooled episodes before the first episode of its own."""
    random_episodes: int = 2
    """Episodes with random actions at the beginning; none when it starts from pooled episodes."""
    noise: tuple[float, ...] = (0.05, 0.1, 0.2, 0.35)
    """Standard deviations of the noise on actions; each episode draws one, so the data hold steady and shaky ones."""
    noise_steps: tuple[int, int] = (1, 1)
    """Shortest and longest time that a draw of the noise is kept, in env steps. Where fresh noise makes a body tremble,
    noise that is kept makes it lift a leg, lean and catch itself."""

    def __post_init__(self) -> None:
        if not 1 <= self.noise_steps[0] <= self.noise_steps[1]:
            raise ValueError(f"noise-steps must be two numbers from 1 upwards, the larger last, got {self.noise_steps}")


class Expert:
    """Learns one task from its own episodes and, relabelled with the task's reward, from those of others.

    Args:
        observation_dim: O.
        action_dim: A.
        reward: Column of `Trajectory.rewards` that is learnt.
        config: How it learns.
        seed: Of everything random.
    """

    def __init__(self, observation_dim: int, action_dim: int, reward: int, config: ExpertConfig, seed: int) -> None:
        self.config = config
        self.replay = Replay(observation_dim, action_dim)
        self.td3 = TD3(observation_dim, action_dim, config.td3, seed)
        self._action_dim, self._reward, self._seed = action_dim, reward, seed
        self._prepared = False
        self.begin_episode(0)

    def remember(self, trajectory: Trajectory) -> None:
        """Adds an episode to the replay."""
        self.replay.add_episode(trajectory.observation, trajectory.action, trajectory.rewards[:, self._reward])

    def prepare(self) -> None:
        """Fits pooled episodes, once."""
        if not self._prepared and self.replay.num_transitions:
            self._fit(self.config.prepare_updates)
            self._prepared = True

    def begin_episode(self, index: int) -> None:
        """Draws the episode's noise from (seed, index)."""
        self._random = np.random.default_rng((self._seed, index))
        self._strength = float(self._random.choice(self.config.noise))
        self._noise, self._noise_left = np.zeros(self._action_dim), 0
        warming_up = index < self.config.random_episodes and not self._prepared
        self._actions = UniformActions(self._action_dim, self._random) if warming_up else None

    def act(self, observation: np.ndarray) -> np.ndarray:
        """(A,) the policy's action with noise, or a random one in the first episodes."""
        if self._actions is not None:
            return self._actions()
        action = self.td3.act(torch.from_numpy(observation)).numpy()
        if self._noise_left == 0:
            shortest, longest = self.config.noise_steps
            self._noise_left = shortest if shortest == longest else int(self._random.integers(shortest, longest + 1))
            self._noise = self._strength * self._random.standard_normal(self._action_dim)
        self._noise_left -= 1
        return (action + self._noise).clip(-1, 1).astype(np.float32)

    def learn(self, num_steps: int) -> dict[str, float]:
        """`updates_per_step` updates for each step."""
        return self._fit(round(self.config.updates_per_step * num_steps))

    def state_tensors(self) -> dict[str, Tensor]:
        """The learner's."""
        return self.td3.state_tensors()

    def state_meta(self) -> dict[str, Any]:
        """The learner's, and whether pooled episodes have been fitted."""
        return {**self.td3.state_meta(), "prepared": self._prepared}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restores the learner."""
        self.td3.load_state(tensors, meta)
        self._prepared = bool(meta["prepared"])

    def _fit(self, num_updates: int) -> dict[str, float]:
        td3 = self.config.td3
        random = np.random.default_rng((self._seed, self.td3.updates))
        sums: dict[str, Tensor] = {}
        counts: Counter[str] = Counter()
        for _ in range(num_updates):
            batch = self.replay.sample(random, td3.batch_size, td3.n_step, td3.discount)
            metrics = self.td3.update(batch)
            counts.update(metrics.keys())
            sums = {**sums, **{name: sums[name] + value if name in sums else value for name, value in metrics.items()}}
        return {name: float(value) / counts[name] for name, value in sums.items()}
