"""What the collector asks of an agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from genrl.agents.trajectory import Trajectory


class Agent(Protocol):
    """Chooses actions from simulator states and may learn from whole episodes.

    Its random choices in an episode depend on its seed and the episode's index alone, so that collection can be
    interrupted between episodes.
    """

    def remember(self, trajectory: Trajectory) -> None:
        """Adds an episode to what is learnt from: its own, an earlier process's, or another agent's."""

    def prepare(self) -> None:
        """Learns from what is remembered before the first episode of all."""

    def begin_episode(self, index: int) -> None:
        """Gets ready for the episode of that index."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """(O,) observation -> (A,) action in -1 ... 1."""

    def learn(self, num_steps: int) -> dict[str, float]:
        """Learns after an episode of that many steps, which has been remembered; returns metrics."""

    def state_tensors(self) -> dict[str, Tensor]:
        """What has been learnt, by name, without the remembered episodes."""

    def state_meta(self) -> dict[str, Any]:
        """JSON-ready facts beside the tensors."""

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restores what `state_tensors` and `state_meta` gave."""
