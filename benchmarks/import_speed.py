"""Frames a second and memory of importing, and exporting, a data set of the original's episode files.

    python benchmarks/import_speed.py --out benchmarks/results/import_speed.json

The frames are those of `store_speed.py`. Ten episodes with embeddings are written as the original writes them, and
stand under many names in nested folders: reading does not know. Each measurement runs in a process of its own, so that
its largest memory is that of what it does; importing a tenth of the files shows what grows with them.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from measuring import report
from store_speed import EPISODE_FRAMES, synthetic_episode

from genrl.interop.original_export import original_arrays
from genrl.run.data import ExportConfig, ImportConfig, export, import_

EMBEDDING_DIM = 512
DIFFERENT, FOLDERS = 10, 20


@dataclass(frozen=True)
class ImportSpeedConfig:
    """What to measure."""

    episodes: int = 1000
    """Files to import, of 501 frames each; a tenth of them is exported."""
    out: Path | None = None
    """JSON file for the result; always printed as well."""


@dataclass(frozen=True)
class Measured:
    """Frames, seconds, processor seconds of all threads, growth of the largest memory in MB, and that itself."""

    frames: int
    seconds: float
    cpu_seconds: float
    growth_mb: float
    peak_mb: float


def write_files(directory: Path, episodes: int) -> None:
    """Episode files in nested folders; one of each ten is a file of its own, the others are further names of it."""
    rng = np.random.default_rng(0)
    for number in range(episodes):
        file = directory / f"part_{number % FOLDERS // 5}" / f"agent_{number % FOLDERS}" / f"{number:06d}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        if number < DIFFERENT:
            embedding = rng.normal(0, EMBEDDING_DIM**-0.5, (EPISODE_FRAMES, EMBEDDING_DIM)).astype(np.float16)
            episode = replace(synthetic_episode(rng), state=None, embeddings={"internvideo2": embedding})
            np.savez_compressed(file, **original_arrays(episode))
        else:
            first = number % DIFFERENT
            os.link(directory / f"part_{first % FOLDERS // 5}" / f"agent_{first}" / f"{first:06d}.npz", file)


def timed_import(source: Path, out: Path) -> Measured:
    """An import of all files."""
    return timed(lambda: import_(ImportConfig(source=source, out=out, domain="walker")).frames)


def timed_export(store: Path, out: Path) -> Measured:
    """An export of a whole store."""
    return timed(lambda: export(ExportConfig((store,), out, "original")).frames)


def timed(work: Callable[[], int]) -> Measured:
    """Runs what gives its number of frames."""
    memory, cpu, began = peak_mb(), time.process_time(), time.perf_counter()
    frames = work()
    return Measured(frames, time.perf_counter() - began, time.process_time() - cpu, peak_mb() - memory, peak_mb())


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def apart(function: Callable[..., Measured], *arguments: Path) -> Measured:
    """Runs a measurement in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(config: ImportSpeedConfig, directory: Path) -> dict[str, float | int]:
    """A tenth, all of it, and the tenth back."""
    tenth = max(1, config.episodes // 10)
    write_files(directory / "tenth", tenth)
    write_files(directory / "all", config.episodes)
    num_bytes = sum(file.stat().st_size for file in (directory / "all").rglob("*.npz"))
    small = apart(timed_import, directory / "tenth", directory / "small")
    whole = apart(timed_import, directory / "all", directory / "store")
    back = apart(timed_export, directory / "small", directory / "back")
    return {
        "episodes": config.episodes,
        "frames": whole.frames,
        "file_bytes_per_frame": round(num_bytes / whole.frames, 1),
        "import_frames_per_second": round(whole.frames / whole.seconds),
        "import_frames_per_cpu_second": round(whole.frames / whole.cpu_seconds),
        "import_peak_mb": round(whole.peak_mb),
        "import_growth_mb": round(whole.growth_mb),
        "import_growth_mb_of_a_tenth": round(small.growth_mb),
        "export_frames_per_second": round(back.frames / back.seconds),
        "export_frames_per_cpu_second": round(back.frames / back.cpu_seconds),
        "export_growth_mb": round(back.growth_mb),
        "cpu_count": os.cpu_count() or 0,
        "load_average": round(os.getloadavg()[0], 2),
    }


def main(config: ImportSpeedConfig) -> None:
    """Measure in a temporary directory and report."""
    with tempfile.TemporaryDirectory() as directory:
        result = measure(config, Path(directory))
    report(result, config.out)


if __name__ == "__main__":
    main(tyro.cli(ImportSpeedConfig))
