"""Stores as LeRobot data sets; what the files are: `lerobot.py`.

Episodes are written in parts, a data file and a video file each. The part's file in `meta/episodes` comes last: with
it the part is there, and a killed export goes on after the last one. `info.json`, statistics and tasks are then
written anew from all parts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genrl.data.episode import Array, Episode, StoreSpec
from genrl.infra.checkpoint import atomic_path, atomic_write, disk_errors, remove_leftovers
from genrl.infra.errors import UserError
from genrl.interop import lerobot as layout
from genrl.interop.actions import ActionUnits
from genrl.interop.importing import Provenance
from genrl.interop.lerobot_statistics import Statistics, episode_statistics

FRAMES_PER_FILE = 8192
FILES_PER_CHUNK = 1000
KEYFRAME_EVERY = 8
"""Frames between those that a video can be entered at: readers draw frames at random."""
LOSSLESS = {"codec": "libx264rgb", "pix_fmt": "rgb24", "crf": "0"}
SMALL = {"codec": "libx264", "pix_fmt": "yuv420p", "crf": "18"}


class LeRobotSink:
    """Writes episodes to a LeRobot data set, or adds to one that it wrote; a context manager.

    Args:
        root: Directory of the data set.
        spec: What the episodes share.
        lossless: Whether frames stay as they are; else they become H.264 as every player reads it.

    Attributes:
        origins: Names of the episodes that are there already.

    Raises:
        UserError: If the directory holds something else.
    """

    def __init__(self, root: Path, spec: StoreSpec, lossless: bool) -> None:
        if not lossless and spec.frame_size % 2:
            raise UserError(
                f"frames of {spec.frame_size} pixels are odd, which H.264 cannot do; leave --no-lossless out"
            )
        self.root, self.spec, self.units = root, spec, ActionUnits.of(spec)
        self.video = LOSSLESS if lossless else SMALL
        self.camera = layout.IMAGES + (spec.camera.replace("/", "_").removeprefix(layout.IMAGES) or "camera")
        rate = Fraction(1.0 / (spec.control_timestep * spec.action_repeat)).limit_denominator(1000)
        self.rate = rate
        self.fps = int(rate) if rate.denominator == 1 else float(rate)
        self.provenance = Provenance(spec, lossless)
        _check_place(root, self.provenance)
        self.episodes = layout.read_episodes(root)
        self.tasks, self.statistics = _tasks(self.episodes), Statistics(root)
        self.origins = {facts["origin"] for facts in self.episodes}
        self._part: _Part | None = None

    def write(self, episode: Episode, source: str, origin: str) -> None:
        """Adds an episode; kept once its part is full, or by `close`."""
        if self._part is None:
            atomic_write(self.root / layout.PROVENANCE, self.provenance.to_json())
            number = 1 + max((_number(facts) for facts in self.episodes), default=-1)
            self._part = _Part(self, number)
        first = self.episodes[-1]["dataset_to_index"] if self.episodes else 0
        index = len(self.episodes)
        task = self.tasks.setdefault(episode.prompt, len(self.tasks))
        table = _table(episode, self.spec, self.units, index, first, task, self.fps)
        facts = {
            "episode_index": index,
            "tasks": [episode.prompt],
            "length": len(episode),
            "dataset_from_index": first,
            "dataset_to_index": first + len(episode),
            "source": source,
            "origin": origin,
        }
        facts |= self._part.write(table, episode.frames)
        measures = episode_statistics(table, episode.frames, self.camera)
        self.statistics.add(measures)
        facts |= measures
        self.episodes.append(facts)
        self.origins.add(origin)
        if self._part.frames >= FRAMES_PER_FILE:
            self._commit()

    def close(self) -> None:
        """Keeps what was added, and writes what describes the whole."""
        if self._part is not None:
            self._commit()
        self._describe()

    def __enter__(self) -> LeRobotSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._part is not None and kind is not None:
            self._part.discard()
        elif self.episodes:
            self.close()

    def _commit(self) -> None:
        assert self._part is not None
        own = [facts for facts in self.episodes if _number(facts) == self._part.number]
        with disk_errors(self.root):
            self._part.close()
        columns = {name: [facts[name] for facts in own] for name in own[0]}
        with atomic_path(_path(self.root, layout.EPISODES_PATH, self._part.number)) as aside:
            pq.write_table(pa.table(columns), aside)
        self._part = None
        self._describe()

    def _describe(self) -> None:
        """Writes tasks, statistics and, last, `info.json`."""
        size = [self.spec.frame_size, self.spec.frame_size, 3]
        video = {
            "video.height": size[0], "video.width": size[1], "video.channels": 3, "video.fps": self.fps,
            "video.codec": "h264", "video.pix_fmt": "gbrp" if self.video is LOSSLESS else self.video["pix_fmt"],
            "video.is_depth_map": False, "has_audio": False,
        }  # fmt: skip
        features: dict[str, Any] = {
            self.camera: {"dtype": "video", "shape": size, "names": ["height", "width", "channels"], "info": video}
        }
        for name, field in _schema(self.spec).items():
            vector = pa.types.is_fixed_size_list(field)
            dtype = field.value_type if vector else field
            features[name] = {
                "dtype": "float32" if dtype == pa.float32() else str(dtype),
                "shape": [field.list_size if vector else 1],
                "names": None,
            }
        info = {
            "codebase_version": "v3.0",
            "robot_type": self.spec.domain,
            "total_episodes": len(self.episodes),
            "total_frames": self.episodes[-1]["dataset_to_index"],
            "total_tasks": len(self.tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self.fps,
            "splits": {"train": f"0:{len(self.episodes)}"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH,
            "features": features,
        }
        with atomic_path(self.root / layout.TASKS) as aside:
            pq.write_table(_task_table(self.tasks), aside)
        atomic_write(self.root / layout.STATS, json.dumps(self.statistics.to_dict(), indent=4))
        atomic_write(self.root / layout.INFO, json.dumps(info, indent=4))


class _Part:
    """A data file and a video file that are being written aside."""

    def __init__(self, sink: LeRobotSink, number: int) -> None:
        self.sink, self.number = sink, number
        self.frames = 0
        places = (_path(sink.root, layout.DATA_PATH, number), _path(sink.root, layout.VIDEO_PATH, number, sink.camera))
        self._files = {place: place.with_name(f".{place.stem}.tmp-{os.getpid()}{place.suffix}") for place in places}
        for place in (*places, _path(sink.root, layout.EPISODES_PATH, number), sink.root / layout.INFO):
            place.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(place.parent)
        data, video = self._files.values()
        schema = pa.schema(list(_schema(sink.spec).items()))
        self._data = pq.ParquetWriter(data, schema)
        self._container = av.open(str(video), "w", format="mp4")
        options = {"crf": sink.video["crf"], "preset": "medium", "g": str(KEYFRAME_EVERY), "bf": "0"}
        stream = self._container.add_stream(sink.video["codec"], rate=sink.rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height = stream.width = sink.spec.frame_size
        stream.pix_fmt = sink.video["pix_fmt"]
        self._stream = stream

    def write(self, table: pa.Table, frames: Array) -> dict[str, Any]:
        """Adds the rows and the frames of an episode, and tells where they are."""
        self._data.write_table(table, row_group_size=len(table))
        first = self.frames
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = self.frames, 1 / self.sink.rate
            self._container.mux(self._stream.encode(frame))
            self.frames += 1
        place = {"chunk_index": self.number // FILES_PER_CHUNK, "file_index": self.number % FILES_PER_CHUNK}
        video = place | {
            "from_timestamp": float(first / self.sink.rate),
            "to_timestamp": float(self.frames / self.sink.rate),
        }
        facts = {f"{kind}/{name}": value for kind in ("data", "meta/episodes") for name, value in place.items()}
        return facts | {f"videos/{self.sink.camera}/{name}": value for name, value in video.items()}

    def close(self) -> None:
        """Finishes both files and puts them in place."""
        self._data.close()
        self._container.mux(self._stream.encode())
        self._container.close()
        for place, aside in self._files.items():
            os.replace(aside, place)

    def discard(self) -> None:
        """Forgets the part."""
        self._data.close()
        self._container.close()
        for aside in self._files.values():
            aside.unlink(missing_ok=True)


def _schema(spec: StoreSpec) -> dict[str, pa.DataType]:
    """Columns of the data files."""
    state = {layout.STATE: pa.list_(pa.float32(), spec.state_dim)} if spec.state_dim else {}
    return state | {
        layout.ACTION: pa.list_(pa.float32(), spec.action_dim),
        layout.REWARD: pa.float32(),
        layout.DONE: pa.bool_(),
        layout.TERMINATED: pa.bool_(),
        "timestamp": pa.float32(),
        "frame_index": pa.int64(),
        "episode_index": pa.int64(),
        "index": pa.int64(),
        "task_index": pa.int64(),
    }


def _table(
    episode: Episode, spec: StoreSpec, units: ActionUnits, index: int, first: int, task: int, fps: float
) -> pa.Table:
    """Rows of an episode: each action beside the frame it was taken at; the last frame's repeats the one before."""
    rows = np.arange(len(episode))
    following = np.minimum(rows + 1, len(rows) - 1)
    last = rows == rows[-1]
    values: dict[str, Array] = {
        layout.ACTION: units.to_native(episode.action[following]),
        layout.REWARD: np.where(last, 0.0, episode.reward[following]),
        layout.DONE: last,
        layout.TERMINATED: np.where(last, False, episode.is_terminal[following]),
        "timestamp": rows / fps,
        "frame_index": rows,
        "episode_index": np.full(len(rows), index),
        "index": first + rows,
        "task_index": np.full(len(rows), task),
    }
    if episode.state is not None:
        values[layout.STATE] = episode.state
    columns = {}
    for name, kind in _schema(spec).items():
        if pa.types.is_fixed_size_list(kind):
            flat = pa.array(values[name].reshape(-1).astype(np.float32))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
        else:
            columns[name] = pa.array(values[name].astype(kind.to_pandas_dtype()))
    return pa.table(columns, schema=pa.schema(list(_schema(spec).items())))


