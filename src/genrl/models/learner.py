"""Pretraining: one update of world model, connector and aligner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from genrl.data.batch import SequenceBatch
from genrl.infra.captured import Captured, Compilation, Compiled, captures, compiles
from genrl.infra.compute import Precision, autocast
from genrl.infra.distributed import ALONE, World
from genrl.infra.finite import MOVED, all_finite, check_moved
from genrl.infra.optim import Optimizer, OptimizerConfig, step_together
from genrl.models.connector import clip_embeddings
from genrl.models.foundation import FoundationModel
from genrl.models.latents import LatentBatch
from genrl.models.state import LatentState
from genrl.nn.distributions import straight_through
from genrl.nn.noise import share_of_rows


@dataclass(frozen=True)
class FoundationLearnerConfig:
    """Optimisers and precision of pretraining."""

    world_model: OptimizerConfig = field(default_factory=OptimizerConfig)
    connector: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Trains connector and aligner."""
    precision: Precision = "float32"
    """bfloat16 is autocast: parameters, states and losses stay float32. auto takes it where the hardware multiplies
    it."""
    compile: Compilation = "auto"
    """Compile the losses, and replay whole updates as one CUDA graph; auto does where there is a GPU."""


Losses = dict[str, Tensor]
"""(B, T) values by name."""
StepLosses = tuple[Losses, Losses, Losses]
"""Losses of the world model, losses of connector and aligner, metrics."""


class Objective(nn.Module):
    """The model, with a forward pass that gives losses: what `DistributedDataParallel` asks for.

    Args:
        model: Whose parameters the losses train.
        losses: Gives them.
    """

    def __init__(self, model: nn.Module, losses: Callable[..., StepLosses]) -> None:
        super().__init__()
        self.model, self._losses = model, losses

    def forward(self, *inputs: Any) -> StepLosses:
        """What `losses` gives."""
        return self._losses(*inputs)


class FoundationLearner:
    """Modules, an optimiser for each objective, and `update(batch)`.

    The connector learns from detached posteriors: it never moves the world model.
    """

    def __init__(self, model: FoundationModel, config: FoundationLearnerConfig, world: World = ALONE) -> None:
        self.model = model.train().requires_grad_(True)
        self.config, self.world = config, world
        self.objective: nn.Module | None = None
        self._captured: Captured | None = None
        self.world_optimizer = Optimizer(model.world_model.parameters(), config.world_model)
        connector_parameters = [*model.connector.parameters(), *model.aligner.parameters()]
        self.connector_optimizer = Optimizer(connector_parameters, config.connector)

    def update(self, batch: SequenceBatch, learning_rate_scale: float = 1.0) -> dict[str, Tensor]:
        """One step of every optimiser.

        Args:
            batch: (B, T) windows; without embeddings only the world model learns.
            learning_rate_scale: Multiplies the learning rates (schedules).

        Returns:
            () metrics by name, still on the device.

        Raises:
            NonFiniteError: If a loss is not finite; nothing has moved then.
        """
        return self.advance(learning_rate_scale, batch)

    def advance(self, learning_rate_scale: float, *inputs: Any) -> dict[str, Tensor]:
        """One step of every optimiser from what `losses` reads, as `update`."""
        self.world_optimizer.set_rate(learning_rate_scale)
        self.connector_optimizer.set_rate(learning_rate_scale)
        if self._captured is None:
            # Several processes wait for each other within an update: that is not captured.
            wanted = self.world.size == 1 and captures(self.config.compile)
            self._captured = Captured(self._work, self.model.device, self._clear_gradients, wanted)
        return check_moved(self._captured(*inputs))

    def _work(self, *inputs: Any) -> dict[str, Tensor]:
        return self.step(self.compute(*inputs))

    def _clear_gradients(self) -> None:
        self.model.zero_grad(set_to_none=True)

    def losses(self, batch: SequenceBatch) -> StepLosses:
        """What a batch is learnt from."""
        losses, posterior, metrics = self.model.world_model.losses(
            batch.frames, batch.action, batch.is_first, batch.reward
        )
        return losses, self.connector_losses(batch.embedding, posterior), metrics

    def compute(self, *inputs: Any) -> StepLosses:
        """`losses` as the forward pass of one module, which is what processes share."""
        if self.objective is None:
            losses = Compiled(self.losses, compiles(self.model.device, self.config.compile))
            self.objective = self.world.wrap(Objective(self.model, losses))
        with autocast(self.model.device, self.config.precision), share_of_rows(self.world.rank, self.world.size):
            return self.objective(*inputs)

    def connector_losses(self, embedding: Tensor | None, posterior: LatentState) -> dict[str, Tensor]:
        """Losses of connector and aligner, (B, T) each; none without embeddings."""
        if embedding is None:
            return {}
        clips = clip_embeddings(embedding, self.model.spec.frames_per_clip)
        return {
            "connector_kl": self.model.connector.loss(clips, posterior.detach()),
            "aligner": self.model.aligner.loss(clips),
        }

    def step(self, computed: StepLosses) -> dict[str, Tensor]:
        """Backward and both optimisers, from losses of (B, T) elements; nothing moves where one is not finite."""
        losses, connector_losses, metrics = computed
        means = {f"loss/{name}": value.mean() for name, value in {**losses, **connector_losses}.items()}
        told = self.world.mean({**means, **{f"world_model/{name}": value.mean() for name, value in metrics.items()}})
        finite = all_finite({name: told[name] for name in means})
        objectives = [value.mean() for value in connector_losses.values()]
        if losses:
            objectives.append(self.model.world_model.total_loss(losses))
        # The two objectives share no parameter, so that one backward pass serves both optimisers.
        torch.stack(objectives).sum().backward()
        results = {name: told.pop(name) for name in means}
        optimizers = {"world_model": self.world_optimizer} if losses else {}
        if connector_losses:
            optimizers["connector"] = self.connector_optimizer
        norms, moved = step_together(optimizers, finite)
        return results | {f"{name}/grad_norm": norm for name, norm in norms.items()} | told | {MOVED: moved}

    def state_tensors(self) -> dict[str, Tensor]:
        """Model and optimiser states."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"world_optimizer.{name}": value for name, value in self.world_optimizer.state_tensors().items()}
        tensors |= {f"connector_optimizer.{n}": value for n, value in self.connector_optimizer.state_tensors().items()}
        return tensors

    def state_meta(self) -> dict[str, Any]:
        """Nothing beyond the tensors."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Takes back what `state_tensors` gave."""
        self._captured = None  # It holds the moments of before.
        self.model.load_state_dict(select(tensors, "model."))
        self.world_optimizer.load_state(select(tensors, "world_optimizer."))
        self.connector_optimizer.load_state(select(tensors, "connector_optimizer."))


