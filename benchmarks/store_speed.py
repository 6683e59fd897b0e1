"""Speed, size and memory of the episode store.

    python benchmarks/store_speed.py --frames 2500000 --out benchmarks/results/store_speed.json

Writes a store of synthetic episodes whose images compress about as well as renders do (a lit, textured floor and a
moving figure), then reads windows as training does, of a store of which the machine holds nothing in memory yet.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from measuring import report

from genrl.data.sampler import WindowSampler
from genrl.data.store import EmbeddingInfo, EmbeddingWriter, Episode, StoreSpec, StoreWriter
from genrl.infra.compute import prepare

EPISODE_FRAMES = 501
ACTION_DIM, STATE_DIM, EMBEDDING_DIM = 6, 18, 256


@dataclass(frozen=True)
class StoreSpeedConfig:
    """What to measure."""

    frames: int = 100_000
    length: int = 48
    """Frames per window."""
    batch_size: int = 48
    batches: int = 200
    cold: bool = True
    """Have the kernel forget the store's pages before it is opened, so that batches come from disk."""
    out: Path | None = None
    """JSON file for the result; always printed as well."""


def synthetic_episode(rng: np.random.Generator) -> Episode:
    """An episode with a checkered floor that scrolls, and a figure of five parts that swing over it."""
    step = np.arange(EPISODE_FRAMES)
    v, u = np.mgrid[:64, :64]
    sky = np.stack([80 + v, 110 + v, 140 + v], -1).astype(np.uint8)
    frames = np.broadcast_to(sky, (EPISODE_FRAMES, 64, 64, 3)).copy()
    scroll = np.cumsum(rng.normal(0.4, 0.3, EPISODE_FRAMES))
    depth = 8.0 / (v[44:] - 40)
    tile = np.floor((u[44:] - 32)[None] * depth / 4 + scroll[:, None, None]) + np.floor(depth * 4)
    grain = rng.integers(-6, 7, (20, 64))
    frames[:, 44:] = (90 + 50 * (tile % 2) + 4 * depth + grain)[..., None].clip(0, 255)
    for part in range(5):
        phase, rate = rng.uniform(0, 6), rng.uniform(0.05, 0.3)
        x = 32 + (3 + 2 * part) * np.sin(rate * step + phase)
        y = 20 + 5 * part + 3 * np.cos(rate * step + phase)
        distance = np.hypot(u[None] - x[:, None, None], v[None] - y[:, None, None])
        # The grain of edges and shading: with it a frame takes about the 1.9 kB that a rendered walker takes.
        shade = (200 - 8 * distance + rng.normal(0, 8, distance.shape))[..., None] * np.array([1.0, 0.8, 0.5])
        frames = np.where((distance < 7)[..., None], shade.clip(0, 255), frames).astype(np.uint8)
    return Episode(
        frames=frames,
        action=rng.uniform(-1, 1, (EPISODE_FRAMES, ACTION_DIM)).astype(np.float32),
        reward=rng.uniform(0, 2, EPISODE_FRAMES).astype(np.float32),
        is_terminal=np.zeros(EPISODE_FRAMES, bool),
        state=rng.normal(size=(EPISODE_FRAMES, STATE_DIM)),
    )


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def forget_pages(path: Path) -> None:
    """Drops the pages of all files below a directory from the kernel's page cache."""
    for file in filter(Path.is_file, path.rglob("*")):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)  # Pages not yet written cannot be dropped.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def synthetic_store(path: Path, frames: int, embed_dim: int = EMBEDDING_DIM) -> tuple[int, int, float]:
    """Writes at least so many frames and their embeddings.

    Returns:
        Number of frames, bytes on disk without the embeddings, seconds that writing those took.
    """
    rng = np.random.default_rng(0)
    episodes = [synthetic_episode(rng) for _ in range(10)]
    num_episodes = -(-frames // EPISODE_FRAMES)
    spec = StoreSpec("walker", ACTION_DIM, "fast", "side", 2, 0.025, state_dim=STATE_DIM)
    begin = time.perf_counter()
    with StoreWriter.open(path, spec) as writer:
        for index in range(num_episodes):
            writer.add(episodes[index % len(episodes)], source="synthetic")
    seconds = time.perf_counter() - begin
    num_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    with EmbeddingWriter(path, EmbeddingInfo("synthetic", embed_dim, 8, "none")) as writer:
        while writer.done_rows < writer.num_rows:
            rows = min(writer.shard_frames, writer.num_rows - writer.done_rows)
            writer.write(writer.done_rows, rng.normal(0, embed_dim**-0.5, (rows, embed_dim)))
    return num_episodes * EPISODE_FRAMES, num_bytes, seconds


def measure(config: StoreSpeedConfig, directory: Path) -> dict[str, float | int | str]:
    """Write a store, embed it, read it; one number each."""
    path = directory / "store"
    num_frames, num_bytes, write_seconds = synthetic_store(path, config.frames)
    if config.cold:
        forget_pages(path)

    prepare(torch.device("cpu"))  # As training does.
    before = resident_mb()
    begin = time.perf_counter()
    sampler = WindowSampler([path], config.length, config.batch_size, seed=0, embedding="synthetic")
    open_seconds = time.perf_counter() - begin
    sampler.batch(0)
    processor = time.process_time()
    begin = time.perf_counter()
    for update in range(1, config.batches + 1):
        sampler.batch(update)
    read_seconds = time.perf_counter() - begin
    return {
        "frames": num_frames,
        "write_frames_per_second": round(num_frames / write_seconds),
        "bytes_per_frame": round(num_bytes / num_frames, 1),
        "open_seconds": round(open_seconds, 3),
        "page_cache": "dropped" if config.cold else "warm",
        "window_frames": config.length,
        "batch_size": config.batch_size,
        "batches_per_second": round(config.batches / read_seconds, 1),
        "cpu_seconds_per_batch": round((time.process_time() - processor) / config.batches, 4),
        "resident_growth_mb": round(resident_mb() - before),
        "cpu_count": os.cpu_count() or 0,
        "load_average": round(os.getloadavg()[0], 2),
    }


def main(config: StoreSpeedConfig) -> None:
    """Measure in a temporary directory and report."""
    with tempfile.TemporaryDirectory() as directory:
        result = measure(config, Path(directory))
    report(result, config.out)


if __name__ == "__main__":
    main(tyro.cli(StoreSpeedConfig))
