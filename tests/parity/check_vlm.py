"""Compares our InternVideo2 with arrays recorded from the original.

    python tests/parity/check_vlm.py FIXTURE.npz

Writes the fixture's weights as a file like the published one, converts it as `genrl vlm convert` does, loads the
conversion, and compares every array: position tables, tokens of texts, every block and layer, features, preprocessing,
label probabilities. One line each (name, largest error, tolerance, verdict), then a count. Sizes come from the
fixture. Exits with 1 if anything is off, or if an array was neither used nor compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrl.run.vlm_convert import ConvertConfig, convert
from genrl.vlm.internvideo2 import InternVideo2, load_internvideo2
from genrl.vlm.internvideo2_config import InternVideo2Config
from genrl.vlm.internvideo2_frames import prepare_frames, prepare_prompt_frames
from genrl.vlm.internvideo2_positions import interpolate_positions, sincos_positions
from genrl.vlm.internvideo2_weights import is_surplus

TOLERANCE = 1e-5
"""Absolute, of float32 values; RMSNorm with an epsilon of 1e-5 instead of 1e-6 is already 3.4e-5 off in the tokens."""
TABLE_TOLERANCE = 1e-6


class Fixture:
    """Arrays of the original, with a record of which were used or compared."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            self.arrays = {name: file[name] for name in file.files}
        self.seen: set[str] = set()
        self.compared = self.off = 0

    def get(self, name: str) -> Tensor:
        """An array to feed in; counts as used."""
        self.seen.add(name)
        return torch.from_numpy(np.array(self.arrays[name]))

    def strings(self, name: str) -> list[str]:
        """An array of strings; counts as used."""
        self.seen.add(name)
        return [str(text) for text in np.atleast_1d(self.arrays[name])]

    def compare(self, name: str, ours: Tensor, tolerance: float = TOLERANCE) -> None:
        """Compares with an array of the file; whole numbers must be equal. One that the file lacks is off."""
        if name not in self.arrays:
            self.verdict(name, "missing in the fixture", False)
            return
        theirs = self.get(name)
        if tuple(ours.shape) != tuple(theirs.shape):
            self.verdict(name, f"shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}", False)
            return
        tolerance = tolerance if theirs.is_floating_point() else 0.0
        error = float((ours.double() - theirs.double()).abs().max()) if theirs.numel() else 0.0
        self.verdict(name, f"error {error:.1e}  tolerance {tolerance:.0e}", error <= tolerance)

    def verdict(self, name: str, measured: str, good: bool) -> None:
        """One compared array."""
        self.compared += 1
        self.off += not good
        print(f"{name:40s} {measured:40s} {'ok' if good else 'OFF'}")

    def finish(self) -> int:
        """The count, and what was never looked at; gives the exit status."""
        unseen = sorted(set(self.arrays) - self.seen)
        for name in unseen:
            print(f"{name:40s} NEITHER USED NOR COMPARED")
        print(f"{self.compared} compared, {self.off} off, {len(unseen)} not looked at")
        return 1 if self.off or unseen or not self.compared else 0


def fixture_config(meta: dict[str, Any]) -> InternVideo2Config:
    """Our sizes from the fixture's."""
    vision, text = meta["vision"], meta["text"]
    return InternVideo2Config(
        image_size=vision["img_size"],
        frames_per_clip=vision["num_frames"],
        patch_size=vision["patch_size"],
        vision_dim=vision["embed_dim"],
        vision_depth=vision["depth"],
        vision_heads=vision["num_heads"],
        vision_mlp_dim=vision["mlp_hidden"],
        pool_heads=vision["attn_pool_num_heads"],
        pool_dim=vision["clip_embed_dim"],
        text_dim=text["hidden_size"],
        text_depth=text["fusion_layer"],
        text_heads=text["num_attention_heads"],
        text_mlp_dim=text["intermediate_size"],
        vocabulary_size=text["vocab_size"],
        text_positions=text["max_position_embeddings"],
        max_tokens=text["max_txt_l"],
        embed_dim=meta["embed_dim"],
    )


def write_official(fixture: Fixture, directory: Path) -> Path:
    """The fixture's weights and vocabulary as the published files are."""
    names = [name for name in fixture.arrays if name.startswith("ckpt/")]
    file = directory / "official.pt"
    torch.save({"module": {name.removeprefix("ckpt/"): fixture.get(name) for name in names}}, file)
    (directory / "vocab.txt").write_text("\n".join(fixture.strings("in/vocab")) + "\n")
    return file


