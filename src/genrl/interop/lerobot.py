"""LeRobot data sets, version 3: Parquet tables, and MP4 videos that hold many episodes one after the other.

    meta/info.json                                      frames a second, features, paths
    meta/tasks.parquet                                  task_index of each task in words
    meta/episodes/chunk-000/file-000.parquet            an episode a row: its length, and where its data and videos are
    data/chunk-000/file-000.parquet                     a frame a row: action, observation.state, task_index ...
    videos/observation.images.NAME/chunk-000/file-000.mp4

Row t of an episode holds frame t and the action taken there, which leads to frame t + 1. In a store that action is in
row t + 1, so row 0 has a zero action, and the last action of the episode, whose frame was not recorded, is left out.
`next.reward` and `next.terminated` move likewise.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from av.error import FFmpegError
from PIL import Image

from genrl.data.episode import Array, Episode
from genrl.infra.errors import UserError
from genrl.infra.media import upright_frame
from genrl.interop.actions import ActionUnits, NamedActions, after_frames, choose_units, given_units
from genrl.interop.importing import FoundEpisode, ImportOptions, Provenance, describe, fitted_frames, recorded_fps
from genrl.interop.original import CorruptEpisodeError
from genrl.interop.rate import frames_per_row

INFO, PROVENANCE, STATS, TASKS = "meta/info.json", "meta/genrl.json", "meta/stats.json", "meta/tasks.parquet"
"""Files of a data set. `meta/genrl.json` is ours: the store's own description; everybody else ignores it."""
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_PATH = f"meta/episodes/{FILE}.parquet"
DATA_PATH = f"data/{FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{FILE}.mp4"
IMAGES, STATE, ACTION = "observation.images.", "observation.state", "action"
REWARD, DONE, TERMINATED = "next.reward", "next.done", "next.terminated"
SEVERAL_TASKS = "; "
"""Between the tasks of an episode that has several: a store keeps one prompt an episode."""


