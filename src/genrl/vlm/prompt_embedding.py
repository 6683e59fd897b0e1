"""How words and videos become the one embedding of a prompt."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from genrl.infra.clips import ClipConfig, read_clips
from genrl.infra.errors import UserError
from genrl.vlm.protocol import VideoLanguageModel

BASELINE_STRENGTH = 0.5
WHOLE_CLIP = ClipConfig()


def mean_embedding(embeddings: Tensor) -> Tensor:
    """(N, E) unit embeddings of several wordings of one prompt -> (E,) the unit vector along their mean."""
    return F.normalize(embeddings.mean(0), dim=-1)


def against_baseline(goal: Tensor, baseline: Tensor, strength: float) -> Tensor:
    """A goal's embedding with less of what it has in common with a baseline.

    With d the unit vector from baseline b to goal g, the share `strength` (alpha) of g is replaced by its projection
    onto d: normalise(alpha d (d . g) + (1 - alpha) g). At 0 this is g, at 1 the direction d alone.

    Args:
        goal: (..., E) unit embeddings of what is wanted, such as "a person kneeling".
        baseline: (E,) unit embedding of what is there anyway, such as "a person".
        strength: alpha in [0, 1].

    Returns:
        (..., E) unit embeddings.

    Raises:
        UserError: If the strength lies elsewhere, or a goal equals the baseline.

    Source: the goal-baseline regularisation of VLM-RM (arXiv 2310.12921, definition 1), which maps the differences of
    an image's embedding from g in this way. Here the goal's embedding is what can be chosen, so the same linear map is
    applied to it.
    """
    if not 0.0 <= strength <= 1.0:
        raise UserError(f"--baseline-strength must lie in [0, 1], got {strength}")
    difference = goal - baseline
    if bool((difference.norm(dim=-1) < 1e-4).any()):
        raise UserError(
            "--baseline-prompt means the same as the prompt, nothing would be left; choose a more general one"
        )
    direction = F.normalize(difference, dim=-1)
    projected = (direction * goal).sum(-1, keepdim=True) * direction
    return F.normalize(strength * projected + (1.0 - strength) * goal, dim=-1)


def embed_video_file(model: VideoLanguageModel, path: Path, clip: ClipConfig, rate: float) -> Tensor:
    """(E,) mean embedding of the clips of a video file, an animation, or an image (a pose to hold).

    Args:
        model: Embeds the clips.
        path: The file.
        clip: Which part of it, and which frames. A long video is read at moments spread evenly over it.
        rate: Frames per second of what the world model has seen.

    Raises:
        UserError: If the file cannot be read, or holds too little.
    """
    found = read_clips(path, clip, model.frames_per_clip, rate, model.image_size)
    if found.total > len(found.clips):
        warnings.warn(
            f"{path} is long: {len(found.clips)} of its {found.total} clips of {model.frames_per_clip} frames are "
            "read, evenly spread; choose a part with --clip.start and --clip.stop",
            stacklevel=3,
        )
    return mean_embedding(model.embed_video(torch.from_numpy(found.clips)))
