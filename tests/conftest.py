"""Settings of every test."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

# Before torch and MuJoCo are imported: tests run side by side, and a second thread on a busy core costs far more than
# it gains.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest  # noqa: E402
import torch  # noqa: E402

from genrl.envs.gl import load_triton  # noqa: E402

load_triton()  # Some tests draw without `require_gl`.

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """No test depends on what ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script of `recipes` by its name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "recipes"))
    return importlib.import_module
