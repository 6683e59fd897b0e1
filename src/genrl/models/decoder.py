"""Latent samples to images. The decoder never sees the recurrent state."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrl.nn.layers import ChannelNorm, channels_last

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
            layers.append(nn.ConvTranspose2d(channels[index], channels[index + 1], kernel, stride=2))
            if index < len(KERNELS) - 1:
                layers += [ChannelNorm(channels[index + 1]), nn.SiLU()]
        self.layers = channels_last(nn.Sequential(*layers))

    def state_features(self, stoch: Tensor) -> Tensor:
        """(..., S, K) samples -> (..., 32 depth) first linear layer, g(s) of the paper's reward."""
        return self.input(stoch.flatten(-2))

    def forward(self, stoch: Tensor) -> Tensor:
        """(..., S, K) samples -> (..., 3, 64, 64) mean images in -0.5 ... 0.5."""
        batch = stoch.shape[:-2]
        features = self.state_features(stoch).flatten(0, -2)
        first = self.layers[0]
        assert isinstance(first, nn.ConvTranspose2d) and first.bias is not None
        # On a 1 x 1 image a transposed convolution is a matrix product; written so, it is several times faster.
        # Rows of the weight are put in (row, column, channel) order, which is channels-last for what follows.
        weight = first.weight.permute(2, 3, 1, 0).flatten(0, 2)
        x = F.linear(features, weight).view(-1, KERNELS[0], KERNELS[0], first.out_channels)
        x = (x + first.bias).permute(0, 3, 1, 2)
        x = self.layers[1:-1](x)
        return self.output(x).unflatten(0, batch)

    def output(self, x: Tensor) -> Tensor:
        """Last layer, (N, depth, 30, 30) to (N, 3, 64, 64).

        A transposed convolution of kernel 6 and stride 2 is a 3 x 3 convolution to four times the channels, one set for
        each of the 2 x 2 places an input pixel makes; on a CPU this is a third faster, the values are the same.
        """
        last = self.layers[-1]
        assert isinstance(last, nn.ConvTranspose2d) and last.bias is not None
        inputs, outputs = last.in_channels, last.out_channels
        taps = last.weight.view(inputs, outputs, 3, 2, 3, 2).flip(
            2, 4
        )  # channel in, out, row tap, row place, column ...
        weight = taps.permute(3, 5, 1, 0, 2, 4).reshape(4 * outputs, inputs, 3, 3)
        places = F.conv2d(x, weight.contiguous(memory_format=torch.channels_last), last.bias.repeat(4), padding=2)
        size = places.shape[-1]
        places = places.permute(0, 2, 3, 1).reshape(-1, size, size, 2, 2, outputs)
        image = places.permute(0, 1, 3, 2, 4, 5).reshape(-1, 2 * size, 2 * size, outputs)
        return image.permute(0, 3, 1, 2)


def reconstruction_loss(mean: Tensor, images: Tensor) -> Tensor:
    """(..., 3, h, w) twice -> (...,) sum of squared errors, without the factor 1/2 (as the original has it)."""
    return F.mse_loss(mean.float(), images, reduction="none").sum((-3, -2, -1))
