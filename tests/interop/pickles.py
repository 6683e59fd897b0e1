"""Pickles written by hand, instruction by instruction, and snapshots changed by them."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
SNAPSHOT, RELEASE = DATA / "peer_snapshot_tiny.pt", DATA / "peer_release_tiny.pt"
FOLDER = "archive"


def text(value: str) -> bytes:
    """Puts a text on the stack."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """Puts a whole number on the stack."""
    return b"I%d\n" % value


def name(module: str, attribute: str) -> bytes:
    """Puts a class or function on the stack, by the old instruction."""
    return f"c{module}\n{attribute}\n".encode()


def stack_name(module: str, attribute: str) -> bytes:
    """The same by the new instruction, which follows dots."""
    return text(module) + text(attribute) + b"\x93"


def items(*values: bytes) -> bytes:
    """Puts a tuple on the stack."""
    return b"(" + b"".join(values) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    """Calls a function."""
    return function + items(*arguments) + b"R"


def whole(instructions: bytes, protocol: int = 4) -> bytes:
    """A pickle of these instructions."""
    return b"\x80" + bytes([protocol]) + instructions + b"."


def member(file: Path, part: str) -> bytes:
    """A part of a snapshot."""
    with zipfile.ZipFile(file) as archive:
        return archive.read(f"{FOLDER}/{part}")


def changed(
    target: Path,
    parts: Mapping[str, bytes | None],
    source: Path = SNAPSHOT,
    folder: str = FOLDER,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Writes a copy of a snapshot in which some parts are others, new, or (None) left out."""
    with zipfile.ZipFile(source) as archive:
        members = {info.filename.removeprefix(f"{FOLDER}/"): archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(target, "w", compression) as archive:
        for part, data in {**members, **parts}.items():
            if data is not None:
                archive.writestr(f"{folder}/{part}", data)
    return target


def infected(target: Path, instructions: bytes, source: Path = SNAPSHOT) -> Path:
    """Writes a copy of a snapshot, whole and right, that does something else before it is loaded."""
    pickle = member(source, "data.pkl")
    return changed(target, {"data.pkl": b"\x80\x04" + instructions + b"0" + pickle[2:]}, source)
