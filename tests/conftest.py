"""Settings of every test."""

from __future__ import annotations

import os

# Before torch and MuJoCo are imported: tests run side by side, and a second thread on a busy core costs far more than
# it gains.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """No test depends on what ran before it."""
    torch.manual_seed(0)
