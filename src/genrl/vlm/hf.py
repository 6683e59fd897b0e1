"""Video-language and image-language models of the `transformers` library: X-CLIP, VideoPrism, CLIP, SigLIP, SigLIP 2.

X-CLIP and VideoPrism read clips. The others read single pictures: a clip is the normalised mean of the normalised
embeddings of its frames, so it knows what is seen, but not in which order.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from genrl.infra.errors import UserError
from genrl.vlm.clips import check_clips, resample_clips
from genrl.vlm.hf_frames import Preprocessing, read_preprocessing
from genrl.vlm.hf_text import STYLES, TextTokens
from genrl.vlm.protocol import check_texts

PICTURES_PER_CLIP = 8
"""Frames of a clip for models of pictures, which leave it open."""
FRAMES_AT_ONCE = 64
"""Frames that pass the vision tower together: bounds its memory, whatever the length of an episode."""
TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Family:
    """What a name of the registry stands for.

    Attributes:
        model_types: Types of model, as `config.json` names them, that are of this family.
        style: How texts become tokens, a key of `STYLES`.
        reads_clips: Whether the vision tower reads clips; else pictures.
        any_length: Whether clips may have another number of frames than in training.
    """

    model_types: tuple[str, ...]
    style: str
    reads_clips: bool
    any_length: bool


FAMILIES = {
    "clip": Family(("clip",), "clip", reads_clips=False, any_length=True),
    "siglip": Family(("siglip",), "siglip", reads_clips=False, any_length=True),
    # Its checkpoints of fixed resolution say "siglip", those of any resolution (NaFlex) "siglip2".
    "siglip2": Family(("siglip", "siglip2"), "siglip2", reads_clips=False, any_length=True),
    # Each of its frames has a place in a learnt table.
    "xclip": Family(("xclip",), "clip", reads_clips=True, any_length=False),
    "videoprism": Family(("videoprism",), "videoprism", reads_clips=True, any_length=True),
}

CLASSES = {
    "clip": "CLIPModel",
    "siglip": "SiglipModel",
    "siglip2": "Siglip2Model",
    "xclip": "XCLIPModel",
    "videoprism": "VideoPrismClipModel",
}
"""Class of `transformers` by type of model."""


class HuggingFaceVLM(nn.Module):
    """A model of the `transformers` library as a `VideoLanguageModel`."""

    def __init__(
        self, name: str, model: Any, tokens: TextTokens, preprocessing: Preprocessing, frames_per_clip: int
    ) -> None:
        super().__init__()
        config = model.config
        self.name = name
        self.family = FAMILIES[name]
        self.model = model
        self.tokens = tokens
        self.preprocessing = preprocessing
        self.frames_per_clip = frames_per_clip
        self.image_size = preprocessing.edge
        self.embed_dim: int = getattr(config, "projection_dim", None) or config.vision_config.hidden_size
        self._checksum = _digest(model, preprocessing)

    @property
    def checksum(self) -> str:
        """First 12 hexadecimal digits of a sha256 over preprocessing and weights, as stored, whatever the precision.

        Names of parameters do not count: they change between releases of `transformers`.
        """
        return self._checksum

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def embed_video(self, clips: Tensor) -> Tensor:
        """Embed (N, L, h, w, 3) uint8 clips as (N, E) unit vectors; another L is resampled to the nearest frames."""
        check_clips(clips)
        if not len(clips):
            return torch.zeros(0, self.embed_dim, device=self.device)
        clips = resample_clips(clips, self.frames_per_clip)
        at_once = max(1, FRAMES_AT_ONCE // self.frames_per_clip)
        return torch.cat([self._embed_clips(self._prepare_clips(chunk)) for chunk in clips.split(at_once)])

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (N, E) unit vectors."""
        check_texts(texts)
        rows = [
            self._embed_texts(texts[start : start + TEXTS_AT_ONCE]) for start in range(0, len(texts), TEXTS_AT_ONCE)
        ]
        return torch.cat(rows) if rows else torch.zeros(0, self.embed_dim, device=self.device)

    @torch.no_grad()
    def embed_frames_sliding(self, frames: Tensor) -> Tensor:
        """Embed the clip that ends at each of (T, h, w, 3) uint8 frames as (T, E); zero before the first whole one.

        Equal to `embed_video` of every clip. Each frame is resized once; models of pictures embed it once, too.
        """
        embeddings = torch.zeros(len(frames), self.embed_dim, device=self.device)
        if len(frames) < self.frames_per_clip:
            return embeddings
        rows = self._slide_clips(frames) if self.family.reads_clips else self._slide_pictures(frames)
        embeddings[self.frames_per_clip - 1 :] = torch.cat(list(rows))
        return embeddings

    def _slide_clips(self, frames: Tensor) -> Iterator[Tensor]:
        """Rows of (n, E) embeddings; the frames that the next clips share with these are kept prepared."""
        length, shared = self.frames_per_clip, self.frames_per_clip - 1
        prepared: Tensor | None = None
        for chunk in frames.split(FRAMES_AT_ONCE):
            new = self._prepare(chunk)
            prepared = new if prepared is None else torch.cat([prepared, new])
            if len(prepared) >= length:
                clips = prepared.unfold(0, length, 1).movedim(-1, 1)  # (n, L, 3, size, size), a view
                for group in clips.split(max(1, FRAMES_AT_ONCE // length)):
                    yield self._embed_clips(group)
            prepared = prepared[max(0, len(prepared) - shared) :]

    def _slide_pictures(self, frames: Tensor) -> Iterator[Tensor]:
        """The rows, as means over windows of pictures."""
        pictures = torch.cat([self._embed_pictures(self._prepare(chunk)) for chunk in frames.split(FRAMES_AT_ONCE)])
        yield F.normalize(pictures.unfold(0, self.frames_per_clip, 1).mean(-1), dim=-1)

    def _prepare(self, frames: Tensor) -> Tensor:
        """(N, h, w, 3) uint8 -> (N, 3, size, size) as the tower reads them."""
        return self.preprocessing(frames.to(self.device)).to(self.model.dtype)

    def _prepare_clips(self, clips: Tensor) -> Tensor:
        return self._prepare(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])

    def _embed_clips(self, clips: Tensor) -> Tensor:
        """(N, L, 3, size, size) -> (N, E) unit vectors."""
        if not self.family.reads_clips:
            pictures = self._embed_pictures(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
            return F.normalize(pictures.mean(1), dim=-1)
        if self.name == "videoprism":
            # The interpolation does nothing where length and size are those of the training.
            output = self.model.get_video_features(pixel_values_videos=clips, interpolate_pos_encoding=True)
        else:
            output = self.model.get_video_features(pixel_values=clips)
        # VideoPrism's pooled output of videos is (N, 1, E).
        return F.normalize(output.pooler_output.reshape(len(clips), -1).float(), dim=-1)

    def _embed_pictures(self, pictures: Tensor) -> Tensor:
        """(N, 3, size, size) -> (N, E) unit vectors."""
        if self.model.config.model_type == "siglip2":
            output = self.model.get_image_features(**_patches(pictures, self.model.config.vision_config.patch_size))
        else:
            output = self.model.get_image_features(pixel_values=pictures)
        return F.normalize(output.pooler_output.float(), dim=-1)

    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        ids, mask = self.tokens(texts)
        mask = None if mask is None else mask.to(self.device)
        output = self.model.get_text_features(input_ids=ids.to(self.device), attention_mask=mask)
        return F.normalize(output.pooler_output.float(), dim=-1)


def load_hf(
    name: str, directory: Path, dtype: torch.dtype = torch.float32, frames_per_clip: int | None = None
) -> HuggingFaceVLM:
    """Load a model from a directory, frozen; nothing is looked up on the network.

    Args:
        name: A key of `FAMILIES`.
        directory: Configuration, weights, processor and tokenizer, as the hub has them or `save_pretrained` writes.
        dtype: Precision of the computation; embeddings are float32.
        frames_per_clip: Frames of a clip, where not those of the training (8 for models of pictures).

    Raises:
        UserError: If the directory holds something else, or less, or the number of frames does not suit the model.
        ModuleNotFoundError: If transformers is not installed.
    """
    import transformers

    family = FAMILIES[name]
    with _quiet(transformers):
        config = _read_config(transformers, name, directory)
        model = _read_model(transformers, config, directory)
    trained = config.vision_config.num_frames if family.reads_clips else PICTURES_PER_CLIP
    frames = trained if frames_per_clip is None else frames_per_clip
    if frames < 1 or (frames != trained and not family.any_length):
        raise UserError(f"{directory} reads clips of {trained} frames only, not of {frames} (--frames)")
    preprocessing = read_preprocessing(directory, config.model_type)
    reads = getattr(config.vision_config, "image_size", preprocessing.size)  # SigLIP 2 may leave it open.
    if reads not in (preprocessing.size, [preprocessing.size] * 2):
        raise UserError(f"{directory}: its processor makes frames of {preprocessing.size}, the model reads {reads}")
    tokens = TextTokens(directory, STYLES[family.style], config.text_config.max_position_embeddings)
    vlm = HuggingFaceVLM(name, model, tokens, preprocessing, frames)
    return vlm.to(dtype).eval().requires_grad_(False)


def _read_config(transformers: Any, name: str, directory: Path) -> Any:
    try:
        config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--vlm {name}={directory}: no config.json of a model that transformers knows") from error
    if config.model_type not in FAMILIES[name].model_types:
        fitting = [family for family, what in FAMILIES.items() if config.model_type in what.model_types]
        hint = f"; name it --vlm {fitting[0]}={directory}" if fitting else ""
        raise UserError(f"--vlm {name}={directory}: that is a model of type {config.model_type!r}{hint}")
    return config


def _read_model(transformers: Any, config: Any, directory: Path) -> Any:
    """The model in float32, whole."""
    model_class = getattr(transformers, CLASSES[config.model_type], None)
    if model_class is None:
        raise UserError(f"transformers {transformers.__version__} has no {CLASSES[config.model_type]}; update it")
    # VideoPrism bounds its attention's logits, which the faster implementation cannot.
    options = {"attn_implementation": "eager"} if config.model_type == "videoprism" else {}
    try:
        model, found = model_class.from_pretrained(
            directory, config=config, dtype=torch.float32, local_files_only=True, output_loading_info=True, **options
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{directory}: its weights cannot be read ({reason}); copy all files of the model") from error
    if found["missing_keys"]:  # transformers would go on with random numbers in their place.
        one = sorted(found["missing_keys"])[0]
        raise UserError(f"{directory}: its weights lack {len(found['missing_keys'])} tensors, such as {one}")
    return model


def _digest(model: nn.Module, preprocessing: Preprocessing) -> str:
    digests = []
    for tensor in model.state_dict().values():
        stored = tensor.detach().cpu().contiguous()
        header = f"{stored.dtype} {tuple(stored.shape)}".encode()
        digests.append(hashlib.sha256(header + stored.flatten().view(torch.uint8).numpy().tobytes()).digest())
    whole = hashlib.sha256(repr(preprocessing).encode())
    for digest in sorted(digests):
        whole.update(digest)
    return whole.hexdigest()[:12]


def _patches(pictures: Tensor, patch_size: int) -> dict[str, Tensor]:
    """(N, 3, size, size) pictures as SigLIP 2's models of any resolution read them: rows of patches, channels last."""
    count, side = len(pictures), pictures.shape[-1] // patch_size
    rows = pictures.unflatten(3, (side, patch_size)).unflatten(2, (side, patch_size))  # (N, 3, side, p, side, p)
    patches = rows.permute(0, 2, 4, 3, 5, 1).reshape(count, side * side, -1)
    mask = torch.ones(count, side * side, dtype=torch.int32, device=pictures.device)
    shapes = torch.full((count, 2), side, device=pictures.device)
    return {"pixel_values": patches, "pixel_attention_mask": mask, "spatial_shapes": shapes}


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without the library's remarks and progress bars: what matters is checked here."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
