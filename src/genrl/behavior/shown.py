"""A reward for what imagination shows: how well the prompt fits the clips that imagined codes decode to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genrl.infra.optim import Optimizer, OptimizerConfig
from genrl.models.foundation import FoundationModel
from genrl.models.learner import select
from genrl.models.reversed_connector import ReversedConnector, spread_clips

EmbedVideo = Callable[[Tensor], Tensor]
"""(N, L, h, w, 3) uint8 clips -> (N, E) unit embeddings by the VLM."""
STEPS = 2
"""Steps of the reversed connector from the clips of one update."""


@dataclass(frozen=True)
class ShownConfig:
    """How much of the reward is for what imagination shows, and how that is known."""

    share: float = 0.0
    """Share of the reward that is the cosine of the prompt with the embedding of the imagined clip; the rest is the
    aligned reward. 0 as the original, 1 is the clip alone (the paper's WM-CLIP). More than 0 needs the VLM."""
    ramp: int = 50
    """Updates over which the share rises to its value, while the reversed connector learns."""
    trajectories: int = 12
    """Imagined trajectories of an update, of all prompts together, that are decoded and embedded by the VLM."""
    units: int = 512
    """Units of the reversed connector's hidden layers."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=1e-3, weight_decay=0.0))

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"behavior.shown.share must lie in [0, 1], got {self.share}")
        if self.ramp < 0 or min(self.trajectories, self.units) < 1:
            raise ValueError(
                "behavior.shown.ramp must be 0 or more, trajectories and units at least 1; got "
                f"{self.ramp}, {self.trajectories} and {self.units}"
            )


class ShownReward:
    """A reversed connector that learns, update by update, what the VLM sees in the policy's own imagination.

    Fitted to the data's clips alone it could be fooled: by codes that it reads as the prompt and that the VLM, looking
    at their pictures, does not. Here every update decodes some of what is imagined now and asks the VLM.

    Args:
        model: Frozen model.
        goals: (M, E) unit embeddings, where videos have theirs. Rows of a batch are grouped by goal.
        embed_video: The VLM.
        config: How.

    Attributes:
        goals: May be set anew before every update.
    """

    def __init__(self, model: FoundationModel, goals: Tensor, embed_video: EmbedVideo, config: ShownConfig) -> None:
        spec, rssm = model.spec, model.config.world_model.rssm
        self.goals, self.config = goals, config
        self._decode, self._embed_video = model.decode, embed_video
        self.connector = ReversedConnector(rssm, spec.frames_per_clip, spec.embed_dim, config.units).to(goals.device)
        self.optimizer = Optimizer(self.connector.parameters(), config.optimizer)
        self.connector.requires_grad_(False)  # The policy's gradient passes through it and must not move it.

    def share(self, update: int) -> float:
        """Share of the reward in an update, counted from 0."""
        return self.config.share * min(1.0, update / max(1, self.config.ramp))

    def learn(self, stoch: Tensor) -> dict[str, Tensor]:
        """Looks at some of (B, T, S, K) imagined codes and learns from them.

        Returns:
            () metrics: the goals' cosine with what the VLM saw, and the VLM's with what was expected.
        """
        rows = torch.randperm(len(stoch), device=stoch.device)[: self.config.trajectories]
        codes, frames_per_clip = stoch.detach()[rows], self.connector.frames_per_clip
        clips = spread_clips(codes, frames_per_clip).flatten(0, 1)  # (R * N, L, S, K)
        # Clips overlap: every code is decoded once.
        embedding = self._embed_video(spread_clips(self._decode(codes), frames_per_clip).flatten(0, 1))
        goals = self._goals(len(stoch))[rows].repeat_interleave(len(clips) // len(rows), 0)
        self.connector.requires_grad_(True)
        losses = []
        with torch.enable_grad():
            for _ in range(STEPS):
                losses.append(self.connector.loss(clips, embedding).mean())
                losses[-1].backward()
                self.optimizer.step()
        self.connector.requires_grad_(False)
        return {"shown/seen": (goals * embedding).sum(-1).mean(), "shown/agreement": 1.0 - losses[0].detach()}

    def reward(self, stoch: Tensor) -> Tensor:
        """(B, T, S, K) imagined codes -> (B, T) cosine of the goal with the clip that ends at each step.

        Steps before the first whole clip have that one's.
        """
        embedding = self.connector(stoch)  # (B, T - L + 1, E)
        cosine = (embedding * self._goals(len(stoch))[:, None]).sum(-1)
        return F.pad(cosine[:, None], (self.connector.frames_per_clip - 1, 0), mode="replicate")[:, 0]

    def _goals(self, count: int) -> Tensor:
        """(count, E) goal of each row."""
        return self.goals.repeat_interleave(count // len(self.goals), 0)

    def state_tensors(self) -> dict[str, Tensor]:
        """The reversed connector and its optimiser's state."""
        tensors = {f"connector.{name}": value for name, value in self.connector.state_dict().items()}
        return tensors | {f"optimizer.{name}": value for name, value in self.optimizer.state_tensors().items()}

    def load_state(self, tensors: Mapping[str, Any]) -> None:
        """Takes back what `state_tensors` gave."""
        self.connector.load_state_dict(select(tensors, "connector."))
        self.optimizer.load_state(select(tensors, "optimizer."))
