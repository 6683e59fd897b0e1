"""Measures a model's open-loop prediction: numbers and picture of its model card.

    python recipes/predict_model.py --model walker-mini --data DATA --out prediction

5 frames are shown, 40 follow along the true actions: one sampled future, and the mean of eight. The errors stand beside
that of copying the last frame shown, store by store, over windows drawn at random. Writes OUT/prediction.json and
OUT/prediction.png, where rows are truth and one future in turn, and a line marks the end of what was shown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from model_cards import prediction_table
from numpy.typing import NDArray

from genrl.data.sampler import WindowSampler
from genrl.data.store import find_stores
from genrl.evaluation.prediction import Prediction, predict_open_loop
from genrl.infra.checkpoint import atomic_write
from genrl.infra.media import write_png
from genrl.run.pretrain import prediction_errors
from genrl.run.prompting import load_model

SHOWN_STEPS = (0, 2, 4, 6, 8, 10, 13, 16, 20, 24, 29, 34, 39, 44)


@dataclass(frozen=True)
class PredictConfig:
    """What to predict."""

    data: tuple[Path, ...]
    """Stores, or directories of stores."""
    model: str = "walker-mini"
    out: Path = Path("prediction")
    windows: int = 32
    """Windows of each store."""
    context: int = 5
    """Frames shown."""
    horizon: int = 40
    """Frames predicted."""
    seed: int = 0


def main(config: PredictConfig) -> None:
    """Measures, draws, writes both files."""
    torch.manual_seed(config.seed)
    model = load_model(config.model).model
    stores = find_stores(config.data)
    table, pictures = {}, []
    for store in stores:
        sampler = WindowSampler((store,), config.context + config.horizon, config.windows, config.seed)
        prediction = predict_open_loop(model.world_model, sampler.batch(0), config.context)
        table[store.name] = prediction_errors(prediction)
        pictures.append(strip(prediction))
    table["all"] = {name: float(np.mean([row[name] for row in table.values()])) for name in table[stores[0].name]}
    copied = table["all"]["prediction/copy_error"]
    table["all"]["prediction/relative_error"] = table["all"]["prediction/error"] / copied
    table["all"]["prediction/relative_mean_error"] = table["all"]["prediction/mean_error"] / copied
    atomic_write(config.out / "prediction.json", json.dumps(table, indent=2) + "\n")
    write_png(config.out / "prediction.png", np.concatenate(pictures))
    print(prediction_table(table))


def strip(prediction: Prediction) -> NDArray[np.uint8]:
    """(2 h, W, 3) picture of the first window: truth above prediction, time to the right."""
    steps = [step for step in SHOWN_STEPS if step < prediction.true_frames.shape[1]]
    rows = []
    for frames in (prediction.true_frames[0], prediction.predicted_frames[0]):
        tiles = frames[steps].copy()
        tiles[sum(step < prediction.context for step in steps) :][:1, :, :2] = 255
        rows.append(np.concatenate(list(tiles), axis=1))
    return np.concatenate(rows)


if __name__ == "__main__":
    main(tyro.cli(PredictConfig, description=__doc__))
