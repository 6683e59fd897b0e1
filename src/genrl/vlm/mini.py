"""The embedded video-language model: small enough to ship, a stand-in for a foundation model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrl.infra.checkpoint import load_checkpoint, save_checkpoint
from genrl.infra.config import from_dict, to_dict
from genrl.infra.errors import UserError
from genrl.vlm.captions import load_captions
from genrl.vlm.clips import check_clips, middle_square, resample_clips
from genrl.vlm.protocol import check_texts
from genrl.vlm.tokens import TokenVectors
from genrl.vlm.towers import MiniVLMConfig, TextTower, VideoTower

MINI_VLM_DIRECTORY = Path(__file__).parent.parent / "assets" / "mini_vlm" / "weights"
CONCEPTS_TENSOR = "text.concepts"
CLIPS_AT_ONCE = 128
"""Clips, or clips' worth of frames, that pass the video tower together: bounds its memory."""

TEXTS_AT_ONCE = 512
FAMILIAR = 0.6
"""Cosine with the nearest caption, by frozen token vectors, below which a text is unlike all of them. Of 111 texts that
mean no movement ("asdfgh", "tax return") 94 lie below, of 384 that describe one 31 (`recipes/judge_prompts.py`). What
is learnt tells less: it moves every text towards what captions mean."""


class MiniVLM(nn.Module):
    """Dual encoder of 8 frames of 64x64 and of short English texts; see `VideoLanguageModel`."""

    name = "mini"

    def __init__(self, config: MiniVLMConfig, tokens: TokenVectors) -> None:
        """Start from random weights around given token vectors."""
        super().__init__()
        self.config = config
        self.embed_dim = config.embed_dim
        self.frames_per_clip = config.frames_per_clip
        self.image_size = config.image_size
        self.video = VideoTower(config)
        self.text = TextTower(config, tokens)

    @property
    def checksum(self) -> str:
        """First 12 hexadecimal digits of the sha256 over everything that the embedding of a video depends on.

        The text tower is left out: one that is learnt anew over the same video tower (`genrl train-vlm --video-tower`)
        means the same space, so stores and models go on with it.
        """
        config = self.config
        sizes = (config.frames_per_clip, config.image_size, config.channels, config.feature_dim, config.hidden_dim)
        digest = hashlib.sha256(repr((config.embed_dim, *sizes)).encode())
        for tensor in self.video.state_dict().values():
            # Shipped weights are half precision; digest them as such, whatever they are held in.
            digest.update(tensor.detach().half().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def save(self, directory: Path, meta: dict | None = None) -> None:
        """Write the learnt weights in half precision; the token vectors stay with the package."""
        weights = {name: tensor.half() for name, tensor in self.state_dict().items()}
        save_checkpoint(directory, weights, {**(meta or {}), "kind": "mini_vlm", "config": to_dict(self.config)})

    @classmethod
    def load(cls, directory: Path) -> MiniVLM:
        """Read what `save` wrote.

        Raises:
            UserError: If the directory holds something else.
        """
        tensors, meta = load_checkpoint(directory)
        if meta.get("kind") != "mini_vlm":
            raise UserError(f"--vlm: {directory} is not a mini VLM: give the directory that genrl train-vlm wrote")
        model = cls(from_dict(MiniVLMConfig, meta["config"], str(directory)), TokenVectors.load())
        weights = {name: tensor.float() for name, tensor in tensors.items()}
        model.text.concepts = weights.get(CONCEPTS_TENSOR)  # a model that was saved before there were any has none
        model.load_state_dict(weights)
        return model.eval().requires_grad_(False)

    @torch.no_grad()
    def keep_concepts(self, captions: Mapping[str, list[str]]) -> None:
        """Keep the mean embedding of each concept's captions; from here on `embed_text` gives mixtures of these.

        No words may be dropped for it: call it after `eval`.
        """
        means = [self.text(wordings).mean(0) for wordings in captions.values()]
        self.text.concepts = F.normalize(torch.stack(means), dim=-1)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.text.project.weight.device

    @torch.no_grad()
    def embed_video(self, clips: Tensor) -> Tensor:
        """Embed (N, L, h, w, 3) uint8 clips as (N, E) unit vectors; L and size are brought to the model's."""
        check_clips(clips)
        chunks = [self.video(self._fit(chunk)) for chunk in clips.split(CLIPS_AT_ONCE)]
        return torch.cat(chunks) if chunks else torch.zeros(0, self.embed_dim, device=self.device)

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (N, E) unit vectors."""
        check_texts(texts)
        return self.text.read(list(texts)) if texts else torch.zeros(0, self.embed_dim, device=self.device)

    @torch.no_grad()
    def embed_unread(self, texts: Sequence[str]) -> Tensor:
        """The same, (N, E), before they are read as mixtures of concepts: two texts of one concept still differ."""
        check_texts(texts)
        return torch.cat([self.text(some) for some in _chunks(texts)])

    def familiarity(self, text: str) -> float:
        """Cosine of a text with the nearest caption, by frozen token vectors: 1 for a caption."""
        check_texts([text])
        return float((self._unlearnt_captions @ self.text.unlearnt([text])[0]).max())

    @cached_property
    def _unlearnt_captions(self) -> Tensor:
        """(N, dim) of all captions."""
        captions = [text for texts in load_captions().values() for text in texts]
        return torch.cat([self.text.unlearnt(some) for some in _chunks(captions)])

    def caution(self, text: str) -> str | None:
        """A line for texts that it cannot be trusted with, though it embeds them like any other."""
        familiarity = self.familiarity(text)
        if familiarity >= FAMILIAR:
            return None
        return (
            f"{text!r} is unlike every caption that the mini VLM has learnt ({familiarity:.2f}; {FAMILIAR:g} and more "
            "is like one): what it takes it for is a guess, whatever the z-score"
        )

    @torch.no_grad()
    def embed_frames_sliding(self, frames: Tensor) -> Tensor:
        """Embed the clip that ends at each of (T, h, w, 3) uint8 frames as (T, E); zero before the first whole one.

        Equal to `embed_video` of every clip, at one CNN pass a frame.
        """
        embeddings = torch.zeros(len(frames), self.embed_dim, device=self.device)
        whole = len(frames) - self.frames_per_clip + 1
        if whole <= 0:
            return embeddings
        step = CLIPS_AT_ONCE * (self.frames_per_clip - 1)
        pairs = [
            self.video.encode_pairs(self._fit_size(frames[start : start + step + 1].unsqueeze(0)))[0]
            for start in range(0, len(frames) - 1, step)
        ]
        windows = torch.cat(pairs).unfold(0, self.frames_per_clip - 1, 1).mT  # (whole, L - 1, feature_dim)
        embeddings[self.frames_per_clip - 1 :] = torch.cat([self.video.mix(w) for w in windows.split(4096)])
        return embeddings

    def _fit(self, clips: Tensor) -> Tensor:
        """Clips of the model's length, each new frame the nearest old one, and of the model's size."""
        return self._fit_size(resample_clips(clips, self.frames_per_clip))

    def _fit_size(self, clips: Tensor) -> Tensor:
        """Clips on the model's device, cut to the square in their middle and resized, (N, L, size, size, 3) uint8."""
        clips = middle_square(clips.to(self.device))
        if clips.shape[2] == self.image_size:
            return clips
        images = clips.flatten(0, 1).permute(0, 3, 1, 2).float()
        size = (self.image_size, self.image_size)
        images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        return images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).unflatten(0, clips.shape[:2])


def _chunks(texts: Sequence[str]) -> list[Sequence[str]]:
    """Texts in lots that are embedded together: bounds the memory."""
    return [texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE)]