def _task_table(tasks: Mapping[str, int]) -> pa.Table:
    """Words as the index of a pandas frame, which is how LeRobot looks them up."""
    table = pa.table({"task_index": pa.array(tasks.values(), pa.int64()), "task": pa.array(tasks, pa.string())})
    text = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    number = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [{"name": None, "field_name": None} | text | {"metadata": {"encoding": "UTF-8"}}],
        "columns": [
            {"name": "task_index", "field_name": "task_index"} | number,
            {"name": "task", "field_name": "task"} | text,
        ],
        "pandas_version": "2.0.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _tasks(episodes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Number of each task, in the order in which they first occur."""
    tasks: dict[str, int] = {}
    for facts in episodes:
        tasks.setdefault(facts["tasks"][0], len(tasks))
    return tasks


def _check_place(root: Path, provenance: Provenance) -> None:
    """Refuse a directory of something else, or of episodes that these do not fit to."""
    if not root.exists() or not any(root.iterdir()):
        return
    there = layout.read_provenance(root)
    if there is None:
        raise UserError(f"--out {root} is not an export of ours; name a new or empty directory")
    if there != provenance:
        raise UserError(f"--out {root} holds another kind of episodes ({there}); name another directory")


def _number(facts: Mapping[str, Any]) -> int:
    """Number of the part that an episode is in."""
    return facts["data/chunk_index"] * FILES_PER_CHUNK + facts["data/file_index"]


def _path(root: Path, pattern: str, number: int, camera: str = "") -> Path:
    place = {"chunk_index": number // FILES_PER_CHUNK, "file_index": number % FILES_PER_CHUNK}
    return root / pattern.format(video_key=camera, **place)
