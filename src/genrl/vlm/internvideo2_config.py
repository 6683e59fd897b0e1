"""Sizes of InternVideo2, and where its weights are published."""

from __future__ import annotations

from dataclasses import dataclass

REPOSITORY = "OpenGVLab/InternVideo2-Stage2_1B-224p-f4"
"""On the Hugging Face hub; its terms are accepted there, with an account."""
PUBLISHED_FILE = "InternVideo2-stage2_1b-224p-f4.pt"
PAGE = f"https://huggingface.co/{REPOSITORY}"


@dataclass(frozen=True)
class InternVideo2Config:
    """Sizes of the parts that make embeddings; the defaults are those of Stage2 1B."""

    image_size: int = 224
    """Height and width that frames are resized to; another one than the stored tables' is interpolated."""
    frames_per_clip: int = 8
    """Frames of a clip; the stored tables, for 4 frames, are interpolated to it."""
    patch_size: int = 14
    vision_dim: int = 1408
    vision_depth: int = 40
    vision_heads: int = 16
    vision_mlp_dim: int = 6144
    pool_heads: int = 16
    pool_dim: int = 768
    text_dim: int = 1024
    text_depth: int = 19
    """Layers that texts pass; the file has five more, which mix text and video and have no use here."""
    text_heads: int = 16
    text_mlp_dim: int = 4096
    vocabulary_size: int = 30_522
    text_positions: int = 512
    max_tokens: int = 40
    """Tokens read of one text, `[CLS]` among them; what follows is cut."""
    embed_dim: int = 512

    def __post_init__(self) -> None:
        if self.image_size < self.patch_size or self.image_size % self.patch_size:
            raise ValueError(f"image_size must be a multiple of {self.patch_size}, got {self.image_size}")
        if self.frames_per_clip < 1:
            raise ValueError(f"frames_per_clip must be 1 or more, got {self.frames_per_clip}")
        for width, heads in (
            ("vision_dim", "vision_heads"),
            ("vision_dim", "pool_heads"),
            ("text_dim", "text_heads"),
        ):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(f"{width} must be a multiple of {heads}, got {getattr(self, width)}")

    @property
    def grid(self) -> int:
        """Patches along a side of a frame."""
        return self.image_size // self.patch_size
