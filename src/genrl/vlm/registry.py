"""Video-language models by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from genrl.infra.errors import UserError, did_you_mean
from genrl.vlm.mini import MINI_VLM_DIRECTORY, MiniVLM
from genrl.vlm.protocol import VideoLanguageModel


def _load_shipped_mini() -> VideoLanguageModel:
    return MiniVLM.load(MINI_VLM_DIRECTORY)


BACKENDS: dict[str, Callable[[], VideoLanguageModel]] = {"mini": _load_shipped_mini}


def list_vlms() -> list[str]:
    """Names that `load_vlm` knows."""
    return sorted(BACKENDS)


def column_name(name: str) -> str:
    """Name of the embedding column that a model of this name, or in this directory, writes."""
    return load_vlm(name).name if name not in BACKENDS and Path(name).is_dir() else name


def load_vlm(name: str = "mini", device: str | torch.device = "cpu") -> VideoLanguageModel:
    """Load a video-language model, frozen and in evaluation mode.

    Args:
        name: A name of `list_vlms`, or the directory of a mini VLM that `genrl train-vlm` wrote.
        device: Where it computes.

    Raises:
        UserError: If there is no such model.
    """
    if name in BACKENDS:
        model = BACKENDS[name]()
    elif Path(name).is_dir():
        # The run directory of `genrl train-vlm` holds the model one level below.
        inside = Path(name) / "model"
        model = MiniVLM.load(inside if inside.is_dir() else Path(name))
    else:
        hint = did_you_mean(name, list_vlms())
        raise UserError(f"--vlm: unknown model {name!r}; {hint} (a directory of a trained mini VLM works too)")
    if isinstance(model, torch.nn.Module):
        model.to(device).eval().requires_grad_(False)
    return model
