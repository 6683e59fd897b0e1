"""Texts for `genrl practice --goal-texts`: captions of every behaviour that a body can show, as many of each.

They are captions that the mini VLM was trained with, none of them a prompt of the benchmark or a wording set aside.

    python recipes/practice_texts.py stickman > texts.txt
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tyro

from genrl.vlm.bodies import get_body
from genrl.vlm.captions import load_captions


@dataclass(frozen=True)
class PracticeTexts:
    """Captions of every behaviour of a body, as many of each, one a line."""

    domain: tyro.conf.Positional[str]
    """Body, such as stickman."""
    count: int = 60
    """Texts of each behaviour."""
    seed: int = 0


def draw_texts(config: PracticeTexts) -> list[str]:
    """Distinct captions, behaviour by behaviour."""
    captions, random = load_captions(), np.random.default_rng(config.seed)
    return [
        str(text)
        for concept in get_body(config.domain).classes
        for text in random.permutation(captions[concept])[: config.count]
    ]


if __name__ == "__main__":
    print("\n".join(draw_texts(tyro.cli(PracticeTexts))))
