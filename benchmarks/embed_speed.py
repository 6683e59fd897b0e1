"""Frames a second that a video-language model embeds when every frame ends a clip, as `genrl embed` has it.

    python benchmarks/embed_speed.py --out benchmarks/results/embed_speed_cpu.json
    python benchmarks/embed_speed.py --parts internvideo2 --out benchmarks/results/embed_speed_gpu.json

`mini` runs with its shipped weights on the CPU; InternVideo2, at the size of Stage2 1B, with random ones on a GPU:
time does not depend on their values. The frames are noise of 64x64. The device's rate of matrix products, in the type
of numbers used, is measured in the same run before and after, so that a busy device shows; the share is what the video
tower reaches of it.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from measuring import device_name, matmul_rate, report, time_calls
from torch.utils.flop_counter import FlopCounterMode

from genrl.infra.errors import UserError
from genrl.vlm.internvideo2 import InternVideo2
from genrl.vlm.internvideo2_config import InternVideo2Config
from genrl.vlm.internvideo2_vision import VideoTower
from genrl.vlm.protocol import VideoLanguageModel
from genrl.vlm.registry import load_vlm

Result = dict[str, object]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class EmbedSpeedConfig:
    """What to time."""

    parts: tuple[Literal["mini", "internvideo2"], ...] = ("mini",)
    """`internvideo2` needs a GPU."""
    frames: int = 1_000
    """Of the episode that `mini` embeds."""
    clips: int = 64
    """That InternVideo2 embeds, each a frame further."""
    clips_at_once: int = 16
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Of InternVideo2."""
    compiled: bool = False
    """Whether torch.compile fuses the small operations of its blocks."""
    repeats: int = 5
    """Timed rounds after one to warm up; the median is reported."""
    model: InternVideo2Config = field(default_factory=InternVideo2Config)
    out: Annotated[Path | None, tyro.conf.arg(help="JSON file to write.")] = None


def main(config: EmbedSpeedConfig) -> Result:
    """Times the parts asked for; prints and returns the result.

    Raises:
        UserError: If a GPU is needed and none is there.
    """
    if "internvideo2" in config.parts and not torch.cuda.is_available():
        raise UserError("--parts internvideo2: no CUDA device is usable here, and 5 TFLOP a clip are nothing for a CPU")
    result: Result = {"torch": torch.__version__}
    if "mini" in config.parts:
        result["mini"] = time_mini(config)
    if "internvideo2" in config.parts:
        result["internvideo2"] = time_internvideo2(config, torch.device("cuda"))
    report(result, config.out)
    return result


def time_mini(config: EmbedSpeedConfig) -> Result:
    """The shipped model on the CPU."""
    device = torch.device("cpu")
    before = matmul_tflops(device, torch.float32)
    seconds = time_sliding(load_vlm("mini"), config.frames, config.repeats, device)
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "frames": config.frames,
        "seconds": seconds,
        "frames_per_second": config.frames / seconds,
        "matmul_tflops_before": before,
        "matmul_tflops_after": matmul_tflops(device, torch.float32),
    }


def time_internvideo2(config: EmbedSpeedConfig, device: torch.device) -> Result:
    """Random weights at the model's size."""
    dtype = DTYPES[config.dtype]
    model = random_model(config.model, device, dtype)
    model.clips_at_once = config.clips_at_once
    if config.compiled:
        for block in model.vision_encoder.blocks:
            block.compile()
    before = matmul_tflops(device, dtype)
    seconds = time_sliding(model, config.clips + model.frames_per_clip - 1, config.repeats, device)
    after = matmul_tflops(device, dtype)
    tflop = clip_tflop(config.model)
    result: Result = {
        "device": device_name(device),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": config.dtype,
        "compiled": config.compiled,
        "clips": config.clips,
        "clips_at_once": config.clips_at_once,
        "seconds": seconds,
        "clips_per_second": config.clips / seconds,
        "tflop_per_clip": tflop,
        "tflops": tflop * config.clips / seconds,
        "matmul_tflops_before": before,
        "matmul_tflops_after": after,
        "share_of_matmul": tflop * config.clips / seconds / max(before, after),
    }
    if device.type == "cuda":
        result["peak_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return result


def random_model(config: InternVideo2Config, device: torch.device, dtype: torch.dtype) -> InternVideo2:
    """InternVideo2 whose weights nobody trained, made on its device in its type of numbers."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", *(f"word{number}" for number in range(config.vocabulary_size - 3))]
    with torch.device("meta"):
        model = InternVideo2(config, vocabulary).to(dtype)
    model.to_empty(device=device)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    model.text_encoder.make_buffers(device)
    return model.eval().requires_grad_(False)


def clip_tflop(config: InternVideo2Config) -> float:
    """Arithmetic of one clip in the video tower, counted on tensors without memory."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        tower = VideoTower(config)
        size = config.image_size
        tower.clip_projector(tower(torch.empty(1, config.frames_per_clip, 3, size, size)))
    return counter.get_total_flops() / 1e12


def time_sliding(model: VideoLanguageModel, num_frames: int, repeats: int, device: torch.device) -> float:
    """Median seconds that an episode of noise takes."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (num_frames, 64, 64, 3), dtype=torch.uint8, generator=generator)
    return statistics.median(time_calls(lambda: model.embed_frames_sliding(frames), repeats, device))


def matmul_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """Best rate of matrix products, in TFLOP/s."""
    return matmul_rate(8192 if device.type == "cuda" else 1024, device, dtype) / 1e12


if __name__ == "__main__":
    try:
        main(tyro.cli(EmbedSpeedConfig))
    except UserError as error:
        sys.exit(f"embed_speed: error: {error}")
