"""Copies a pretrained model, and its general policy if it has one, into the package as float16.

python recipes/ship_model.py MODEL_DIRECTORY NAME
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from genrl.behavior.general import GeneralPolicy
from genrl.infra.checkpoint import load_checkpoint
from genrl.models.foundation import FoundationModel
from genrl.run.prompting import ASSETS, GENERAL

MAX_BYTES = 15_000_000
"""Weights in the package stay below this."""


def ship(source: Path, name: str) -> Path:
    """Writes `assets/NAME`; returns it."""
    facts = load_checkpoint(source)[1]
    target = ASSETS / name
    model = FoundationModel.load(source)
    model.save(target, dtype=torch.float16, updates=facts["updates"], measured=facts["measured"])
    if (source / GENERAL).is_dir():
        GeneralPolicy.load(source / GENERAL, model).save(target / GENERAL, torch.float16)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    if size > MAX_BYTES:
        raise ValueError(f"{target} has {size} bytes; the package takes {MAX_BYTES} at most")
    print(f"{target}: {size / 1e6:.1f} MB")
    return target


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    ship(Path(sys.argv[1]), sys.argv[2])
