"""Imagined trajectories of a policy inside the world model."""

from __future__ import annotations

from collections.abc import Callable
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


def follow(
    dynamics: SequenceModel, actor: ActsOnFeatures, state: LatentState, noise: Tensor | None = None, mode: bool = False
) -> tuple[Tensor, LatentState]:
    """One step of `imagine`: the action in a state (B, ...), and the state that it leads to."""
    action = actor.sample(state.features.detach(), noise)
    return action, dynamics.step(state, action, mode)


def imagine(
    dynamics: SequenceModel,
    actor: ActsOnFeatures,
    start: LatentState,
    horizon: int,
    noise: Tensor | None = None,
    mode: bool = False,
    follow: Callable[..., tuple[Tensor, LatentState]] = follow,
) -> Trajectory:
    """Follows the actor for `horizon` steps; gradients flow through dynamics and actions, not into the actor's input.

    Args:
        dynamics: The world model's sequence model.
        actor: Gives an action for (B, F) features.
        start: (B, ...) states to start from.
        horizon: Steps H.
        noise: (B, H, A) standard normal noise of the actions, or None to draw it.
        mode: Modes of the states instead of samples (parity).
        follow: Takes a step; the function of that name, or one compiled from it.

    Returns:
        The trajectory, the start included.
    """
    states, actions = [start], []
    for t in range(horizon):
        action, state = follow(dynamics, actor, states[-1], None if noise is None else noise[:, t], mode)
        actions.append(action)
        states.append(state)
    return Trajectory(stack_states(states), torch.stack(actions, dim=1))
