"""Frames as the models of the `transformers` library want them, in torch alone.

The library's own processors of videos need torchvision, whose wheels fit one release of torch each; the steps are few.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genrl.infra.errors import UserError
from genrl.vlm.clips import middle_square

INTERPOLATIONS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
"""Modes of torch by Pillow's number, which the configurations hold."""
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5]

DEFAULTS: dict[str, dict[str, Any]] = {
    "clip": {"size": {"shortest_edge": 224}, "crop_size": 224, "resample": 3, "image_mean": CLIP_MEAN}
    | {"image_std": CLIP_STD, "do_center_crop": True, "do_normalize": True},
    "xclip": {"size": {"shortest_edge": 224}, "crop_size": 224, "resample": 2, "image_mean": HALF}
    | {"image_std": HALF, "do_center_crop": True, "do_normalize": True},
    "siglip": {"size": {"height": 224, "width": 224}, "resample": 3, "image_mean": HALF, "image_std": HALF}
    | {"do_center_crop": False, "do_normalize": True},
    "siglip2": {"patch_size": 16, "max_num_patches": 256, "resample": 2, "image_mean": HALF, "image_std": HALF}
    | {"do_center_crop": False, "do_normalize": True},
    "videoprism": {"size": {"height": 288, "width": 288}, "resample": 3, "do_center_crop": False}
    | {"do_normalize": False},
}
"""What a configuration leaves out, by the model's type."""


@dataclass(frozen=True)
class Preprocessing:
    """Resize, cut, scale and normalise."""

    edge: int
    """Shorter side after resizing."""
    size: int
    """Height and width after cutting: what the model reads."""
    square_first: bool
    """Cut pictures to the square in their middle before resizing, not after: where the processor has no cut of its own
    and would squeeze them, bodies keep their proportions."""
    interpolation: str
    scale: float
    """Factor of the pixels, 1/255 to bring them to 0 ... 1."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, frames: Tensor) -> Tensor:
        """(N, h, w, 3) uint8 -> (N, 3, size, size) float32, on the device of the frames.

        A resized picture is rounded to whole numbers, as pictures are.
        """
        images = (middle_square(frames) if self.square_first else frames).permute(0, 3, 1, 2).float()
        images = self._cut(self._resize(images)) * self.scale
        mean, std = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std

    def _resize(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        short = min(height, width)
        if short == self.edge:
            return images
        new_height, new_width = int(self.edge * height / short), int(self.edge * width / short)
        if self.interpolation == "nearest-exact":
            return F.interpolate(images, (new_height, new_width), mode=self.interpolation)
        # As Pillow does: first the rows, then the columns, whole numbers after each.
        for size in ((height, new_width), (new_height, new_width)):
            images = F.interpolate(images, size, mode=self.interpolation, antialias=True, align_corners=False)
            images = images.round().clamp(0, 255)
        return images

    def _cut(self, images: Tensor) -> Tensor:
        top, left = ((side - self.size) // 2 for side in images.shape[-2:])
        return images[..., top : top + self.size, left : left + self.size]


def read_preprocessing(directory: Path, model_type: str) -> Preprocessing:
    """The preprocessing that a model's directory asks for.

    Args:
        directory: Holds `preprocessor_config.json`, or what newer releases of the library write.
        model_type: Type of the model, a key of `DEFAULTS`.

    Raises:
        UserError: If there is none, or it asks for something else than a square by the usual steps.
    """
    wanted = DEFAULTS[model_type] | {key: value for key, value in _config(directory).items() if value is not None}
    if wanted.get("do_resize") is False:
        raise UserError(f"{directory}: its processor does not resize frames; such models are not supported")
    edge = _edge(wanted, directory)
    size = _side(wanted["crop_size"], directory) if wanted["do_center_crop"] else edge
    interpolation = INTERPOLATIONS.get(wanted["resample"])
    if interpolation is None or size > edge:
        raise UserError(
            f"{directory}: its processor asks for resample {wanted['resample']} to {edge} and a cut of {size}; "
            f"supported are resample {', '.join(map(str, INTERPOLATIONS))} and a cut within the picture"
        )
    scale = wanted.get("rescale_factor", 1 / 255) if wanted.get("do_rescale", True) else 1.0
    normalise = wanted["do_normalize"]
    mean = tuple(map(float, wanted["image_mean"])) if normalise else (0.0,) * 3
    std = tuple(map(float, wanted["image_std"])) if normalise else (1.0,) * 3
    return Preprocessing(edge, size, not wanted["do_center_crop"], interpolation, scale, mean, std)


def _config(directory: Path) -> dict[str, Any]:
    """The processor's settings: nested in the processor's file since transformers 5, in a file of their own before."""
    nested = _json(directory / "processor_config.json")
    for part in ("image_processor", "video_processor"):
        if isinstance(nested.get(part), dict):
            return nested[part]
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if (directory / name).is_file():
            return _json(directory / name)
    raise UserError(f"{directory} has no preprocessor_config.json; copy all files of the model there")


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        data = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged ({error}); download it again") from error
    return data if isinstance(data, dict) else {}


def _edge(wanted: dict[str, Any], directory: Path) -> int:
    """Shorter side after resizing."""
    if "max_num_patches" in wanted:  # As many patches as fit: of a square picture, a square number.
        return int(wanted["max_num_patches"] ** 0.5) * wanted["patch_size"]
    return _side(wanted["size"], directory)


def _side(size: Any, directory: Path) -> int:
    """Side of a square, from a number or a dictionary."""
    if isinstance(size, dict):
        sides = {side for side in (size.get(key) for key in ("shortest_edge", "height", "width")) if side}
        if len(sides) == 1 and not size.get("longest_edge"):
            return int(sides.pop())
    elif isinstance(size, int):
        return size
    raise UserError(f"{directory}: its processor asks for frames of size {size}; only squares are supported")
