"""InternVideo2 Stage2 1B, the video-language model of the paper, without its authors' code.

The towers are plain: `internvideo2_vision.py` with torch's fused attention, `internvideo2_text.py` with transformers'
BERT. `tests/parity/check_vlm.py` compares every intermediate with recorded ones of the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from genrl.infra.errors import UserError
from genrl.vlm.internvideo2_config import InternVideo2Config
from genrl.vlm.internvideo2_frames import middle_square, prepare_frames, prepare_prompt_frames, prompt_clip
from genrl.vlm.internvideo2_text import TextTower
from genrl.vlm.internvideo2_tokenizer import WordPieceTokenizer
from genrl.vlm.internvideo2_vision import VideoTower
from genrl.vlm.internvideo2_weights import StoredWeights, fit_tables, read_converted, read_official, select_tensors
from genrl.vlm.protocol import check_texts

CLIPS_AT_ONCE = 8
"""Clips that pass the video tower together: bounds its memory, about 0.1 GB a clip in half precision."""
TEXTS_AT_ONCE = 64
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class InternVideo2(nn.Module):
    """Dual encoder of 8 frames of 224x224 and of English texts; see `VideoLanguageModel`.

    Parameters carry the names of the published file. Embeddings are float32 whatever the weights' type.

    Attributes:
        clips_at_once: Clips that pass the video tower together.
    """

    name = "internvideo2"

    def __init__(self, config: InternVideo2Config, vocabulary: Sequence[str], checksum: str = "untrained") -> None:
        """Start from random weights, or from those that the checksum tells of and the caller loads."""
        super().__init__()
        self.config = config
        self.embed_dim = config.embed_dim
        self.frames_per_clip = config.frames_per_clip
        self.image_size = config.image_size
        self.clips_at_once = CLIPS_AT_ONCE
        self.tokenizer = WordPieceTokenizer(vocabulary, config.max_tokens)
        self.vision_encoder = VideoTower(config)
        self.text_encoder = TextTower(config)
        self.vision_proj = nn.Linear(config.pool_dim, config.embed_dim)
        self.text_proj = nn.Linear(config.text_dim, config.embed_dim)
        self._checksum = checksum

    @classmethod
    def from_weights(
        cls, weights: StoredWeights, where: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> InternVideo2:
        """A frozen model of stored weights.

        Args:
            weights: What a file or directory holds.
            where: Its name, for complaints.
            device: Where the model computes.
            dtype: In what type of numbers.

        Raises:
            UserError: If a tensor is missing, unknown or of another shape.
        """
        config = weights.config
        with torch.device("meta"):
            model = cls(config, weights.vocabulary, weights.checksum)
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        tensors = select_tensors(weights.tensors, config, shapes, where)
        tensors |= fit_tables(tensors, config, where)
        model.load_state_dict({name: tensor.to(device, dtype) for name, tensor in tensors.items()}, assign=True)
        model.text_encoder.make_buffers(device)
        return model.eval().requires_grad_(False)

    @property
    def checksum(self) -> str:
        """That of the stored weights, see `StoredWeights`; made when they were converted, so that it costs nothing."""
        return self._checksum

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.vision_proj.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of numbers that it computes with."""
        return self.vision_proj.weight.dtype

    @torch.no_grad()
    def embed_video(self, clips: Tensor) -> Tensor:
        """Embed (N, L, h, w, 3) uint8 clips as (N, E) unit vectors; L and size are brought to the model's."""
        if clips.ndim != 5 or clips.shape[-1] != 3 or clips.dtype != torch.uint8 or clips.shape[1] == 0:
            raise ValueError(f"clips must be (N, L, h, w, 3) uint8, got {tuple(clips.shape)} {clips.dtype}")
        if clips.shape[1] != self.frames_per_clip:
            nearest = torch.linspace(0, clips.shape[1] - 1, self.frames_per_clip).round().long()
            clips = clips[:, nearest.to(clips.device)]
        embeddings = [
            self.project_patches(self._patches(chunk.flatten(0, 1)).unflatten(0, chunk.shape[:2]))
            for chunk in clips.split(self.clips_at_once)
            if len(chunk)
        ]
        return torch.cat(embeddings) if embeddings else torch.zeros(0, self.embed_dim, device=self.device)

    @torch.no_grad()
    def embed_frames_sliding(self, frames: Tensor) -> Tensor:
        """Embed the clip that ends at each of (T, h, w, 3) uint8 frames as (T, E); zero before the first whole one.

        Equal to `embed_video` of every clip; each frame is resized and cut into patches once.
        """
        length = self.frames_per_clip
        embeddings = torch.zeros(len(frames), self.embed_dim, device=self.device)
        patches = None
        for start in range(0, len(frames) - length + 1, self.clips_at_once):
            stop = min(start + self.clips_at_once, len(frames) - length + 1)
            if patches is None:
                patches = self._patches(frames[: stop + length - 1])
            else:
                # The last frames of one round of clips are the first of the next.
                new = self._patches(frames[start + length - 1 : stop + length - 1])
                patches = torch.cat([patches[len(patches) - length + 1 :], new])
            clips = patches.unfold(0, length, 1).permute(0, 3, 1, 2)  # (n, L, G*G, D)
            embeddings[start + length - 1 : stop + length - 1] = self.project_patches(clips)
        return embeddings

    @torch.no_grad()
    def embed_prompt_video(self, frames: Tensor) -> Tensor:
        """Embed a video prompt of (T, h, w, 3) uint8 frames as the paper's code does, (E,).

        It takes the first 8 frames (`prompt_clip`) and presses each into a square, whatever its shape, with OpenCV's
        rounding; `embed_video` samples all of a clip and cuts to the middle.

        Raises:
            UserError: If there are too few frames.
        """
        clip = prompt_clip(frames, self.frames_per_clip)
        pixels = prepare_prompt_frames(clip.to(self.device), self.image_size).to(self.dtype)
        return self.project_patches(self.vision_encoder.patch_embed(pixels).unsqueeze(0))[0]

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts as (N, E) unit vectors."""
        check_texts(texts)
        self.tokenizer.check(texts)
        chunks = [texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE)]
        embeddings = [self.project_tokens(*self.tokenizer(chunk)) for chunk in chunks]
        return torch.cat(embeddings) if embeddings else torch.zeros(0, self.embed_dim, device=self.device)

    def project_patches(self, patches: Tensor) -> Tensor:
        """Unit embedding of clips of embedded patches, (N, L, G*G, D) -> (N, E) float32."""
        pooled = self.vision_encoder.clip_projector(self.vision_encoder.encode(patches))
        return _unit(self.vision_proj(pooled))

    def project_tokens(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Unit embedding of texts by their token numbers and mask, (N, M) each -> (N, E) float32."""
        # Padding counts for nothing, so that what all texts lack may as well be left out.
        longest = int(mask.sum(1).max())
        ids, mask = ids[:, :longest].to(self.device), mask[:, :longest].to(self.device)
        return _unit(self.text_proj(self.text_encoder(ids, mask)[:, 0]))

    def _patches(self, frames: Tensor) -> Tensor:
        """Embedded patches of (N, h, w, 3) uint8 frames, (N, G*G, D)."""
        pixels = prepare_frames(middle_square(frames).to(self.device), self.image_size)
        return self.vision_encoder.patch_embed(pixels.to(self.dtype))


