"""Position tables of InternVideo2: how they begin, and how they are taken to other clips and frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sincos_positions(dim: int, frames: int, grid: int) -> Tensor:
    """Sine-cosine table that training starts from.

    A quarter of the channels encodes the frame, then three eighths the column and three eighths the row of the patch.

    Args:
        dim: Channels, a multiple of 16.
        frames: Frames T of a clip.
        grid: Patches G along a side of a frame.

    Returns:
        (1, 1 + T*G*G, dim) float32; the class token's row is zero, then frame by frame, row by row.
    """
    assert dim % 16 == 0, dim
    time, rows, columns = (torch.arange(n, dtype=torch.float64) for n in (frames, grid, grid))
    shape = (frames, grid, grid)
    parts = [
        _waves(time, dim // 4).view(frames, 1, 1, -1).expand(*shape, -1),
        _waves(columns, dim * 3 // 8).view(1, 1, grid, -1).expand(*shape, -1),
        _waves(rows, dim * 3 // 8).view(1, grid, 1, -1).expand(*shape, -1),
    ]
    table = torch.cat(parts, dim=-1).view(-1, dim)
    return F.pad(table, (0, 0, 1, 0)).unsqueeze(0).float()


def interpolate_positions(table: Tensor, stored: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    """Take a table to another number of frames (linearly) and another grid (bicubically), without aligned corners.

    Args:
        table: (1, 1 + T*G*G, D).
        stored: Frames T and grid G of the table.
        wanted: Frames and grid of the result.

    Returns:
        A table of the wanted size in float32; the class token's row is kept as it is.
    """
    (frames, grid), (new_frames, new_grid) = stored, wanted
    assert table.shape[1] == 1 + frames * grid * grid, (table.shape, stored)
    first, patches = table[:, :1].float(), table[0, 1:].float()
    dim = table.shape[2]
    if new_frames != frames:
        series = patches.view(frames, grid * grid, dim).permute(1, 2, 0)  # (G*G, D, T)
        patches = F.interpolate(series, new_frames, mode="linear", align_corners=False).permute(2, 0, 1)
    if new_grid != grid:
        images = patches.reshape(new_frames, grid, grid, dim).permute(0, 3, 1, 2)
        images = F.interpolate(images, (new_grid, new_grid), mode="bicubic", align_corners=False)
        patches = images.permute(0, 2, 3, 1)
    return torch.cat([first, patches.reshape(1, -1, dim)], dim=1)


def _waves(positions: Tensor, dim: int) -> Tensor:
    """(N, dim) sines, then cosines, of (N,) positions at wavelengths from 2 pi to nearly 2 pi * 10000."""
    frequencies = 10_000.0 ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angles = positions[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
