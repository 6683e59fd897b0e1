"""Episodes and what all episodes of one store have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genrl.infra.errors import UserError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StoreSpec:
    """What every episode of a store shares; episodes that differ are refused."""

    domain: str
    action_dim: int
    look: str
    """Render look of the frames: `paper`, `fast`, or another name for images that are not ours."""
    camera: str
    action_repeat: int
    """Control steps of one env step."""
    control_timestep: float
    """Seconds of one control step."""
    frame_size: int = 64
    """Height and width of the frames in pixels."""
    state_dim: int = 0
    """Size of the simulator state kept with each frame; 0 when none is kept."""
    action_low: tuple[float, ...] = ()
    """Lower bounds of the action in the environment's native units, empty when unknown."""
    action_high: tuple[float, ...] = ()
    discrete: bool = False
    """Whether actions are one-hot."""


@dataclass(frozen=True)
class EmbeddingInfo:
    """One column of video embeddings: row t belongs to the clip of `frames_per_clip` frames that ends at row t."""

    name: str
    dim: int
    frames_per_clip: int
    checksum: str
    """Identity of the weights that made it; columns of equal name but other checksum do not mix."""
    source: str = field(default="", compare=False)
    """The `--vlm` that finds the weights again; empty when nobody said."""


@dataclass(frozen=True)
class Episode:
    """One episode; row t is (action that led here, frame, ...), and the first row has a zero action.

    Attributes:
        frames: (N, h, w, 3) uint8.
        action: (N, A) float32 in -1 ... 1.
        reward: (N,) float32.
        is_terminal: (N,) bool.
        state: (N, S) float64 simulator state, or None.
        embeddings: By name of the video-language model, (N, E) float16; zero rows mean "no whole clip yet".
        prompt: What the episode shows, in the words it was recorded with; empty when nobody said.
    """

    frames: Array
    action: Array
    reward: Array
    is_terminal: Array
    state: Array | None = None
    embeddings: dict[str, Array] = field(default_factory=dict)
    prompt: str = ""

    def __len__(self) -> int:
        return len(self.frames)


def check_episode(episode: Episode, spec: StoreSpec, where: str) -> None:
    """Refuse an episode that does not fit into a store.

    Args:
        episode: The episode.
        spec: What the store holds.
        where: The store, as the complaint names it.

    Raises:
        UserError: If there are no rows, or a shape or type is not the store's.
    """
    rows = len(episode.frames)
    if rows == 0:
        raise UserError(f"{where}: an episode without frames cannot be added")
    size = spec.frame_size
    expected = {
        "frames": (episode.frames, (rows, size, size, 3)),
        "action": (episode.action, (rows, spec.action_dim)),
        "reward": (episode.reward, (rows,)),
        "is_terminal": (episode.is_terminal, (rows,)),
    }
    if spec.state_dim:
        if episode.state is None:
            raise UserError(f"{where}: the store keeps states of size {spec.state_dim}, but the episode has none")
        expected["state"] = (episode.state, (rows, spec.state_dim))
    elif episode.state is not None:
        raise UserError(f"{where}: the store keeps no states; add the episode without, or use a new store")
    for name, (array, shape) in expected.items():
        if array.shape != shape:
            raise UserError(
                f"{where}: {name} of the episode has shape {array.shape}, the store needs {shape}; "
                "write episodes of another shape to a new store"
            )
    if episode.frames.dtype != np.uint8:
        raise UserError(f"{where}: frames must be uint8, got {episode.frames.dtype}")