@contextmanager
def recorded(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Outputs of some modules, by the names given, as they are called inside."""
    outputs: dict[str, Tensor] = {}

    def record(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs[name] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def check_tables(fixture: Fixture, config: InternVideo2Config, stored_frames: int) -> None:
    """Position tables: interpolated in time, in time and space, and as they begin."""
    stored, wanted = (stored_frames, config.grid), (config.frames_per_clip, config.grid)
    for name in ("vision_encoder.pos_embed", "vision_encoder.clip_pos_embed"):
        table = interpolate_positions(fixture.get(f"ckpt/{name}"), stored, wanted)
        fixture.compare(f"interp/{name}", table, TABLE_TOLERANCE)
    name, grid = "interp/larger_grid_pos_embed", config.grid + 1
    frames = (fixture.arrays[name].shape[1] - 1) // grid**2
    table = fixture.get("ckpt/vision_encoder.pos_embed")
    fixture.compare(name, interpolate_positions(table, stored, (frames, grid)), TABLE_TOLERANCE)
    for name, frames in (("pos_embed", config.frames_per_clip), ("img_pos_embed", 1)):
        table = sincos_positions(config.vision_dim, frames, config.grid)
        fixture.compare(f"init/sincos_{name}", table, TABLE_TOLERANCE)


def check_vision(fixture: Fixture, model: InternVideo2) -> Tensor:
    """Clips and pictures, with every block on the way; gives the clips' features."""
    tower = model.vision_encoder
    parts: dict[str, nn.Module] = {"block0_attn": tower.blocks[0].attn, "block0_mlp": tower.blocks[0].mlp}
    parts |= {f"block{number}": block for number, block in enumerate(tower.blocks)}
    clips = fixture.get("in/clip")
    patches = tower.patch_embed(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
    fixture.compare("debug/patch_embed", patches)
    with recorded(parts) as outputs:
        tokens = tower(clips)
    for name, output in outputs.items():
        fixture.compare(f"debug/{name}", output)
    fixture.compare("out/vision_tokens", tokens)
    fixture.compare("out/vision_pooled", tower.clip_projector(tokens))
    features = model.project_patches(patches)
    fixture.compare("out/video_feature", features)
    images = fixture.get("in/image")
    tokens = tower(images)
    fixture.compare("out/image_tokens", tokens)
    fixture.compare("out/image_pooled", tower.clip_projector(tokens))
    fixture.compare("out/image_feature", model.project_patches(tower.patch_embed(images[:, 0]).unsqueeze(1)))
    return features


def check_text(fixture: Fixture, model: InternVideo2) -> Tensor:
    """Tokens, every layer, features; gives the features."""
    ids, mask = model.tokenizer(fixture.strings("in/texts"))
    fixture.compare("in/input_ids", ids)
    fixture.compare("in/attention_mask", mask)
    bert = model.text_encoder.bert
    parts: dict[str, nn.Module] = {"text_embeddings": bert.embeddings}
    parts |= {f"text_layer{number}": layer for number, layer in enumerate(bert.encoder.layer)}
    with recorded(parts) as outputs:
        tokens = model.text_encoder(ids, mask)
    for name, output in outputs.items():
        fixture.compare(f"debug/{name}", output)
    fixture.compare("out/text_tokens", tokens)
    fixture.compare("out/text_pooled", tokens[:, 0])
    features = model.project_tokens(ids, mask)
    fixture.compare("out/text_feature", features)
    return features


def check_labels(fixture: Fixture, video: Tensor, text: Tensor) -> None:
    """The most likely texts of each clip."""
    count = fixture.arrays["out/label_topk_idx"].shape[1]
    likely = (100 * video @ text.T).softmax(-1).topk(count)
    fixture.compare("out/label_topk_probs", likely.values)
    fixture.compare("out/label_topk_idx", likely.indices)


def check_frames(fixture: Fixture, model: InternVideo2) -> None:
    """Both ways of preparing frames, and what becomes of them."""
    frames = fixture.get("pre/frames_u8")
    prepared = prepare_frames(frames, model.image_size)
    fixture.compare("pre/dataset_tensor", prepared.unsqueeze(0))
    features = model.project_patches(model.vision_encoder.patch_embed(prepared).unsqueeze(0))
    fixture.compare("pre/dataset_feature", features)
    fixture.compare("pre/prompt_video_tensor", prepare_prompt_frames(frames, model.image_size).unsqueeze(0))
    fixture.compare("pre/prompt_video_feature", model.embed_prompt_video(frames).unsqueeze(0))


@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Compares everything; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare our InternVideo2 with recorded outputs of the original.")
    parser.add_argument("fixture", type=Path, metavar="FIXTURE.npz")
    fixture = Fixture(parser.parse_args(argv).fixture)
    meta = json.loads(fixture.strings("config_json")[0])
    config = fixture_config(meta)
    with tempfile.TemporaryDirectory() as directory:
        official = write_official(fixture, Path(directory))
        converted = convert(ConvertConfig(official, Path(directory) / "converted", model=config))
        model = load_internvideo2(converted)
    check_tables(fixture, config, meta["vision"]["ckpt_num_frames"])
    video = check_vision(fixture, model)
    text = check_text(fixture, model)
    check_labels(fixture, video, text)
    check_frames(fixture, model)
    names = [name.removeprefix("ckpt/") for name in fixture.arrays if name.startswith("ckpt/")]
    surplus = sum(is_surplus(name, config) for name in names)
    print(f"{len(names) - surplus} of {len(names)} tensors of the weights used, {surplus} known not to be needed")
    return fixture.finish()


if __name__ == "__main__":
    sys.exit(main())
