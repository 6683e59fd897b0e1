"""Videos as phones write them: stored as the sensor lies, with a matrix in the file that says how to hold them up."""

from __future__ import annotations

import struct
from pathlib import Path

import av

ONE = 1 << 16
"""1.0 in the 16.16 fixed point of a `tkhd` box."""
MATRICES = {
    "90": (0, ONE, -ONE, 0),
    "180": (-ONE, 0, 0, -ONE),
    "270": (0, -ONE, ONE, 0),
    "mirrored": (-ONE, 0, 0, ONE),
    "transposed": (0, ONE, ONE, 0),
}
"""(a, b, c, d) that turn a stored picture clockwise by as many degrees, and two that mirror it."""
COUNTERCLOCKWISE = {"90": -90, "180": -180, "270": 90}
"""What PyAV says of the turns."""
VERSION_0_MATRIX = 40
"""Bytes from the end of the word `tkhd` to the matrix."""


def turn_video(path: Path, matrix: str) -> Path:
    """Write a matrix into the header of an MP4's only track, and make sure that FFmpeg finds it there."""
    data = bytearray(path.read_bytes())
    assert data.count(b"tkhd") == 1
    start = data.index(b"tkhd") + 4
    assert data[start] == 0, "version 0 of the box"
    a, b, c, d = MATRICES[matrix]
    data[start + VERSION_0_MATRIX : start + VERSION_0_MATRIX + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.side_data.get("DISPLAYMATRIX") is not None
            assert matrix not in COUNTERCLOCKWISE or frame.rotation == COUNTERCLOCKWISE[matrix]
    return path
