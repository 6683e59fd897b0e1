"""Open-loop prediction: what the world model sees coming from a few frames and the actions that follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrl.data.batch import SequenceBatch
from genrl.models.encoder import frames_from_images, normalise_frames
from genrl.models.world_model import WorldModel


@dataclass(frozen=True)
class Prediction:
    """An open-loop prediction beside the truth.

    Attributes:
        true_frames: (B, T, h, w, 3) uint8.
        predicted_frames: (B, T, h, w, 3) uint8; the context is reconstructed, the rest is one sampled future.
        error: (T,) mean squared error per step of that future, pixels in 0 ... 1.
        mean_error: (T,) the same for the mean over several sampled futures, the model's expectation.
        copy_error: (T,) the same for copying the last context frame.
        reconstruction_error: (T,) the same for reconstructing each frame: what prediction cannot beat.
        context: Frames that were shown.
    """

    true_frames: NDArray[np.uint8]
    predicted_frames: NDArray[np.uint8]
    error: NDArray[np.float32]
    mean_error: NDArray[np.float32]
    copy_error: NDArray[np.float32]
    reconstruction_error: NDArray[np.float32]
    context: int

    @property
    def relative_error(self) -> float:
        """Error after the context, over that of copying the last context frame."""
        return float(self.error[self.context :].mean() / self.copy_error[self.context :].mean())

    @property
    def relative_mean_error(self) -> float:
        """The same for the mean over several futures."""
        return float(self.mean_error[self.context :].mean() / self.copy_error[self.context :].mean())


@torch.no_grad()
def predict_open_loop(
    world_model: WorldModel, batch: SequenceBatch, context: int = 5, num_futures: int = 8
) -> Prediction:
    """Shows `context` frames of (B, T) windows, then imagines along the true actions, several times.

    Raises:
        ValueError: If the windows are not longer than the context.
    """
    steps = batch.action.shape[1]
    if not 0 < context < steps:
        raise ValueError(f"the context must lie in [1, {steps - 1}], got {context}")
    images = normalise_frames(batch.frames)
    states = world_model.observe(batch.frames[:, :context], batch.action[:, :context], batch.is_first[:, :context])
    last = states.map(lambda x: x[:, -1])
    shown = world_model.decoder(states.stoch)
    first, mean = shown, torch.zeros_like(images)
    for number in range(num_futures):
        future = world_model.rssm.dynamics.rollout(last, batch.action[:, context:])
        predicted = torch.cat([shown, world_model.decoder(future.stoch)], dim=1)
        first = predicted if not number else first
        mean += predicted / num_futures
    reconstructed = world_model.decoder(world_model.encode(batch.frames)[1])
    copied = images[:, context - 1 : context].expand_as(images)

    def error(guess: Tensor) -> NDArray[np.float32]:
        return (guess - images).square().mean(dim=(0, 2, 3, 4)).cpu().numpy()

    return Prediction(
        batch.frames.cpu().numpy(),
        frames_from_images(first).cpu().numpy(),
        error(first),
        error(mean),
        error(copied),
        error(reconstructed),
        context,
    )


def prediction_video(prediction: Prediction, num_rows: int = 6) -> NDArray[np.uint8]:
    """(T, H, W, 3): truth, prediction and their difference in three rows, one column a window."""
    truth = prediction.true_frames[:num_rows]
    guess = prediction.predicted_frames[:num_rows]
    difference = np.abs(truth.astype(np.int16) - guess.astype(np.int16)).astype(np.uint8)
    rows = [np.concatenate(list(clips), axis=2) for clips in (truth, guess, difference)]  # (T, h, n*w, 3) each
    return np.concatenate(rows, axis=1)