class LeRobotSource:
    """Episodes of a LeRobot data set.

    Args:
        root: Its directory.
        options: What the data do not tell.
        units: Units of the actions in the store that is added to, if there is one.

    Raises:
        UserError: If it is no such data set, of another version, or something is to be said about it.
    """

    def __init__(self, root: Path, options: ImportOptions, units: ActionUnits | None) -> None:
        self.place, self.root = str(root), root
        self.info = _read_info(root)
        try:
            self.tasks = _read_tasks(root / TASKS)
            self.episodes = read_episodes(root)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise UserError(
                f"{root}: tasks or episodes cannot be read ({error}); download the data set again"
            ) from error
        self.camera = _camera(self.info["features"], options.camera, self.place)
        self._open: tuple[Path, pa.Table] | None = None

        shape = self.info["features"].get(ACTION, {}).get("shape")
        if shape is None or len(shape) != 1:
            raise UserError(f"{root} has no feature {ACTION!r} that is a row of numbers")
        state = self.info["features"].get(STATE, {}).get("shape", ())
        provenance = read_provenance(root)
        own = None if provenance is None else provenance.spec
        self.units = choose_units(
            options.action_kind,
            given_units(options.action_low, options.action_high, shape[0]),
            units if own is None else ActionUnits.of(own),
            self._all_actions,
        )
        self.spec = describe(
            options,
            self.units,
            action_dim=shape[0],
            state_dim=state[0] if len(state) == 1 else 0,
            own=own,
            domain=self.info.get("robot_type") or root.absolute().name,
            camera=self.camera.removeprefix(IMAGES),
            fps=float(self.info["fps"]),
            place=self.place,
        )
        rate = recorded_fps(options, own, float(self.info["fps"]), self.place)
        self.every = frames_per_row(rate, options.store_fps, self.place)
        self.origins = [f"{root.absolute().name}#{episode['episode_index']}" for episode in self.episodes]

    def read(self, index: int) -> FoundEpisode:
        """One episode; its frames are resized as they are read.

        Raises:
            CorruptEpisodeError: If it cannot be used.
        """
        facts = self.episodes[index]
        try:
            rows = self._rows(facts)
            stored = self.info["features"][self.camera]["dtype"]
            images = self._images(rows) if stored == "image" else self._video(facts)
            frames, size = fitted_frames(images, self.spec.frame_size)
            action = self.units.to_store(_numbers(rows[ACTION], self.spec.action_dim))
            state = _numbers(rows[STATE], self.spec.state_dim).astype(np.float64) if self.spec.state_dim else None
            reward, terminated = (
                _numbers(rows[name], 1)[:-1, 0] if name in rows.column_names else np.zeros(len(rows) - 1)
                for name in (REWARD, TERMINATED)
            )
            prompt = SEVERAL_TASKS.join(dict.fromkeys(self.tasks[number] for number in rows["task_index"].to_pylist()))
        except (pa.ArrowException, FFmpegError, OSError, KeyError, ValueError) as error:
            if isinstance(error, CorruptEpisodeError):
                raise
            raise CorruptEpisodeError(f"the episode cannot be read ({error})") from error
        episode = Episode(
            frames=frames,
            action=after_frames(action[:-1]),
            reward=after_frames(reward.astype(np.float32)),
            is_terminal=after_frames(terminated.astype(bool)),
            state=state,
            prompt=prompt,
        )
        return FoundEpisode(episode, facts.get("source") or f"lerobot:{self.root.absolute().name}", size, self.every)

    def _rows(self, facts: dict[str, Any]) -> pa.Table:
        """Rows of one episode; the file they are in stays open, since the next episode is likely there too."""
        path = self._data_file(facts)
        if self._open is None or self._open[0] != path:
            wanted = {ACTION, STATE, REWARD, TERMINATED, "task_index", "frame_index", "episode_index", self.camera}
            names = [name for name in pq.read_schema(path).names if name in wanted]
            self._open = path, pq.read_table(path, columns=names)
        table = self._open[1]
        rows = table.filter(pa.compute.equal(table["episode_index"], facts["episode_index"])).sort_by("frame_index")
        if len(rows) != facts["length"] or rows["frame_index"].to_pylist() != list(range(len(rows))):
            raise CorruptEpisodeError(f"{path} has {len(rows)} of its {facts['length']} rows")
        if not len(rows):
            raise CorruptEpisodeError("it has no rows")
        return rows

    def _data_file(self, facts: dict[str, Any]) -> Path:
        place = {"chunk_index": facts["data/chunk_index"], "file_index": facts["data/file_index"]}
        return self.root / self.info["data_path"].format(**place)

    def _all_actions(self) -> NamedActions:
        """(N, A) actions of each data file that can be read."""
        for path in dict.fromkeys(self._data_file(facts) for facts in self.episodes):
            try:
                column = pq.read_table(path, columns=[ACTION])[ACTION]
                yield str(path), _numbers(column, self.info["features"][ACTION]["shape"][0])
            except (pa.ArrowException, OSError, ValueError):
                continue  # its episodes are set aside when they are read

    def _images(self, rows: pa.Table) -> Iterator[Array]:
        """(h, w, 3) frames that are kept in the table as PNG or JPEG."""
        for item in rows[self.camera].to_pylist():
            yield np.asarray(Image.open(io.BytesIO(item["bytes"])).convert("RGB"))

    def _video(self, facts: dict[str, Any]) -> Iterator[Array]:
        """(h, w, 3) frames of one episode out of a video of many."""
        prefix = f"videos/{self.camera}/"
        place = {name: facts[f"{prefix}{name}"] for name in ("chunk_index", "file_index")}
        path = self.root / self.info["video_path"].format(video_key=self.camera, **place)
        period = 1.0 / self.info["fps"]
        start, count = facts[f"{prefix}from_timestamp"], 0
        for seconds, frame in itertools.islice(_frames_from(path, start, period / 2), facts["length"]):
            expected = start + count * period
            if abs(seconds - expected) > period / 2:
                raise CorruptEpisodeError(f"{path}: no frame at {expected:.3f} s, but one at {seconds:.3f} s")
            yield frame
            count += 1
        if count < facts["length"]:
            raise CorruptEpisodeError(f"{path} has {count} of its {facts['length']} frames")


