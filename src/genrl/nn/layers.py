"""Layers that every network here is made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNEL_NORM_EPS = 1e-3
"""The original's epsilon in convolutions; LayerNorm elsewhere has torch's 1e-5."""


def channels_last(layers: nn.Sequential) -> nn.Sequential:
    """Puts the weights of convolutions into the channels-last memory format: with it `ChannelNorm` copies nothing."""
    return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it


class ChannelNorm(nn.Module):
    """LayerNorm over the channels at each pixel of a (N, C, h, w) image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> the same shape."""
        # In the channels-last memory format both permutations are free. Always in float32: over few channels the CPU's
        # norm of bfloat16 takes twice as long, and a GPU's autocast does the same.
        y = F.layer_norm(x.permute(0, 2, 3, 1).float(), (x.shape[1],), self.weight, self.bias, CHANNEL_NORM_EPS)
        return y.to(x.dtype).permute(0, 3, 1, 2)


class Deconvolution(nn.ConvTranspose2d):
    """Transposed convolution; on a CPU its bias, added apart, has a gradient several times as fast."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # no output size
        """(N, C, h, w) -> (N, C', h', w')."""
        assert self.bias is not None
        return F.conv_transpose2d(x, self.weight, stride=self.stride) + self.bias[:, None, None]


def hidden_layers(input_dim: int, hidden_dim: int, num_layers: int) -> nn.Sequential:
    """Linear, LayerNorm, SiLU, `num_layers` times."""
    layers: list[nn.Module] = []
    for index in range(num_layers):
        layers += [nn.Linear(input_dim if index == 0 else hidden_dim, hidden_dim), nn.LayerNorm(hidden_dim), nn.SiLU()]
    return nn.Sequential(*layers)


class MLP(nn.Module):
    """`num_layers` hidden layers of Linear, LayerNorm, SiLU, then a Linear to `output_dim`."""

    def __init__(self, input_dim: int, output_dim: int, hidden_dim: int, num_layers: int) -> None:
        super().__init__()
        self.hidden = hidden_layers(input_dim, hidden_dim, num_layers)
        self.output = nn.Linear(hidden_dim, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) -> (..., output_dim)."""
        return self.output(self.hidden(x))
