"""Disk, GPU memory and time of recipes/paper_walker.sh: the table of docs/reproduce.md.

    python recipes/paper_estimates.py

What is measured here is read from benchmarks/results, what others measured stands below with its source.
"""

from __future__ import annotations

import json
from pathlib import Path

from genrl.vlm.registry import ENTRIES

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"

FRAMES = 2_500_000
"""Of the walker: run, walk and stand 500,000 each, exploration 1,000,000 (paper, data sets)."""
EMBED_DIM = ENTRIES["internvideo2"].embed_dim
EMBEDDING_BYTES = 2 * EMBED_DIM
"""float16; they hardly compress."""
CLIP_TFLOP = 5.1
"""InternVideo2 1B on a clip: 2 x 1.02e9 parameters x 2,049 tokens = 4.2, attention 4 x 40 layers x 2,049^2 x 1,408 =
0.95."""
GPU_TFLOPS = {"V100": 125, "A100": 312, "H100": 989}
"""Dense half precision, data sheets."""
UTILISATION = 0.4
"""Share of it that a transformer of this size usually gets: an assumption, the first thing to measure."""
PRETRAIN_V100_HOURS = 5 * 24
"""500,000 updates, as the paper reports for one V100 of 16 GB."""
LEARN_V100_HOURS = 3.0
"""50,000 updates data-free: under 3 hours there."""
TASKS, SEEDS = 9, 3
"""The walker's tasks with a prompt in the benchmark; seeds of the recipe."""


def rows() -> list[tuple[str, str, str]]:
    """(what, estimate, how it is computed)."""
    store = json.loads((RESULTS / "store_speed.json").read_text())["bytes_per_frame"]
    imported = json.loads((RESULTS / "import_speed.json").read_text())
    files, rate = imported["file_bytes_per_frame"], imported["import_frames_per_second"]
    embed = {gpu: FRAMES * CLIP_TFLOP / (flops * UTILISATION) / 3600 for gpu, flops in GPU_TFLOPS.items()}
    hours = ", ".join(f"{gpu} {value:.0f} h" for gpu, value in embed.items())
    policies = TASKS * SEEDS
    return [
        ("frames", f"{FRAMES / 1e6:.1f} million", "the paper's: three tasks of 500,000, exploration 1,000,000"),
        ("disk, episode files", gigabytes(FRAMES * files), f"{files:,.0f} bytes a frame (`import_speed.json`)"),
        ("disk, store", gigabytes(FRAMES * store), f"{store:,.0f} bytes a frame (`store_speed.json`, look `fast`)"),
        ("disk, embeddings", gigabytes(FRAMES * EMBEDDING_BYTES), f"{EMBED_DIM} float16 a frame"),
        ("GPU memory, data resident", gigabytes(FRAMES * (64 * 64 * 3 + EMBEDDING_BYTES)),
         f"64 x 64 x 3 bytes and {EMBED_DIM} float16 a frame; `--resident False` reads from disk instead"),
        ("import", f"{FRAMES / rate / 60:.0f} min", f"{rate:,.0f} frames a second on two cores (`import_speed.json`)"),
        ("embed, one GPU", hours,
         f"{CLIP_TFLOP} TFLOP a clip, a clip a frame, at {UTILISATION:.0%} of the data sheet's rate; N GPUs, an N-th"),
        ("pretrain", f"{PRETRAIN_V100_HOURS / 24:.0f} days on a V100", "the paper's, 500,000 updates"),
        ("one policy", f"{LEARN_V100_HOURS:.0f} h on a V100", "the paper's upper bound, 50,000 updates data-free"),
        ("benchmark", f"{policies * LEARN_V100_HOURS:.0f} h on a V100",
         f"{TASKS} tasks x {SEEDS} seeds = {policies} policies, one after the other; each is independent"),
    ]  # fmt: skip


def gigabytes(count: float) -> str:
    """10^9 bytes."""
    return f"{count / 1e9:.1f} GB"


def table() -> str:
    """Markdown."""
    lines = ["| what | estimate | computed from |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {what} | {estimate} | {how} |" for what, estimate, how in rows()])


if __name__ == "__main__":
    print(table())