def read_provenance(root: Path) -> Provenance | None:
    """What an export of ours says about itself; None for data of others."""
    file = root / PROVENANCE
    return Provenance.from_json(file.read_text(), str(file)) if file.is_file() else None


def _read_info(root: Path) -> dict[str, Any]:
    """`meta/info.json`, with what is needed in it."""
    if not (root / INFO).is_file():
        raise UserError(f"{root} is no LeRobot data set (it has no {INFO}); name the directory that holds meta/")
    try:
        info = json.loads((root / INFO).read_text())
        version, _, _, fps = info["codebase_version"], info["features"], info["data_path"], Fraction(info["fps"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{root / INFO} is damaged ({error!r}); download the data set again") from error
    if not str(version).startswith("v3."):
        raise UserError(
            f"{root} is a LeRobot data set of version {version}; only v3 can be imported "
            "(lerobot brings a script that converts older ones)"
        )
    if fps <= 0:
        raise UserError(f"{root / INFO}: fps must be above 0, got {info['fps']}")
    return info


def _read_tasks(path: Path) -> dict[int, str]:
    """Words of each task_index; pandas writes the words as an index, whose column has no certain name."""
    table = pq.read_table(path)
    words = next(name for name in table.column_names if name != "task_index")
    return dict(zip(table["task_index"].to_pylist(), table[words].to_pylist(), strict=True))


def episode_files(root: Path) -> list[Path]:
    """Tables of episodes, in order; a hidden one is what a killed export was writing."""
    return sorted(file for file in (root / "meta" / "episodes").glob("*/*.parquet") if not file.name.startswith("."))


def read_episodes(root: Path) -> list[dict[str, Any]]:
    """Facts about each episode, in order; statistics are left out."""
    episodes = []
    for file in episode_files(root):
        names = [name for name in pq.read_schema(file).names if not name.startswith("stats/")]
        episodes += pq.read_table(file, columns=names).to_pylist()
    return sorted(episodes, key=lambda facts: facts["episode_index"])


def _camera(features: dict[str, Any], wanted: str | None, place: str) -> str:
    """Feature that holds the wanted images."""
    cameras = [name for name, feature in features.items() if feature.get("dtype") in ("image", "video")]
    short = ", ".join(name.removeprefix(IMAGES) for name in cameras)
    if not cameras:
        raise UserError(f"{place} has no images; models read frames")
    if wanted is None:
        if len(cameras) > 1:
            raise UserError(f"{place} has several cameras; choose with --camera: {short}")
        return cameras[0]
    found = next((name for name in cameras if wanted in (name, name.removeprefix(IMAGES))), None)
    if found is None:
        raise UserError(f"--camera {wanted}: no such camera in {place}; known: {short}")
    return found


def _numbers(column: pa.ChunkedArray, size: int) -> Array:
    """(N, size) of a column of numbers, or of lists of them."""
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # a column of no rows stays in chunks
        values = pa.concat_arrays(values.chunks)
    flat = values.flatten() if pa.types.is_nested(values.type) else values
    numbers = flat.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "fiub" or len(numbers) != len(column) * size:
        raise CorruptEpisodeError(f"a column holds {numbers.dtype}, {len(numbers)} for {len(column)} rows of {size}")
    return numbers.reshape(len(column), size)


def _frames_from(path: Path, start: float, tolerance: float) -> Iterator[tuple[float, Array]]:
    """(seconds, (h, w, 3) uint8) of the frames of a video from some time on."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        container.seek(max(0, int(start / stream.time_base)), stream=stream)
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= start - tolerance:
                yield frame.time, upright_frame(frame)
