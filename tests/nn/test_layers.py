"""Layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from genrl.nn.layers import ChannelNorm, LayerNormGRU


def test_channel_norm_equals_layer_norm_at_each_pixel() -> None:
    x = torch.randn(2, 5, 3, 4)
    y = ChannelNorm(5)(x)
    torch.testing.assert_close(y[1, :, 2, 3], F.layer_norm(x[1, :, 2, 3], (5,), eps=1e-3))


def test_a_whole_sequence_equals_one_step_after_the_other() -> None:
    gru = LayerNormGRU(4, 6)
    x, hidden = torch.randn(3, 7, 4), torch.randn(3, 6)
    keep = (torch.rand(3, 7) > 0.3).float()
    states = gru.sequence(gru.project(x), hidden, keep)
    for t in range(7):
        hidden = gru.step(gru.project(x[:, t]), hidden * keep[:, t, None])
        torch.testing.assert_close(states[:, t], hidden)


def test_a_fresh_gru_keeps_most_of_its_state() -> None:
    gru = LayerNormGRU(2, 3)
    torch.nn.init.zeros_(gru.gates.weight)
    hidden = torch.ones(1, 3)
    # All gates zero: candidate tanh(0) = 0, update sigmoid(-1) = 0.2689.
    torch.testing.assert_close(gru.step(torch.zeros(1, 9), hidden), hidden * (1 - torch.sigmoid(torch.tensor(-1.0))))
