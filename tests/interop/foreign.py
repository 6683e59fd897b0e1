"""Data sets of other formats whose every number tells which step it belongs to, written without our exporters.

Frame t is as bright as `LEVELS * t`, action t is `STEP * t` in its first component: by the formats' own convention it
is taken at frame t and leads to frame t + 1.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

LEVELS, STEP = 4, 0.01
"""Grey levels and action between one step and the next."""


def counting_frames(rows: int, size: tuple[int, int] = (32, 32), first: int = 0) -> np.ndarray:
    level = (LEVELS * (first + np.arange(rows))).astype(np.uint8)
    return np.broadcast_to(level[:, None, None, None], (rows, *size, 3)).copy()


def counting_actions(rows: int, first: int = 0) -> np.ndarray:
    step = STEP * (first + np.arange(rows, dtype=np.float32))
    return np.stack([step, -step], axis=1)


def steps_of(frames: np.ndarray) -> list[int]:
    """Which step each frame shows."""
    return np.rint(frames.mean(axis=(1, 2, 3)) / LEVELS).astype(int).tolist()


def write_lossless(path: Path, frames: np.ndarray, fps: int = 10, every: int = 4) -> Path:
    """A video whose pixels come back exactly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=Fraction(fps), options={"crf": "0", "g": str(every)})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def write_lerobot(
    root: Path,
    lengths: tuple[int, ...] = (6, 5),
    cameras: tuple[str, ...] = ("front",),
    tasks: tuple[str, ...] = ("pick up the cup", "close the drawer"),
    fps: int = 10,
    size: tuple[int, int] = (32, 32),
    scale: float = 1.0,
) -> Path:
    """All episodes in one data file and one video for each camera; camera c is brighter by c levels.

    Each frame of episode e has task e; steps count on from one episode to the next.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    data, episodes, first = [], [], 0
    for index, length in enumerate(lengths):
        rows = np.arange(length)
        actions = scale * counting_actions(length, first)
        data.append(
            pa.table(
                {
                    "action": pa.array(actions.tolist(), pa.list_(pa.float32())),
                    "observation.state": pa.array([[float(first + row)] * 3 for row in rows], pa.list_(pa.float32())),
                    "next.reward": pa.array(first + rows, pa.float32()),
                    "timestamp": pa.array(rows / fps, pa.float32()),
                    "frame_index": rows,
                    "episode_index": np.full(length, index),
                    "index": first + rows,
                    "task_index": np.full(length, index % len(tasks)),
                }
            )
        )
        facts = {
            "episode_index": index,
            "tasks": [tasks[index % len(tasks)]],
            "length": length,
            "dataset_from_index": first,
            "dataset_to_index": first + length,
            "data/chunk_index": 0,
            "data/file_index": 0,
        }
        for camera in cameras:
            prefix = f"videos/observation.images.{camera}/"
            facts |= {f"{prefix}chunk_index": 0, f"{prefix}file_index": 0}
            facts |= {f"{prefix}from_timestamp": first / fps, f"{prefix}to_timestamp": (first + length) / fps}
        episodes.append(facts)
        first += length
    for folder in ("meta/episodes/chunk-000", "data/chunk-000"):
        (root / folder).mkdir(parents=True)
    pq.write_table(pa.concat_tables(data), root / "data/chunk-000/file-000.parquet")
    pq.write_table(pa.Table.from_pylist(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    words = pa.table({"task_index": np.arange(len(tasks)), "__index_level_0__": list(tasks)})
    pq.write_table(words, root / "meta/tasks.parquet")
    features = {name: {"dtype": "float32", "shape": [n]} for name, n in (("action", 2), ("observation.state", 3))}
    for number, camera in enumerate(cameras):
        frames = counting_frames(first, size) + np.uint8(number)
        write_lossless(root / f"videos/observation.images.{camera}/chunk-000/file-000.mp4", frames, fps)
        features[f"observation.images.{camera}"] = {"dtype": "video", "shape": [*size, 3]}
    info = {
        "codebase_version": "v3.0",
        "robot_type": "arm",
        "fps": fps,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    return root
