"""Frames to embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genrl.nn.layers import ChannelNorm, channels_last

NUM_LAYERS = 4
FRAME_SIZE = 64


def normalise_frames(frames: Tensor) -> Tensor:
    """(..., h, w, 3) uint8 -> (..., 3, h, w) float in -0.5 ... 0.5, channels-last in memory."""
    return normalise(frames.movedim(-1, -3))


def normalise(frames: Tensor) -> Tensor:
    """uint8 -> float in -0.5 ... 0.5."""
    return frames.to(torch.float32).div_(255.0).sub_(0.5)


def frames_from_images(images: Tensor) -> Tensor:
    """(..., 3, h, w) floats of a decoder -> (..., h, w, 3) uint8 frames."""
    return ((images.float() + 0.5).clamp(0, 1) * 255.0).round().to(torch.uint8).movedim(-3, -1)


class Encoder(nn.Module):
    """Four strided convolutions, 64 x 64 to 2 x 2, each with channel norm and SiLU.

    Args:
        depth: Channels of the first layer; each next layer doubles them.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        channels = [3, *(depth * 2**layer for layer in range(NUM_LAYERS))]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(channels, channels[1:], strict=False):
            layers += [nn.Conv2d(inputs, outputs, kernel_size=4, stride=2), ChannelNorm(outputs), nn.SiLU()]
        self.layers = channels_last(nn.Sequential(*layers))
        self.output_dim = channels[-1] * 2 * 2

    def forward(self, images: Tensor) -> Tensor:
        """(..., 3, 64, 64) images in -0.5 ... 0.5 -> (..., output_dim) in channel, row, column order."""
        batch = images.shape[:-3]
        x = images.reshape(-1, *images.shape[-3:]).contiguous(memory_format=torch.channels_last)
        return self.layers(x).flatten(1).unflatten(0, batch)
