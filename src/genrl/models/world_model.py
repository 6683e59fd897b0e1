"""The world model: encoder, recurrent state-space model, decoder, one objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from genrl.models.decoder import Decoder
from genrl.models.encoder import Encoder, normalise_frames
from genrl.models.rssm import RSSM, RssmConfig, balanced_kl
from genrl.models.state import LatentState
from genrl.nn.distributions import TwoHot, entropy, kl_divergence
from genrl.nn.layers import MLP


@dataclass(frozen=True)
class WorldModelConfig:
    """Sizes and loss weights of the world model."""

    rssm: RssmConfig = field(default_factory=RssmConfig)
    cnn_depth: int = 48
    """Channels of the first convolution."""
    kl_scale: float = 0.6
    kl_balance: float = 0.85
    """Share of the KL that trains the dynamics; the rest trains the posterior."""
    free_nats: float = 1.0
    reward_head: bool = False
    """Also fit the data's reward, without a gradient to the model. Nothing in the method reads it."""
    reward_head_layers: int = 4
    reward_head_units: int = 1024

    def __post_init__(self) -> None:
        if not 0.0 <= self.kl_balance <= 1.0:
            raise ValueError(f"world-model.kl-balance must lie in [0, 1], got {self.kl_balance}")


class WorldModel(nn.Module):
    """Encoder `q(s_t | x_t)`, sequence model, dynamics, decoder `p(x_t | s_t)`. Paper: GenRL, section 3.

    Encoder and decoder never see the recurrent state: a latent sample is a token of one frame, and all knowledge
    of time lives in the recurrent state. So all but the recurrence is one batched call over (B, T).
    """

    def __init__(self, config: WorldModelConfig, action_dim: int) -> None:
        super().__init__()
        self.config = config
        self.action_dim = action_dim
        self.encoder = Encoder(config.cnn_depth)
        self.rssm = RSSM(config.rssm, self.encoder.output_dim, action_dim)
        self.decoder = Decoder(config.rssm.stoch_dim, config.cnn_depth)
        self.reward_head: MLP | None = None
        self.two_hot = TwoHot()
        if config.reward_head:
            width, layers = config.reward_head_units, config.reward_head_layers
            self.reward_head = MLP(config.rssm.feature_dim, self.two_hot.num_buckets, width, layers)

    def calibrate(self, frames: Tensor, spread: float) -> None:
        """Data-dependent start of the posterior, from (N, h, w, 3) uint8 frames; see `RSSM.calibrate_posterior`."""
        with torch.no_grad():
            self.rssm.calibrate_posterior(self.encoder(normalise_frames(frames)), spread)

    def encode(self, frames: Tensor, mode: bool = False) -> tuple[Tensor, Tensor]:
        """(..., h, w, 3) uint8 frames -> posterior logits and samples, (..., S, K) each."""
        return self.rssm.posterior(self.encoder(normalise_frames(frames)), mode)

    def observe(self, frames: Tensor, action: Tensor, is_first: Tensor, mode: bool = False) -> LatentState:
        """Posterior states of (B, T) frames, for whoever needs states and no losses."""
        logits = self.rssm.posterior_head(self.encoder(normalise_frames(frames)))
        return self.rssm.observe(logits, self.rssm.dynamics.code(logits, mode), action, is_first)[0]

    def losses(
        self, frames: Tensor, action: Tensor, is_first: Tensor, reward: Tensor | None = None, mode: bool = False
    ) -> tuple[dict[str, Tensor], LatentState, dict[str, Tensor]]:
        """The world model's objective, time-parallel.

        Args:
            frames: (B, T, h, w, 3) uint8.
            action: (B, T, A).
            is_first: (B, T).
            reward: (B, T), read only with a reward head.
            mode: Posterior modes instead of samples (parity).

        Returns:
            Losses by name, (B, T) each; posterior states (B, T, ...); metrics by name, (B, T) each.
        """
        logits, stoch = self.encode(frames, mode)
        losses, posterior, metrics = self.latent_losses(logits, stoch, action, is_first)
        losses["reconstruction"] = self.decoder.loss(stoch, frames)
        if self.reward_head is not None and reward is not None:
            losses["reward"] = -self.two_hot.log_prob(self.reward_head(posterior.features.detach()), reward)
        return losses, posterior, metrics

    def frame_losses(self, frames: Tensor, fixed_code: bool = False) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The part of `losses` that needs no time: before there are dynamics, the prior is uniform.

        Args:
            frames: (B, T, h, w, 3) uint8; their order does not matter.
            fixed_code: Give no gradient to encoder and posterior, so that the decoder learns to read them first.

        Returns:
            Losses and metrics by name, (B, T) each.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not fixed_code):
            logits, stoch = self.encode(frames)
        uniform_kl = kl_divergence(logits, torch.zeros_like(logits))
        losses = {"reconstruction": self.decoder.loss(stoch, frames), "uniform_kl": uniform_kl}
        return losses, {"posterior_entropy": entropy(logits.detach())}

    def latent_losses(
        self, logits: Tensor, stoch: Tensor, action: Tensor, is_first: Tensor
    ) -> tuple[dict[str, Tensor], LatentState, dict[str, Tensor]]:
        """The part of `losses` that needs no frames: KL of given posteriors (B, T, S, K) and the dynamics."""
        code = self.rssm.learn_from(logits, stoch)
        posterior, prior_logits = self.rssm.observe(logits, code, action, is_first)
        kl = balanced_kl(logits, prior_logits, self.config.kl_balance, self.config.free_nats)
        metrics = {"posterior_entropy": entropy(logits.detach()), "prior_entropy": entropy(prior_logits.detach())}
        losses = {"kl": kl}
        if self.rssm.ensemble is not None:
            losses["ensemble"] = self.rssm.ensemble.loss(posterior.deter, logits)
        return losses, posterior, metrics

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """() weighted sum of the means."""
        # To a prior that cannot learn, the posterior moves at its own share of the KL.
        scales = {"kl": self.config.kl_scale, "uniform_kl": self.config.kl_scale * (1 - self.config.kl_balance)}
        terms = [scales.get(name, 1.0) * value.mean() for name, value in losses.items()]
        return sum(terms[1:], terms[0])
