"""InternVideo2 with few weights, and its published layout as the architecture's description lists it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genrl.vlm.internvideo2 import InternVideo2, load_internvideo2
from genrl.vlm.internvideo2_config import InternVideo2Config

FIXTURE = Path(__file__).parents[1] / "data" / "internvideo2_tiny.npz"

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "_", "a", "walk", "##ing", "run", "lunge", "pose", "person", "!"]
TINY = InternVideo2Config(
    image_size=28,
    frames_per_clip=4,
    vision_dim=32,
    vision_depth=2,
    vision_heads=2,
    vision_mlp_dim=40,
    pool_heads=2,
    pool_dim=24,
    text_dim=16,
    text_depth=2,
    text_heads=2,
    text_mlp_dim=20,
    vocabulary_size=len(VOCABULARY),
    text_positions=14,
    max_tokens=8,
    embed_dim=12,
)

Shape = tuple[int, ...]


def published_layout(
    c: InternVideo2Config, stored_frames: int, all_text_layers: int, decoders: int, decoder_dim: int
) -> dict[str, Shape]:
    """Every name and shape of the published file, those that embeddings do not need included.

    Args:
        c: Sizes.
        stored_frames: Frames of the stored position tables.
        all_text_layers: Layers of the text encoder; those beyond `text_depth` attend to the video too.
        decoders: Distillation heads.
        decoder_dim: Their width.
    """
    patches, d, t = c.grid**2, c.vision_dim, c.text_dim
    v: dict[str, Shape] = {"cls_token": (1, 1, d)}
    v |= {f"{kind}pos_embed": (1, 1 + stored_frames * patches, d) for kind in ("", "clip_")}
    v |= {f"{kind}img_pos_embed": (1, 1 + patches, d) for kind in ("", "clip_")}
    v |= {"patch_embed.proj.weight": (d, 3, 1, c.patch_size, c.patch_size), "patch_embed.proj.bias": (d,)}
    for i in range(c.vision_depth):
        block: dict[str, Shape] = {name: (d,) for name in ("norm1.weight", "norm2.weight", "ls1.gamma", "ls2.gamma")}
        block |= {"attn.qkv.weight": (3 * d, d), "attn.q_norm.weight": (d,), "attn.k_norm.weight": (d,)}
        block |= (
            linear("attn.proj", d, d) | linear("mlp.fc1", d, c.vision_mlp_dim) | linear("mlp.fc2", c.vision_mlp_dim, d)
        )
        v |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    for x in "qkv":
        v |= norm(f"clip_projector.norm1_{x}", d)
        v |= {f"clip_projector.cross_attn.{x}.weight": (d, d), f"clip_projector.cross_attn.{x}_bias": (d,)}
    v |= linear("clip_projector.cross_attn.proj", d, c.pool_dim)
    for i in range(decoders):
        v |= linear(f"clip_decoder.{i}.head", d, decoder_dim) | norm(f"clip_decoder.{i}.norm", decoder_dim)
    v |= linear("final_clip_decoder.head", c.pool_dim, c.pool_dim) | norm("final_clip_decoder.norm", c.pool_dim)

    e: dict[str, Shape] = {
        "bert.embeddings.word_embeddings.weight": (c.vocabulary_size, t),
        "bert.embeddings.position_embeddings.weight": (c.text_positions, t),
        "bert.embeddings.token_type_embeddings.weight": (2, t),
        "bert.embeddings.position_ids": (1, c.text_positions),
    }
    e |= norm("bert.embeddings.LayerNorm", t)
    for i in range(all_text_layers):
        layer = attention("attention", t, t)
        if i >= c.text_depth:
            layer |= attention("crossattention", t, d)
        layer |= linear("intermediate.dense", t, c.text_mlp_dim) | linear("output.dense", c.text_mlp_dim, t)
        layer |= norm("output.LayerNorm", t)
        e |= {f"bert.encoder.layer.{i}.{name}": shape for name, shape in layer.items()}
    e |= {"cls.predictions.bias": (c.vocabulary_size,)} | linear("cls.predictions.transform.dense", t, t)
    e |= norm("cls.predictions.transform.LayerNorm", t) | linear("cls.predictions.decoder", t, c.vocabulary_size)

    layout = {f"vision_encoder.{name}": shape for name, shape in v.items()}
    layout |= {f"text_encoder.{name}": shape for name, shape in e.items()}
    layout |= linear("vision_proj", c.pool_dim, c.embed_dim) | linear("text_proj", t, c.embed_dim)
    return layout | {"temp": ()} | linear("itm_head", t, 2)


def linear(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    """A linear layer's two tensors."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, dim: int) -> dict[str, Shape]:
    """A LayerNorm's two tensors."""
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def attention(name: str, dim: int, other_dim: int) -> dict[str, Shape]:
    """An attention of BERT to keys and values of some width."""
    parts = linear(f"{name}.self.query", dim, dim)
    parts |= linear(f"{name}.self.key", other_dim, dim) | linear(f"{name}.self.value", other_dim, dim)
    return parts | linear(f"{name}.output.dense", dim, dim) | norm(f"{name}.output.LayerNorm", dim)


def tiny_tensors(seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """The published layout at tiny sizes, with random 16-bit numbers."""
    generator = torch.Generator().manual_seed(seed)
    layout = published_layout(TINY, stored_frames=2, all_text_layers=3, decoders=2, decoder_dim=10)
    tensors = {name: torch.randn(shape, generator=generator).mul(0.3).to(dtype) for name, shape in layout.items()}
    tensors["text_encoder.bert.embeddings.position_ids"] = torch.arange(TINY.text_positions)[None]
    return tensors


def write_published(
    directory: Path, tensors: Mapping[str, Tensor] | None = None, vocabulary: list[str] | None = None
) -> Path:
    """A file as the published one is, written by DeepSpeed with facts beside the weights, and `vocab.txt`."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "published.pt"
    tensors = tiny_tensors() if tensors is None else dict(tensors)
    sizes = {name: tensor.shape for name, tensor in tensors.items()}
    torch.save(
        {"module": tensors, "param_shapes": [sizes], "sparse_tensor_module_names": set(), "global_steps": 7}, file
    )
    (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary or VOCABULARY))
    return file


def tiny_internvideo2(directory: Path, dtype: torch.dtype = torch.float32) -> InternVideo2:
    """The tiny model as loaded from such a file."""
    return load_internvideo2(write_published(directory), dtype=dtype, config=TINY)


def fixture_arrays() -> dict[str, np.ndarray]:
    """All arrays that the original gave."""
    with np.load(FIXTURE) as file:
        return dict(file)
