"""`genrl imagine`: what a model understands of prompts, before any training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from genrl.infra.checkpoint import check_file
from genrl.infra.compute import DeviceName, pick_device
from genrl.infra.media import video_grid, write_png, write_video
from genrl.infra.progress import table_console
from genrl.run.prompting import NOTHING_TO_COMPARE, TARGET_CANDIDATES, Groundability, load_model
from genrl.run.prompts import PromptConfig, read_prompts

MOMENTS = 4
"""Moments of each preview in a picture."""


@dataclass(frozen=True)
class ImagineConfig(PromptConfig):
    """Decode the targets of prompts to a video grid, with the groundability of each.

    Groundability is the cosine of the video embedding of what is shown with the raw prompt embedding. The z-score
    compares the connector's mode with what the model makes of other prompts: above 1 it fits this prompt better than
    most. A high one does not say that the VLM knows the words; where it does not, a caution says so. --ensemble makes
    one prompt of several wordings, --baseline-prompt takes out what they have in common with a general one.
    """

    steps: int = 48
    """Frames of each preview."""
    target_candidates: int = TARGET_CANDIDATES
    """As of `genrl learn`, whose preset `mini` has as many: the preview shows what will be followed. 0 shows the
    connector's mode."""
    out: Path = Path("imagine.mp4")
    """.mp4 video to write, or a .png picture of a few moments, one below the other."""
    scale: int = 4
    """Enlargement of the 64 x 64 frames."""
    device: DeviceName = "auto"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.scale < 1:
            raise ValueError(f"--steps and --scale must be at least 1, got {self.steps} and {self.scale}")
        if self.target_candidates < 0:
            raise ValueError(f"--target-candidates must be 0 or more, got {self.target_candidates}")


@dataclass(frozen=True)
class Preview:
    """The model's picture of one prompt: (T, h, w, 3) uint8 frames and, where the VLM is here, how well they fit."""

    label: str
    frames: NDArray[np.uint8]
    groundability: Groundability | None


def imagine(config: ImagineConfig) -> list[Preview]:
    """Writes the grid, prints a table, returns the previews.

    Raises:
        UserError: If a prompt, the model or OUT cannot be used.
    """
    check_file(config.out, suffixes=(".mp4", ".png"))
    config.require_prompt()
    model = load_model(config.model, pick_device(config.device), config.vlm)
    prompts = read_prompts(model, config)
    previews = [Preview(p.label, *model.preview(p, config.steps, config.target_candidates)) for p in prompts]

    table, labels = Table("prompt", "groundability", "z-score"), []
    for preview in previews:
        fit = preview.groundability
        table.add_row(preview.label, *(("-", "-") if fit is None else (f"{fit.cosine:.3f}", fit.z_text(2))))
        labels.append(preview.label if fit is None else f"{preview.label} ({fit.z_text()})")
    table_console().print(table)
    if not model.has_vlm:
        print(f"no groundability: it needs VLM {model.vlm_name!r}, which is not here")
    elif not all(preview.groundability.has_z for preview in previews if preview.groundability):
        print(f"no z-score: {NOTHING_TO_COMPARE}")
    grid = video_grid([preview.frames for preview in previews], labels, scale=config.scale)
    if config.out.suffix.lower() == ".png":
        moments = np.linspace(0, len(grid) - 1, MOMENTS).round().astype(int)
        write_png(config.out, np.concatenate(list(grid[moments])))
        print(f"picture: {config.out}")
    else:
        print(f"video: {write_video(config.out, grid, model.model.spec.frames_per_second)}")
    return previews
