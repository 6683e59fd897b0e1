"""Captions: many wordings of every concept, and how one is drawn for training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from genrl.vlm.behaviours import CONCEPTS

CAPTIONS_FILE = Path(__file__).parent / "captions.json"
HELD_OUT_FILE = Path(__file__).parent / "held_out_wordings.json"

SUBJECTS = (
    "a person",
    "a robot",
    "someone",
    "a walker",
    "a stick figure",
    "a two-legged robot",
    "a humanoid",
    "a figure",
    "a man",
    "a simulated body",
)
"""Who may be named before a caption that begins with a verb in -ing."""
SUBJECT_SHARE = 0.35


def load_captions() -> dict[str, list[str]]:
    """Wordings that training uses, by concept."""
    captions = json.loads(CAPTIONS_FILE.read_text())
    assert set(captions) == set(CONCEPTS), set(captions) ^ set(CONCEPTS)
    return captions


def load_held_out_wordings() -> dict[str, list[str]]:
    """Wordings that no caption may use, by the concept that they mean; retrieval is measured on them."""
    return json.loads(HELD_OUT_FILE.read_text())


def draw_caption(wordings: list[str], rng: np.random.Generator) -> str:
    """One wording, sometimes with a subject before it."""
    wording = wordings[rng.integers(len(wordings))]
    if wording.split()[0].endswith("ing") and rng.random() < SUBJECT_SHARE:
        return f"{SUBJECTS[rng.integers(len(SUBJECTS))]} {wording}"
    return wording
