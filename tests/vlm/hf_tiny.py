"""Models of the `transformers` library with few random weights, in directories as the hub has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

WORDS = ["standing", "up", "straight", "walking", "running", "kneeling", "lunge", "pose", "jump", "a", "lie", "down"]
KINDS = ("clip", "siglip", "siglip2", "naflex", "xclip", "videoprism")
"""Families, and the two types of model that SigLIP 2 has."""
SIZE = 32
"""Pixels that they read."""
LENGTH = 64
"""Most tokens of a text."""
LETTERS = "abcdefghijklmnopqrstuvwxyz-'"
FRAMES = {"xclip": 4, "videoprism": 4}
LAYERS: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def family(kind: str) -> str:
    return "siglip2" if kind == "naflex" else kind


def make_hf(directory: Path, kind: str, seed: int = 0) -> Path:
    """Writes configuration, weights, processor and tokenizer of a tiny model; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    tokens = {"clip": _clip_tokens, "xclip": _clip_tokens, "siglip": _siglip_tokens, "videoprism": _videoprism_tokens}
    vocabulary = tokens.get(kind, _siglip2_tokens)(directory)
    torch.manual_seed(seed)
    model = _model(kind, vocabulary)
    # Fresh tables of positions are zeros, which would hide whether they are read.
    for name, parameter in model.named_parameters():
        if "position" in name or name.endswith("_emb"):
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(directory)
    _processor(directory, kind)
    return directory


def _model(kind: str, vocabulary: int) -> Any:
    import transformers as hf

    vision = LAYERS | {"image_size": SIZE, "patch_size": 16}
    text = LAYERS | {"vocab_size": vocabulary, "max_position_embeddings": LENGTH}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    if kind == "clip":
        return hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=10))
    if kind in ("siglip", "siglip2"):
        return hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=vision))
    if kind == "naflex":
        del vision["image_size"]
        return hf.Siglip2Model(hf.Siglip2Config(text_config=text, vision_config=vision | {"num_patches": 4}))
    if kind == "xclip":
        vision |= {"num_frames": FRAMES[kind], "mit_hidden_size": 10, "mit_intermediate_size": 20}
        vision |= {"mit_num_hidden_layers": 1, "mit_num_attention_heads": 2}
        config = hf.XCLIPConfig(text_config=text, vision_config=vision, projection_dim=10, prompt_layers=1)
        config.prompt_num_attention_heads = 2
        return hf.XCLIPModel(config)
    del vision["patch_size"], vision["num_hidden_layers"]
    vision |= {"num_frames": FRAMES[kind], "tubelet_size": [1, 16, 16], "num_spatial_layers": 1}
    vision |= {"num_temporal_layers": 1, "num_auxiliary_layers": 1}
    return hf.VideoPrismClipModel(hf.VideoPrismConfig(text_config=text, vision_config=vision))


def _processor(directory: Path, kind: str) -> None:
    """As the processors' own `save_pretrained`, but for VideoPrism's, which needs torchvision."""
    import transformers as hf

    size = {"height": SIZE, "width": SIZE}
    if kind == "clip":
        hf.CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=size).save_pretrained(directory)
    elif kind in ("siglip", "siglip2"):
        hf.SiglipImageProcessorPil(size=size).save_pretrained(directory)
    elif kind == "naflex":
        hf.Siglip2ImageProcessorPil(patch_size=16, max_num_patches=4).save_pretrained(directory)
    elif kind == "xclip":
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        hf.VideoMAEImageProcessorPil(
            size={"shortest_edge": SIZE}, crop_size=size, image_mean=mean, image_std=std
        ).save_pretrained(directory)
    else:
        settings = {"video_processor_type": "LlavaOnevisionVideoProcessor", "size": size, "do_normalize": False}
        settings |= {"resample": 3, "rescale_factor": 1 / 255}
        (directory / "video_preprocessor_config.json").write_text(json.dumps(settings))


def _clip_tokens(directory: Path) -> int:
    """Byte pairs: letters, and the words built up from them."""
    from transformers import CLIPTokenizer

    letters = [*LETTERS, "_", "!"]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = ["".join(parts[:2])]
            vocabulary.append(parts[0])
    ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    CLIPTokenizer(ids, list(dict.fromkeys(merges)), model_max_length=LENGTH).save_pretrained(directory)
    return len(ids)


def _siglip_tokens(directory: Path) -> int:
    """Pieces of the kind that SentencePiece makes, as the hub's tokenizer.json has them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = [
        ("<unk>", 0.0),
        ("</s>", 0.0),
        *((f"▁{word}", -2.0) for word in WORDS),
        ("▁", -3.0),
        *((letter, -4.0) for letter in LETTERS),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(directory / "tokenizer.json"))
    return len(pieces)


def _siglip2_tokens(directory: Path) -> int:
    from transformers import Siglip2Tokenizer

    vocabulary = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *LETTERS, "▁"]
    Siglip2Tokenizer({token: number for number, token in enumerate(vocabulary)}, []).save_pretrained(directory)
    return len(vocabulary)


def _videoprism_tokens(directory: Path) -> int:
    from transformers import VideoPrismTokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), (".", -3.0)]
    pieces += [(letter, -4.0) for letter in LETTERS]
    pieces += [(f"▁{word}", -2.0) for word in WORDS]
    VideoPrismTokenizer(pieces, extra_ids=0).save_pretrained(directory)
    return len(pieces)
