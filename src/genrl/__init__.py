"""Behaviours from text and video prompts, learnt in the imagination of a multimodal-foundation world model."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = ("load", "learn", "evaluate")
__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    """Import `genrl.api` on first use: `import genrl` itself loads neither torch nor a simulator."""
    if name in _LAZY:
        return getattr(import_module("genrl.api"), name)
    raise AttributeError(f"module 'genrl' has no attribute {name!r}")
