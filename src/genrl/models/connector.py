"""Embeddings of a video-language model to sequences of world-model states."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genrl.models.rssm import RssmConfig
from genrl.models.sequence_model import SequenceModel
from genrl.models.state import LatentState, stack_states
from genrl.nn.distributions import kl_divergence, straight_through, tempered_draw
from genrl.nn.layers import hidden_layers


@dataclass(frozen=True)
class ConnectorConfig:
    """The connector has the world model's sizes, or a GRU and layers of its own."""

    kl_scale: float = 0.8
    """Weight of the KL that trains the connector (the original's shared KL function gives it 0.8 of 1)."""
    unused_inputs: int = 0
    """Inputs that are always zero; the original has one for each frame of a clip."""
    units: int | None = None
    """Units of GRU and layers; by default the world model's."""

    def __post_init__(self) -> None:
        if self.units is not None and self.units < 1:
            raise ValueError(f"connector.units must be at least 1, got {self.units}")


class Connector(nn.Module):
    """`p(s_{t:t+k} | e)`: a sequence model of the world model's shape, driven by an embedding. Paper: section 3.

    Args:
        embed_dim: Size E of the embedding.
    """

    def __init__(self, config: ConnectorConfig, rssm: RssmConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.embed_dim = embed_dim
        self.draws = rssm.code != "sample"
        input_dim = embed_dim + config.unused_inputs
        deter_dim, hidden_dim = config.units or rssm.deter_dim, config.units or rssm.hidden_dim
        self.dynamics = SequenceModel(input_dim, deter_dim, hidden_dim, rssm.num_variables, rssm.num_classes)
        self.initial_deter = nn.Sequential(*hidden_layers(input_dim, hidden_dim, 2), nn.Linear(hidden_dim, deter_dim))

    def inputs(self, embedding: Tensor) -> Tensor:
        """(..., E) unit embeddings -> (..., E + unused) with unit root mean square per entry."""
        scaled = embedding * math.sqrt(self.embed_dim)
        if not self.config.unused_inputs:
            return scaled
        return torch.cat([scaled, scaled.new_zeros(*scaled.shape[:-1], self.config.unused_inputs)], dim=-1)

    def initial_state(self, embedding: Tensor, mode: bool = False) -> LatentState:
        """(..., E) embedding -> the state that a sequence of this meaning starts from."""
        deter = self.initial_deter(self.inputs(embedding))
        logits = self.dynamics.head(deter)
        return LatentState(deter, straight_through(logits, mode), logits)

    def predict(self, embedding: Tensor, stoch: Tensor, mode: bool = False) -> LatentState:
        """Teacher-forced predictions: the sample before each step is the world model's.

        Args:
            embedding: (B, T, E) embedding that conditions each step.
            stoch: (B, T, S, K) the world model's posterior samples.
            mode: Mode of the initial state instead of a sample (parity).

        Returns:
            (B, T, ...) states; `stoch` of the result is the given one.
        """
        initial = self.initial_state(embedding[:, 0], mode)
        before = torch.cat([initial.stoch[:, None], stoch[:, :-1]], dim=1)
        deter = self.dynamics.unroll(before, self.inputs(embedding), initial.deter)
        return LatentState(deter, stoch, self.dynamics.head(deter))

    def loss(self, embedding: Tensor, posterior: LatentState, mode: bool = False) -> Tensor:
        """(B, T) `KL(connector || stop(posterior))`, weighted; the world model gets no gradient.

        The value includes the opposite side's share (constant for the connector), so that it reads as a KL.
        """
        # Of a frame's probabilities a prompt means one draw or another, not their mixture.
        stoch = straight_through(posterior.logits.detach(), mode) if self.draws else posterior.stoch.detach()
        predicted = self.predict(embedding, stoch, mode)
        kl = kl_divergence(predicted.logits, posterior.logits.detach())
        return self.config.kl_scale * kl + (1 - self.config.kl_scale) * kl.detach()

    def imagine(self, embedding: Tensor, mode: bool = False, reset_every: int | None = None) -> LatentState:
        """Free-running states for a sequence of embeddings.

        Args:
            embedding: (B, T, E), usually one embedding repeated.
            mode: Modes instead of samples, the initial state's too (the original always samples that one).
            reset_every: Zero the recurrent state after each so many steps.

        Returns:
            (B, T, ...) states; the initial state itself is left out.
        """
        initial = self.initial_state(embedding[:, 0], mode)
        return self.dynamics.rollout(initial, self.inputs(embedding), mode, reset_every)

    def draw(self, embedding: Tensor, steps: int, temperature: Tensor, generator: torch.Generator) -> LatentState:
        """Free-running states, some more random than others.

        Modes alone tend to come to rest: a gait's mode freezes in mid-stride. Plain samples flicker. In between there
        is motion that means the same.

        Args:
            embedding: (N, E) embeddings, kept for all steps.
            steps: T.
            temperature: (N,) of the draws; 0 gives modes, 1 samples (without the uniform share).
            generator: Source of the draws; more steps begin with the same ones.

        Returns:
            (N, T, ...) states; the initial state itself is left out.
        """
        temperature, inputs = temperature[:, None, None], self.inputs(embedding)
        state = self.initial_state(embedding, mode=True)
        states = []
        for step in range(steps + 1):
            if step:
                state = self.dynamics.step(state, inputs, mode=True)
            state = LatentState(state.deter, tempered_draw(state.logits, temperature, generator), state.logits)
            states.append(state)
        return stack_states(states[1:])


def clip_embeddings(embedding: Tensor, frames_per_clip: int) -> Tensor:
    """Gives every row of a window the embedding of the clip it belongs to.

    Args:
        embedding: (B, T, E) embedding of the clip that ENDS at each row; T a multiple of `frames_per_clip`.
        frames_per_clip: Frames L of a clip.

    Returns:
        (B, T, E): the window is cut into groups of L rows, each with the embedding of its last row.
    """
    if embedding.shape[1] % frames_per_clip:
        raise ValueError(f"a window of {embedding.shape[1]} frames is not a multiple of {frames_per_clip} per clip")
    return embedding[:, frames_per_clip - 1 :: frames_per_clip].repeat_interleave(frames_per_clip, dim=1)