def _unit(features: Tensor) -> Tensor:
    features = features.float()
    return features / features.norm(dim=-1, keepdim=True)


def model_shapes(config: InternVideo2Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters of a model of these sizes; nothing of their size is made."""
    words = ["[PAD]", "[UNK]", "[CLS]"]
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in InternVideo2(config, words).state_dict().items()}


def load_internvideo2(
    path: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    config: InternVideo2Config | None = None,
    compiled: bool = False,
) -> InternVideo2:
    """Load InternVideo2, frozen and in evaluation mode.

    Args:
        path: The published `.pt` file with `vocab.txt` beside it, or a directory that `genrl vlm convert` made.
        device: Where it computes.
        dtype: float32, bfloat16 or float16; on a GPU bfloat16 is several times as fast.
        config: Sizes of a `.pt` file other than the published ones.
        compiled: Let torch.compile fuse the blocks' small operations; the first clips then take a minute.

    Raises:
        UserError: If there is no such file, or it is damaged, incomplete or of another model.
    """
    if dtype not in DTYPES:
        raise UserError(f"InternVideo2 computes in float32, bfloat16 or float16, not {dtype}")
    if path.is_dir():
        weights = read_converted(path)
    else:
        config = config or InternVideo2Config()
        weights = read_official(path, config, model_shapes(config))
    model = InternVideo2.from_weights(weights, str(path), device, dtype)
    if compiled:
        for block in model.vision_encoder.blocks:
            block.compile()
    return model