class FrameLearner(FoundationLearner):
    """First stage: encoder, posterior and decoder from single frames, which need not be neighbours.

    Neighbours look alike: of as many frames, those drawn one by one hold more.
    """

    def update_frames(
        self, frames: Tensor, learning_rate_scale: float = 1.0, fixed_code: bool = False
    ) -> dict[str, Tensor]:
        """One step from (B, T, h, w, 3) uint8 frames; `fixed_code` leaves encoder and posterior as they are."""
        return self.advance(learning_rate_scale, frames, fixed_code)

    def losses(self, frames: Tensor, fixed_code: bool = False) -> StepLosses:  # type: ignore[override]
        """What frames are learnt from."""
        losses, metrics = self.model.world_model.frame_losses(frames, fixed_code)
        return losses, {}, metrics


class LatentLearner(FoundationLearner):
    """Last stage: encoder and decoder frozen, everything sequential trained on cached posteriors.

    The posterior ignores history and the decoder ignores the recurrent state, so that posteriors of a data set can
    be computed once; GRU, dynamics, connector and aligner then train without a single convolution.

    Args:
        dynamics: Train GRU and dynamics; without, connector and aligner alone.
    """

    def __init__(
        self, model: FoundationModel, config: FoundationLearnerConfig, world: World = ALONE, dynamics: bool = True
    ) -> None:
        super().__init__(model, config, world)
        self.dynamics = dynamics
        model.world_model.encoder.requires_grad_(False)
        model.world_model.decoder.requires_grad_(False)
        model.world_model.rssm.posterior_head.requires_grad_(False)
        if not dynamics:
            model.world_model.requires_grad_(False)
        rssm = model.world_model.rssm
        parts = [rssm.dynamics] if rssm.ensemble is None else [rssm.dynamics, rssm.ensemble]
        self.world_optimizer = Optimizer([p for part in parts for p in part.parameters()], config.world_model)

    def update_latents(self, batch: LatentBatch, learning_rate_scale: float = 1.0) -> dict[str, Tensor]:
        """One step from (B, T) cached posteriors; each visit of a frame draws a new sample."""
        return self.advance(learning_rate_scale, batch)

    def losses(self, batch: LatentBatch) -> StepLosses:  # type: ignore[override]
        """What cached posteriors are learnt from."""
        losses, posterior, metrics = self.model.world_model.latent_losses(
            batch.logits, straight_through(batch.logits), batch.action, batch.is_first
        )
        connector_losses = self.connector_losses(batch.embedding, posterior)
        return (losses, connector_losses, metrics) if self.dynamics else ({}, connector_losses, metrics | losses)


def select(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
