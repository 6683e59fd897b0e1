"""What every video tower does to clips before it reads them."""

from __future__ import annotations

import torch
from torch import Tensor


def check_clips(clips: Tensor) -> None:
    """Refuse anything but (N, L, h, w, 3) uint8 with L of at least 1."""
    if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != torch.uint8 or clips.shape[1] == 0:
        raise ValueError(f"clips must be (N, L, h, w, 3) uint8, got {tuple(clips.shape)} {clips.dtype}")


def resample_clips(clips: Tensor, frames_per_clip: int) -> Tensor:
    """(N, L, ...) clips of another length: each new frame is the nearest old one."""
    if clips.shape[1] == frames_per_clip:
        return clips
    positions = torch.linspace(0, clips.shape[1] - 1, frames_per_clip).round().long()
    return clips[:, positions.to(clips.device)]


def middle_square(frames: Tensor) -> Tensor:
    """(..., h, w, 3) -> (..., side, side, 3), the square in the middle."""
    height, width = frames.shape[-3:-1]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frames[..., top : top + side, left : left + side, :]
