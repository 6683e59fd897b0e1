"""Imagined trajectories of a policy inside the world model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from genrl.models.sequence_model import SequenceModel
from genrl.models.state import LatentState, stack_states


class ActsOnFeatures(Protocol):
    """A policy over latent states: an `Actor`, or one bound to what it shall do."""

    def sample(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, F) features, (B, A) standard normal noise or None to draw it -> (B, A) actions."""


@dataclass(frozen=True)
class Trajectory:
    """What a policy did in imagination.

    Attributes:
        states: (B, H+1, ...) the start and the H states that followed.
        actions: (B, H, A) action t led from state t to state t+1.
    """

    states: LatentState
    actions: Tensor


def imagine(
    dynamics: SequenceModel,
    actor: ActsOnFeatures,
    start: LatentState,
    horizon: int,
    noise: Tensor | None = None,
    mode: bool = False,
) -> Trajectory:
    """Follows the actor for `horizon` steps; gradients flow through dynamics and actions, not into the actor's input.

    Args:
        dynamics: The world model's sequence model.
        actor: Gives an action for (B, F) features.
        start: (B, ...) states to start from.
        horizon: Steps H.
        noise: (B, H, A) standard normal noise of the actions, or None to draw it.
        mode: Modes of the states instead of samples (parity).

    Returns:
        The trajectory, the start included.
    """
    states, actions = [start], []
    for t in range(horizon):
        action = actor.sample(states[-1].features.detach(), None if noise is None else noise[:, t])
        actions.append(action)
        states.append(dynamics.step(states[-1], action, mode))
    return Trajectory(stack_states(states), torch.stack(actions, dim=1))
