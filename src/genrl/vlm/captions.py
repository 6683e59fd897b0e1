"""Captions: many wordings of every concept, and how one is drawn for training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from genrl.vlm.bodies import CONCEPTS, FOUR_LEGGED

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
FOUR_LEGGED_SUBJECTS = (
    "a dog",
    "a robot dog",
    "a cat",
    "an animal",
    "a beast",
    "an insect",
    "a spider robot",
    "a four-legged robot",
    "a quadruped robot",
    "a simulated animal",
)
"""The same for four-legged bodies."""
SUBJECT_SHARE = 0.35


def load_captions() -> dict[str, list[str]]:
    """Wordings that training uses, by concept."""
    captions = json.loads(CAPTIONS_FILE.read_text())
    assert set(captions) == set(CONCEPTS), set(captions) ^ set(CONCEPTS)
    return captions


def load_held_out_wordings() -> dict[str, list[str]]:
    """Wordings that no caption may use, by the concept that they mean; retrieval is measured on them."""
    return json.loads(HELD_OUT_FILE.read_text())


def subjects_of(concept: str) -> tuple[str, ...]:
    """Who does what the concept says."""
    return FOUR_LEGGED_SUBJECTS if concept in FOUR_LEGGED else SUBJECTS


def draw_caption(concept: str, wordings: list[str], rng: np.random.Generator) -> str:
    """One wording of a concept, sometimes with a subject before it."""
    wording = wordings[rng.integers(len(wordings))]
    if wording.split()[0].endswith("ing") and rng.random() < SUBJECT_SHARE:
        subjects = subjects_of(concept)
        return f"{subjects[rng.integers(len(subjects))]} {wording}"
    return wording
