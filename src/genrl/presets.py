"""Named configurations of the verbs."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {}
"""Verb -> preset name -> config; the first preset of a verb is its default."""
