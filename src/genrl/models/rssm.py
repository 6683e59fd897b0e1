"""The recurrent state-space model, whose posterior sees the frame alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from genrl.models.ensemble import DynamicsEnsemble
from genrl.models.sequence_model import LogitsHead, SequenceModel
from genrl.models.state import LatentState
from genrl.nn.distributions import kl_divergence, mixed_probs, straight_through


@dataclass(frozen=True)
class RssmConfig:
    """Sizes of the state."""

    deter_dim: int = 1024
    """Units D of the GRU."""
    hidden_dim: int = 1024
    """Width of input layer and heads."""
    num_variables: int = 32
    """Categorical variables S."""
    num_classes: int = 32
    """Classes K of each."""
    code: Literal["sample", "probabilities"] = "sample"
    """What GRU and policy read of a frame: a draw from its posterior, as the original, or the posterior's
    probabilities, which hide nothing by chance. The decoder reads samples either way."""
    ensemble: int = 0
    """Heads that tell how sure the dynamics are (`DynamicsEnsemble`); the original has none."""

    def __post_init__(self) -> None:
        for name in ("deter_dim", "hidden_dim", "num_variables", "num_classes"):
            if getattr(self, name) < 1:
                raise ValueError(f"rssm.{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if self.ensemble < 0:
            raise ValueError(f"rssm.ensemble must be 0 or more, got {self.ensemble}")

    @property
    def stoch_dim(self) -> int:
        """S*K."""
        return self.num_variables * self.num_classes

    @property
    def feature_dim(self) -> int:
        """F = S*K + D."""
        return self.stoch_dim + self.deter_dim


class RSSM(nn.Module):
    """Posterior `q(s_t | x_t)` and dynamics `p(s_t | s_{t-1}, a_{t-1})`. Paper: GenRL, section 3."""

    def __init__(self, config: RssmConfig, embed_dim: int, action_dim: int) -> None:
        super().__init__()
        sizes = (config.hidden_dim, config.num_variables, config.num_classes)
        self.dynamics = SequenceModel(action_dim, config.deter_dim, *sizes, sampled=config.code == "sample")
        self.posterior_head = LogitsHead(embed_dim, *sizes)
        self.ensemble: DynamicsEnsemble | None = None
        if config.ensemble:
            shape = (config.num_variables, config.num_classes)
            self.ensemble = DynamicsEnsemble(config.deter_dim, config.ensemble, *shape)

    def posterior(
        self, embed: Tensor, mode: bool = False, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """(..., embed_dim) -> logits and sample, (..., S, K) each. One call for any number of frames."""
        logits = self.posterior_head(embed)
        return logits, straight_through(logits, mode, generator)

    @torch.no_grad()
    def calibrate_posterior(self, embed: Tensor, spread: float) -> None:
        """Scales the fresh posterior's output so that logits tell frames apart from the start.

        Fresh logits hardly differ between frames that look alike; straight-through gradients then take thousands of
        updates to find what the samples are for. Over the given frames each logit gets mean 0.

        Args:
            embed: (N, embed_dim) embeddings of some frames of the data set.
            spread: Standard deviation that each logit gets over them.

        Source: data-dependent initialisation, Salimans & Kingma 2016 (arXiv 1602.07868), section 3.
        """
        output = self.posterior_head.output
        logits = self.posterior_head(embed).flatten(1)
        scale = spread / logits.std(0).clamp(min=1e-6)
        output.weight.mul_(scale[:, None])
        output.bias.sub_(logits.mean(0)).mul_(scale)

    def learn_from(self, logits: Tensor, sample: Tensor) -> Tensor:
        """(B, ..., S, K) logits and samples -> what the GRU learns from, which reads probabilities in the end.

        Every second window has samples: data-free imagination starts from some (`initial_states`).
        """
        if self.dynamics.sampled:
            return sample
        drawn = torch.arange(len(sample), device=sample.device) % 2 == 1
        return torch.where(drawn.view(-1, *[1] * (sample.ndim - 1)), sample, mixed_probs(logits))

    def observe(self, logits: Tensor, stoch: Tensor, action: Tensor, is_first: Tensor) -> tuple[LatentState, Tensor]:
        """Runs the recurrence along known posteriors.

        Args:
            logits: (B, T, S, K) of the posterior.
            stoch: (B, T, S, K) what the GRU reads of each frame (`SequenceModel.code`).
            action: (B, T, A) actions that led to each frame.
            is_first: (B, T) True where an episode starts.

        Returns:
            (B, T, ...) posterior states, and (B, T, S, K) logits of the dynamics.
        """
        before = torch.cat([torch.zeros_like(stoch[:, :1]), stoch[:, :-1]], dim=1)
        zeros = stoch.new_zeros(stoch.shape[0], self.dynamics.deter_dim)
        deter = self.dynamics.unroll(before, action, zeros, keep=1.0 - is_first.to(stoch.dtype))
        return LatentState(deter, stoch, logits), self.dynamics.head(deter)

    def filter(
        self, state: LatentState, action: Tensor, embed: Tensor, generator: torch.Generator | None = None
    ) -> LatentState:
        """One step of `observe`, for whoever acts.

        Args:
            state: (B, ...) before; zeros before an episode's first frame, whose action is zero too.
            action: (B, A) done since.
            embed: (B, embed_dim) of the frame that it led to.
            generator: Source of the draw.

        Returns:
            (B, ...) posterior state.
        """
        logits = self.posterior_head(embed)
        return LatentState(self.dynamics.advance(state, action), self.dynamics.code(logits, False, generator), logits)


def balanced_kl(posterior_logits: Tensor, prior_logits: Tensor, balance: float, free_nats: float) -> Tensor:
    """KL with separate rates for its two sides.

    Args:
        posterior_logits: (..., S, K).
        prior_logits: (..., S, K).
        balance: Weight of the side that trains the prior; the posterior's side has the rest.
        free_nats: A KL (summed over variables) below this has no gradient.

    Returns:
        (...,) `(1 - balance) max(KL(post || stop(prior)), free) + balance max(KL(stop(post) || prior), free)`.
    """
    to_posterior = kl_divergence(posterior_logits, prior_logits.detach()).clamp(min=free_nats)
    to_prior = kl_divergence(posterior_logits.detach(), prior_logits).clamp(min=free_nats)
    return (1 - balance) * to_posterior + balance * to_prior
