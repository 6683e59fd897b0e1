"""Measures a model's open-loop prediction: numbers and picture of its model card.

    python recipes/predict_model.py --model walker-mini --data DATA --out prediction

5 frames are shown, 40 follow along the true actions. The error is beside that of copying the last frame shown, store
by store, over windows drawn evenly from all episodes. Writes OUT/prediction.json and OUT/prediction.png, where rows are
truth and prediction in turn, and a line marks the end of what was shown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from genrl.data.sampler import WindowSampler
from genrl.data.store import find_stores
from genrl.evaluation.prediction import Prediction, predict_open_loop
from genrl.infra.checkpoint import atomic_write
from genrl.infra.media import write_png
from genrl.run.prompting import load_model

SHOWN_STEPS = (0, 2, 4, 6, 8, 10, 13, 16, 20, 24, 29, 34, 39, 44)


@dataclass(frozen=True)
class PredictConfig:
    """What to predict."""

    data: tuple[Path, ...]
    """Stores, or directories of stores."""
    model: str = "walker-mini"
    out: Path = Path("prediction")
    windows: int = 128
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
        table[store.name] = errors(prediction)
        pictures.append(strip(prediction))
    table["all"] = {name: float(np.mean([row[name] for row in table.values()])) for name in table[stores[0].name]}
    table["all"]["relative"] = table["all"]["predicted"] / table["all"]["copied"]
    atomic_write(config.out / "prediction.json", json.dumps(table, indent=2) + "\n")
    write_png(config.out / "prediction.png", np.concatenate(pictures))
    print(f"{'mean squared error':24s} predicted  copied  reconstructed  predicted / copied")
    for name, row in table.items():
        numbers = f"{row['predicted']:.4f}     {row['copied']:.4f}  {row['reconstructed']:.4f}"
        print(f"{name:24s} {numbers}         {row['relative']:.2f}")


def errors(prediction: Prediction) -> dict[str, float]:
    """Means over the predicted steps, pixels in 0 ... 1."""
    after = slice(prediction.context, None)
    return {
        "predicted": float(prediction.error[after].mean()),
        "copied": float(prediction.copy_error[after].mean()),
        "reconstructed": float(prediction.reconstruction_error[after].mean()),
        "relative": prediction.relative_error,
    }


def strip(prediction: Prediction, rows: int = 1) -> NDArray[np.uint8]:
    """(H, W, 3) picture: truth above prediction, time to the right."""
    steps = [step for step in SHOWN_STEPS if step < prediction.true_frames.shape[1]]
    lines = []
    for window in range(rows):
        for frames in (prediction.true_frames[window], prediction.predicted_frames[window]):
            shown = [frames[step].copy() for step in steps]
            first_predicted = next(i for i, step in enumerate(steps) if step >= prediction.context)
            shown[first_predicted][:, :2] = 255
            lines.append(np.concatenate(shown, axis=1))
    return np.concatenate(lines)


if __name__ == "__main__":
    main(tyro.cli(PredictConfig, description=__doc__))
