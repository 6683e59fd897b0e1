"""The multimodal-foundation world model as one module with its specification."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genrl.infra.checkpoint import load_checkpoint, save_checkpoint
from genrl.infra.config import from_dict, to_dict
from genrl.infra.errors import UserError
from genrl.models.aligner import Aligner, AlignerConfig
from genrl.models.connector import Connector, ConnectorConfig
from genrl.models.encoder import frames_from_images
from genrl.models.state import LatentState
from genrl.models.world_model import WorldModel, WorldModelConfig

FORMAT = "genrl-foundation-model"
LARGEST_TEMPERATURE = 0.75
"""Of target candidates; hotter ones flicker."""


@dataclass(frozen=True)
class FoundationConfig:
    """Sizes and losses of the three parts."""

    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    connector: ConnectorConfig = field(default_factory=ConnectorConfig)
    aligner: AlignerConfig = field(default_factory=AlignerConfig)


@dataclass(frozen=True)
class ModelSpec:
    """What a model was made for; a mismatch with data, environment or VLM is refused by name."""

    domain: str
    look: str
    camera: str
    action_dim: int
    action_repeat: int
    control_timestep: float
    """Seconds of one control step."""
    action_low: tuple[float, ...]
    """(A,) smallest action in the environment's own units; inside the package actions lie in -1 ... 1."""
    action_high: tuple[float, ...]
    discrete: bool
    vlm: str
    vlm_checksum: str
    embed_dim: int
    frames_per_clip: int
    vlm_source: str = ""
    """The `--vlm` that finds the VLM; its column's name is `vlm`. Empty when nobody said."""

    @property
    def frames_per_second(self) -> float:
        """Stored frames per second of simulated time."""
        return 1.0 / (self.control_timestep * self.action_repeat)


class FoundationModel(nn.Module):
    """World model, connector and aligner. Paper: GenRL, section 3."""

    def __init__(self, config: FoundationConfig, spec: ModelSpec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.world_model = WorldModel(config.world_model, spec.action_dim)
        self.connector = Connector(config.connector, config.world_model.rssm, spec.embed_dim)
        self.aligner = Aligner(config.aligner, spec.embed_dim)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.world_model.rssm.dynamics.head.output.weight.device

    @torch.no_grad()
    def target(self, embedding: Tensor, steps: int, align: bool) -> LatentState:
        """Target trajectories of prompts: the connector's modes.

        Args:
            embedding: (N, E) unit embeddings.
            steps: Length T of the trajectories.
            align: Pass the embedding through the aligner first: True for text, False for video.

        Returns:
            (N, T, ...) states; the connector's first step is dropped, as the original does.
        """
        if align:
            embedding = self.aligner.align(embedding)
        sequence = embedding[:, None].expand(-1, steps + 1, -1)
        return self.connector.imagine(sequence, mode=True).map(lambda x: x[:, 1:])

    @torch.no_grad()
    def target_candidates(self, embedding: Tensor, steps: int, count: int) -> LatentState:
        """Several target trajectories of one prompt, from its mode to ever more random ones.

        Args:
            embedding: (E,) unit embedding, aligned.
            steps: Length T of the trajectories.
            count: N of them beside the mode.

        Returns:
            (N + 1, T, ...) states, the mode first; the same every time.
        """
        temperature = torch.linspace(0, LARGEST_TEMPERATURE, count + 1, device=embedding.device)
        generator = torch.Generator(embedding.device).manual_seed(0)
        goals = embedding.expand(count + 1, -1)
        # As in `target`, the connector's first step is dropped.
        return self.connector.draw(goals, steps + 1, temperature, generator).map(lambda x: x[:, 1:])

    @torch.no_grad()
    def decode(self, stoch: Tensor) -> Tensor:
        """(..., S, K) samples -> (..., h, w, 3) uint8 frames."""
        return frames_from_images(self.world_model.decoder(stoch))

    def save(self, directory: Path, dtype: torch.dtype = torch.float32, **meta: Any) -> None:
        """Writes a model directory; `meta` is kept beside the configuration. float16 halves the size."""
        tensors = {name: value.to(dtype) for name, value in self.state_dict().items()}
        description = {"format": FORMAT, "config": to_dict(self.config), "spec": to_dict(self.spec)}
        save_checkpoint(directory, tensors, description | meta)

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu") -> FoundationModel:
        """Reads what `save` wrote.

        Raises:
            UserError: If the directory holds no model, or a damaged one.
        """
        tensors, meta = load_checkpoint(directory)
        if meta.get("format") != FORMAT:
            raise UserError(f"{directory} holds no foundation model; give a directory that `genrl pretrain` wrote")
        model = cls(
            from_dict(FoundationConfig, meta["config"], where=f"{directory} config"),
            from_dict(ModelSpec, meta["spec"], where=f"{directory} spec"),
        )
        try:
            model.load_state_dict({name: value.float() for name, value in tensors.items()})
        except RuntimeError as error:
            raise UserError(f"{directory}: the tensors do not fit the configuration beside them ({error})") from error
        return model.to(device).eval().requires_grad_(False)

    def check_spec(self, what: str, **expected: object) -> None:
        """Refuses data, an environment or a VLM that the model was not made for.

        Args:
            what: Names the other party in the message.
            **expected: Values of `ModelSpec` fields that the other party has.
        """
        for name, value in expected.items():
            own = getattr(self.spec, name)
            if own != value:
                label = name.replace("_", " ")
                raise UserError(f"{what} has {label} {value!r}, but the model was made for {own!r}")
