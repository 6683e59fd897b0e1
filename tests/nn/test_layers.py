"""Layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from genrl.nn.layers import ChannelNorm


def test_channel_norm_equals_layer_norm_at_each_pixel() -> None:
    x = torch.randn(2, 5, 3, 4)
    y = ChannelNorm(5)(x)
    torch.testing.assert_close(y[1, :, 2, 3], F.layer_norm(x[1, :, 2, 3], (5,), eps=1e-3))
