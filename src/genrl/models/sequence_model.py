"""The recurrent part that world model and connector share: input layer, GRU, dynamics head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genrl.models.state import LatentState, stack_states
from genrl.nn.distributions import mixed_probs, straight_through
from genrl.nn.gru import LayerNormGRU
from genrl.nn.layers import hidden_layers


class LogitsHead(nn.Module):
    """Linear, LayerNorm, SiLU, Linear to the logits of S categorical variables of K classes."""

    def __init__(self, input_dim: int, hidden_dim: int, num_variables: int, num_classes: int) -> None:
        super().__init__()
        self.hidden = hidden_layers(input_dim, hidden_dim, 1)
        self.output = nn.Linear(hidden_dim, num_variables * num_classes)
        self.shape = (num_variables, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) -> (..., S, K)."""
        return self.output(self.hidden(x)).unflatten(-1, self.shape)


class SequenceModel(nn.Module):
    """`h_t = f(s_{t-1}, a_{t-1}, h_{t-1})` and `p(s_t | h_t)`.

    Only the GRU recurrence is sequential: for known samples `unroll` computes the input layer and the GRU's
    input projection for all steps in one call, and the head once over its whole output.

    Args:
        action_dim: Size of what conditions a step (an action; for the connector an embedding).
        sampled: Whether a state's `stoch` is a draw, or the probabilities themselves (`RssmConfig.code`).
    """

    def __init__(
        self,
        action_dim: int,
        deter_dim: int,
        hidden_dim: int,
        num_variables: int,
        num_classes: int,
        sampled: bool = True,
    ) -> None:
        super().__init__()
        self.sampled = sampled
        self.action_dim = action_dim
        self.deter_dim = deter_dim
        self.stoch_shape = (num_variables, num_classes)
        self.input = hidden_layers(num_variables * num_classes + action_dim, hidden_dim, 1)
        self.cell = LayerNormGRU(hidden_dim, deter_dim)
        self.head = LogitsHead(deter_dim, hidden_dim, num_variables, num_classes)

    def zero_state(self, batch_size: int, device: torch.device) -> LatentState:
        """The state before the first step of an episode."""
        stoch = torch.zeros(batch_size, *self.stoch_shape, device=device)
        return LatentState(torch.zeros(batch_size, self.deter_dim, device=device), stoch, stoch)

    def code(self, logits: Tensor, mode: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """(..., S, K) logits -> (..., S, K) what is carried on: a draw, its mode, or (not `sampled`) probabilities."""
        return straight_through(logits, mode, generator) if self.sampled else mixed_probs(logits)

    def unroll(self, stoch: Tensor, action: Tensor, deter: Tensor, keep: Tensor | None = None) -> Tensor:
        """Recurrent states of a sequence whose samples are known.

        Args:
            stoch: (B, T, S, K) code BEFORE each step.
            action: (B, T, A) action of each step.
            deter: (B, D) recurrent state before the first step.
            keep: (B, T) 0 where an episode starts, else 1: multiplies sample, action and recurrent state.

        Returns:
            (B, T, D) recurrent states after each step.
        """
        inputs = torch.cat([stoch.flatten(-2), action], dim=-1)
        if keep is not None:
            inputs = inputs * keep[..., None]
        return self.cell.sequence(self.cell.project(self.input(inputs)), deter, keep)

    def step(self, state: LatentState, action: Tensor, mode: bool = False) -> LatentState:
        """One imagined step: (..., A) action from a state to the dynamics' sample (or mode) of the next."""
        deter = self.advance(state, action)
        logits = self.head(deter)
        return LatentState(deter, self.code(logits, mode), logits)

    def advance(self, state: LatentState, action: Tensor) -> Tensor:
        """(..., A) action from a state -> (..., D) the next recurrent state."""
        return self.cell.step(self.input(torch.cat([state.stoch.flatten(-2), action], dim=-1)), state.deter)

    def rollout(
        self, state: LatentState, actions: Tensor, mode: bool = False, reset_every: int | None = None
    ) -> LatentState:
        """Imagines along given actions.

        Args:
            state: (B, ...) state before the first step; not part of the result.
            actions: (B, T, A).
            mode: Take modes instead of samples.
            reset_every: Set the recurrent state to zero after each so many steps, keeping the sample.

        Returns:
            (B, T, ...) states.
        """
        states = []
        for t in range(actions.shape[1]):
            if reset_every and t and t % reset_every == 0:
                state = LatentState(torch.zeros_like(state.deter), state.stoch, state.logits)
            state = self.step(state, actions[:, t], mode)
            states.append(state)
        return stack_states(states)
