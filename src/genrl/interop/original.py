"""Episodes as the original's data sets hold them: one `.npz` file each.

    observation  uint8    (N, 3, h, w)      frames, channels first; row 0 is the reset
    action       float32  (N, A)            action that led to the row, in -1 ... 1
    reward       float32  (N,) or (N, 1)    sum over the action repeat
    discount     float32  (N,) or (N, 1)    may be missing
    is_first, is_last, is_terminal  bool  (N,)
    clip_video   float32  (N, E)            InternVideo2 embedding of the clip that ends at the row; zero where missing
    state        float32  (N, S)            of some domains

The files come from anywhere, so nothing in them is unpickled: arrays of objects are told by their header and skipped.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genrl.data.episode import Array, Episode
from genrl.infra.media import resize_frames

EMBEDDING = "internvideo2"
"""Name that `clip_video` gets in a store."""
READ_ARRAYS = {"observation", "action", "reward", "discount", "is_first", "is_terminal", "clip_video", "state"}
KNOWN_ARRAYS = READ_ARRAYS | {"is_last", "clip_img"}
"""Names that need no notice; `is_last` follows from the length, `clip_img` is not used by the method."""
ACTION_TOLERANCE = 1e-3
"""How far beyond -1 ... 1 an action may be by rounding; it is clipped."""


class CorruptEpisodeError(ValueError):
    """A file that cannot be used; the message says why."""


@dataclass(frozen=True)
class OriginalEpisode:
    """What one file held.

    Attributes:
        episode: Its rows; `embeddings` is empty when the file had no `clip_video`.
        unknown: Names of arrays that nobody here knows, which were ignored.
        resized_from: (height, width) of the images when they had another size than the store, else None.
    """

    episode: Episode
    unknown: frozenset[str]
    resized_from: tuple[int, int] | None


def read_original(file: Path, frame_size: int) -> OriginalEpisode:
    """Read one episode file of the original.

    Args:
        file: The `.npz` file.
        frame_size: Height and width that the frames are to have.

    Raises:
        CorruptEpisodeError: If the file is truncated, lacks an array, or its arrays do not fit together.
    """
    arrays, names = _read_arrays(file)
    for name in ("observation", "action", "reward"):
        if name not in arrays:
            raise CorruptEpisodeError(f"array {name!r} is missing")
    frames = _frames(arrays["observation"])
    rows = len(frames)
    action = _rows_of_numbers(arrays, "action", rows)
    if action.shape[1] == 0 or np.abs(action).max() > 1.0 + ACTION_TOLERANCE:
        raise CorruptEpisodeError("actions are not within -1 ... 1")
    action = action.clip(-1.0, 1.0)
    action[0] = 0.0
    if "is_first" in arrays and arrays["is_first"].reshape(-1)[1:].any():
        raise CorruptEpisodeError("it holds more than one episode (is_first is set after the first row)")
    embeddings = {}
    if "clip_video" in arrays:
        embeddings[EMBEDDING] = _normalised(_rows_of_numbers(arrays, "clip_video", rows, finite=False))
    resized_from = None
    if frames.shape[1:3] != (frame_size, frame_size):
        resized_from = (frames.shape[1], frames.shape[2])
        frames = resize_frames(frames, frame_size)
    episode = Episode(
        frames=np.ascontiguousarray(frames),
        action=action,
        reward=_numbers(arrays, "reward", rows),
        is_terminal=_is_terminal(arrays, rows),
        state=_rows_of_numbers(arrays, "state", rows).astype(np.float64) if "state" in arrays else None,
        embeddings=embeddings,
    )
    return OriginalEpisode(episode, frozenset(names - KNOWN_ARRAYS), resized_from)


def read_actions(file: Path) -> Array:
    """(N - 1, A) actions of an episode file, without the first row's, which led nowhere; nothing else is read.

    Raises:
        CorruptEpisodeError: If they cannot be read.
    """
    arrays, _ = _read_arrays(file, {"action"})
    if "action" not in arrays:
        raise CorruptEpisodeError("array 'action' is missing")
    return _rows_of_numbers(arrays, "action", len(arrays["action"]))[1:]


def _read_arrays(file: Path, wanted: set[str] = READ_ARRAYS) -> tuple[dict[str, Array], set[str]]:
    """The arrays that are wanted, and the names of all that are there."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            arrays = {name: _read_array(archive, members[name]) for name in wanted & set(members)}
    except CorruptEpisodeError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise CorruptEpisodeError(f"the file cannot be read ({error})") from error
    return {name: array for name, array in arrays.items() if array is not None}, set(members)


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array | None:
    """One array of an archive; None for an array of objects, which is never unpickled."""
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise CorruptEpisodeError(f"array {info.filename!r} has an unknown format version {version}")
        shape, fortran_order, dtype = read_header[version](stream)
        if dtype.hasobject:
            return None
        # Told by the archive's own directory before anything is allocated: a damaged header may claim any shape.
        num_bytes = info.file_size - stream.tell()
        if math.prod(shape) * dtype.itemsize != num_bytes:
            raise CorruptEpisodeError(f"array {info.filename!r} is not as long as its header says")
        values = np.frombuffer(stream.read(), dtype)
    return values.reshape(shape, order="F" if fortran_order else "C")


def _frames(observation: Array) -> Array:
    """(N, h, w, 3) frames from channels first or, where only that fits, channels last."""
    if observation.dtype != np.uint8 or observation.ndim != 4 or 0 in observation.shape:
        raise CorruptEpisodeError(f"observation is {observation.dtype} {observation.shape}, not uint8 (N, 3, h, w)")
    if observation.shape[1] == 3:
        return observation.transpose(0, 2, 3, 1)
    if observation.shape[3] == 3:
        return observation
    raise CorruptEpisodeError(f"observation has shape {observation.shape}, not (N, 3, h, w)")


def _numbers(arrays: dict[str, Array], name: str, rows: int) -> Array:
    """(N,) finite float32 from an array of shape (N,) or (N, 1)."""
    array = arrays[name]
    if array.shape not in ((rows,), (rows, 1)):
        raise CorruptEpisodeError(f"{name} has shape {array.shape}, but there are {rows} frames")
    return _finite(array.reshape(rows), name)


def _rows_of_numbers(arrays: dict[str, Array], name: str, rows: int, finite: bool = True) -> Array:
    """(N, size) float32."""
    array = arrays[name]
    if array.ndim != 2 or len(array) != rows:
        raise CorruptEpisodeError(f"{name} has shape {array.shape}, but there are {rows} frames")
    return _finite(array, name) if finite else array.astype(np.float32)


def _finite(array: Array, name: str) -> Array:
    if array.dtype.kind not in "fiub":
        raise CorruptEpisodeError(f"{name} holds {array.dtype}, not numbers")
    if not np.isfinite(array).all():
        raise CorruptEpisodeError(f"{name} holds NaN or infinity")
    return array.astype(np.float32)


def _is_terminal(arrays: dict[str, Array], rows: int) -> Array:
    """(N,) bool; a discount of zero means the same where the flag is missing."""
    if "is_terminal" in arrays:
        return _numbers(arrays, "is_terminal", rows) != 0
    if "discount" in arrays:
        return _numbers(arrays, "discount", rows) == 0
    return np.zeros(rows, bool)


def _normalised(embedding: Array) -> Array:
    """(N, E) float16 of unit length; rows that are zero or not finite become zero, which means missing."""
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    usable = np.isfinite(length) & (length > 1e-6)
    return np.where(usable, embedding / np.where(usable, length, 1.0), 0.0).astype(np.float16)
