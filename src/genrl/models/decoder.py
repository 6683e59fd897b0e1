"""Latent samples to images. The decoder never sees the recurrent state."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genrl.models.encoder import normalise
from genrl.nn.layers import ChannelNorm, Deconvolution, channels_last

KERNELS = (5, 5, 6, 6)


class Decoder(nn.Module):
    """A Linear layer, then four transposed convolutions of stride 2, 1 x 1 to 64 x 64.

    The output of the Linear layer is also the feature in which rewards compare states (`state_features`).

    Args:
        stoch_dim: Size S*K of the flattened sample.
        depth: Channels of the last hidden layer; the earlier ones double them.
    """

    def __init__(self, stoch_dim: int, depth: int) -> None:
        super().__init__()
        channels = [32 * depth, 4 * depth, 2 * depth, depth, 3]
        self.input = nn.Linear(stoch_dim, channels[0])
        layers: list[nn.Module] = []
        for index, kernel in enumerate(KERNELS):
            layers.append(Deconvolution(channels[index], channels[index + 1], kernel, stride=2))
            if index < len(KERNELS) - 1:
                layers += [ChannelNorm(channels[index + 1]), nn.SiLU()]
        self.layers = channels_last(nn.Sequential(*layers))

    def state_features(self, stoch: Tensor) -> Tensor:
        """(..., S, K) samples -> (..., 32 depth) first linear layer, g(s) of the paper's reward."""
        return self.input(stoch.flatten(-2))

    def forward(self, stoch: Tensor) -> Tensor:
        """(..., S, K) samples -> (..., 3, 64, 64) mean images in -0.5 ... 0.5."""
        quads = self.quads(stoch)
        size = quads.shape[-2]
        rows = quads.unflatten(-1, (2, 2, 3)).transpose(-4, -3)  # row, place in it, column, place in it, colour
        return rows.reshape(*stoch.shape[:-2], 2 * size, 2 * size, 3).movedim(-1, -3)

    def loss(self, stoch: Tensor, frames: Tensor) -> Tensor:
        """Reconstruction loss of (..., S, K) samples against (..., 64, 64, 3) uint8 frames -> (...,)."""
        return reconstruction_loss(self.quads(stoch), quads_of(frames))

    def quads(self, stoch: Tensor) -> Tensor:
        """(..., S, K) samples -> (..., 32, 32, 12) mean images in -0.5 ... 0.5, each 2 x 2 pixels a row of numbers.

        That is how the last layer makes them. The loss does not mind the order, and putting the pixels in theirs would
        take longer than the layer.
        """
        features = self.state_features(stoch).flatten(0, -2)
        first = self.layers[0]
        assert isinstance(first, nn.ConvTranspose2d) and first.bias is not None
        # On a 1 x 1 image a transposed convolution is a matrix product; written so, it is several times faster.
        # Rows of the weight are put in (row, column, channel) order, which is channels-last for what follows.
        weight = first.weight.permute(2, 3, 1, 0).flatten(0, 2)
        x = F.linear(features, weight).view(-1, KERNELS[0], KERNELS[0], first.out_channels)
        x = (x + first.bias).permute(0, 3, 1, 2)
        return self.output(self.layers[1:-1](x)).unflatten(0, stoch.shape[:-2])

    def output(self, x: Tensor) -> Tensor:
        """Last layer, (N, depth, 30, 30) to (N, 32, 32, 12).

        A transposed convolution of kernel 6 and stride 2 is a 3 x 3 convolution to four times the channels, one set for
        each of the 2 x 2 places an input pixel makes; on a CPU this is a third faster, the values are the same.
        """
        last = self.layers[-1]
        assert isinstance(last, nn.ConvTranspose2d) and last.bias is not None
        inputs, outputs = last.in_channels, last.out_channels
        # From (channel in, out, row tap, row place, column tap, column place).
        taps = last.weight.view(inputs, outputs, 3, 2, 3, 2).flip(2, 4)
        weight = taps.permute(3, 5, 1, 0, 2, 4).reshape(4 * outputs, inputs, 3, 3)
        # Where the convolution makes the borders, its weight's gradient takes ten times as long in bfloat16.
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 2, 2, 2, 2)).permute(0, 3, 1, 2)
        quads = F.conv2d(x, weight.contiguous(memory_format=torch.channels_last))
        return quads.permute(0, 2, 3, 1) + last.bias.repeat(4)


def quads_of(frames: Tensor) -> Tensor:
    """(..., h, w, 3) -> (..., h / 2, w / 2, 12), in the order of `Decoder.quads`."""
    height, width, colours = frames.shape[-3:]
    places = frames.unflatten(-3, (height // 2, 2)).unflatten(-2, (width // 2, 2))
    return places.transpose(-4, -3).reshape(*frames.shape[:-3], height // 2, width // 2, 4 * colours)


def reconstruction_loss(mean: Tensor, frames: Tensor) -> Tensor:
    """(..., h, w, c) images, uint8 frames -> (...,) sum of squared errors, without the factor 1/2 (as the original)."""
    return _SquaredError.apply(mean, frames)


class _SquaredError(torch.autograd.Function):
    """Keeps the error alone: one pass over the images forwards and one backwards."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, frames: Tensor) -> Tensor:
        """Sum over the last three dimensions."""
        error = mean.float() - normalise(frames)
        ctx.save_for_backward(error)
        return error.square().sum((-3, -2, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Frames have no gradient."""
        (error,) = ctx.saved_tensors
        return error * (2 * grad[..., None, None, None]), None
