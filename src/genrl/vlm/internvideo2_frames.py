"""Frames as InternVideo2 sees them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from genrl.infra.errors import UserError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PROMPT_LENGTH = 128
"""A video prompt of k times so many frames is read at every k-th."""
WEIGHT_BITS = 11
"""Of the fixed-point weights in OpenCV's bilinear resizing."""


def middle_square(frames: Tensor) -> Tensor:
    """The largest square in the middle of (..., h, w, 3) frames."""
    height, width = frames.shape[-3:-1]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frames[..., top : top + side, left : left + side, :]


def prepare_frames(frames: Tensor, size: int) -> Tensor:
    """Frames of a data set or an environment: scaled, resized as floats, normalised.

    Args:
        frames: (N, h, w, 3) uint8 RGB.
        size: New height and width, whatever the old ones' ratio.

    Returns:
        (N, 3, size, size) float32.
    """
    images = frames.permute(0, 3, 1, 2).float() / 255
    height, width = images.shape[2:]
    if (height, width) != (size, size):
        smaller = size < height or size < width
        images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=smaller)
    return normalise(images)


def prepare_prompt_frames(frames: Tensor, size: int) -> Tensor:
    """Frames of a video prompt: resized as integers, as OpenCV does, then normalised in double precision.

    The paper's code prepares prompts so; from `prepare_frames` they differ by the rounding alone.

    Args:
        frames: (N, h, w, 3) uint8 RGB.
        size: New height and width.

    Returns:
        (N, 3, size, size) float32.
    """
    return normalise(resize_integers(frames, size).permute(0, 3, 1, 2).double() / 255).float()


def prompt_clip(frames: Tensor, frames_per_clip: int = 8) -> Tensor:
    """The frames of a video prompt that the paper's code embeds: the first ones, at a stride in very long videos.

    Args:
        frames: (T, h, w, 3). One frame is held, four are doubled each.
        frames_per_clip: Frames L to take.

    Returns:
        (L, h, w, 3).

    Raises:
        UserError: If there are too few.
    """
    taken = frames[:: max(len(frames) // PROMPT_LENGTH, 1)][:frames_per_clip]
    if len(taken) in (1, frames_per_clip // 2):
        taken = taken.repeat_interleave(frames_per_clip // len(taken), dim=0)
    if len(taken) != frames_per_clip:
        needs = f"1, {frames_per_clip // 2}, or {frames_per_clip} or more"
        raise UserError(f"the video has {len(frames)} frames; a prompt needs {needs}")
    return taken


def normalise(images: Tensor) -> Tensor:
    """Subtract the mean and divide by the deviation of each channel of (..., 3, h, w) images in [0, 1]."""
    mean, std = (torch.tensor(x, dtype=images.dtype, device=images.device).view(3, 1, 1) for x in (MEAN, STD))
    return (images - mean) / std


def resize_integers(frames: Tensor, size: int) -> Tensor:
    """Bilinear resizing of uint8 frames in fixed point, bit for bit that of OpenCV's `resize`.

    Args:
        frames: (N, h, w, 3) uint8.
        size: New height and width.

    Returns:
        (N, size, size, 3) uint8.
    """
    height, width = frames.shape[1:3]
    if (height, width) == (size, size):
        return frames
    pixels = frames.int()
    left, right, left_weight, right_weight = _taps(width, size, frames.device, clamp_weights=True)
    rows = pixels[:, :, left] * left_weight[:, None] + pixels[:, :, right] * right_weight[:, None]
    top, bottom, top_weight, bottom_weight = _taps(height, size, frames.device, clamp_weights=False)
    # Four bits are dropped before the second product and sixteen after it, each tap by itself.
    above = ((rows[:, top] >> 4) * top_weight[:, None, None]) >> 16
    below = ((rows[:, bottom] >> 4) * bottom_weight[:, None, None]) >> 16
    return ((above + below + 2) >> 2).clamp(0, 255).to(torch.uint8)


def _taps(old: int, new: int, device: torch.device, clamp_weights: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two source indices and their whole-number weights for each of `new` places.

    Beyond the border OpenCV gives columns the nearest pixel alone, rows twice the same one under both weights.
    """
    places = ((torch.arange(new, dtype=torch.float64) + 0.5) * (old / new) - 0.5).float()
    first = places.floor().int()
    share = places - first
    if clamp_weights:
        share = torch.where((first < 0) | (first >= old - 1), 0.0, share)
    one = 1 << WEIGHT_BITS
    weights = ((1 - share) * one).round().int(), (share * one).round().int()
    # Where a weight is clamped its second tap counts for nothing, so that both directions may share this.
    second = first + 1
    first, second = first.clamp(0, old - 1), second.clamp(0, old - 1)
    return first.to(device), second.to(device), weights[0].to(device), weights[1].to(device)
