"""Codes, and what they show, for tests."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

VARIABLES, CLASSES = 3, 4


def random_codes(*shape: int) -> Tensor:
    """(*shape, S, K) one-hot codes."""
    return F.one_hot(torch.randint(CLASSES, (*shape, VARIABLES)), CLASSES).float()


def fixed_view(embed_dim: int) -> Callable[[Tensor], Tensor]:
    """(N, L, S, K) clips -> (N, E) unit embeddings, a linear map of the clip's mean code and of its last one."""
    weight = torch.randn(embed_dim, 2 * VARIABLES * CLASSES, generator=torch.Generator().manual_seed(3))

    def view(clips: Tensor) -> Tensor:
        codes = clips.flatten(-2)
        return F.normalize(torch.cat([codes.mean(1), codes[:, -1]], dim=-1) @ weight.T, dim=-1)

    return view
