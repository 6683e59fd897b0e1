"""Files and checkpoints that are whole or absent: written aside, flushed, then renamed."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from genrl.infra.errors import UserError

TENSORS_FILE, META_FILE = "tensors.safetensors", "meta.json"
_CHECKSUM = "tensors_crc32"


def save_checkpoint(directory: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint directory of `tensors.safetensors` and `meta.json`.

    An older checkpoint of that name stays until the new one is whole.

    Args:
        directory: Where the checkpoint is to be.
        tensors: Named tensors of any device; tied ones are stored twice.
        meta: JSON-ready facts beside them.

    Raises:
        UserError: If the disk is full or not writable.
    """
    assert _CHECKSUM not in meta, f"{_CHECKSUM!r} is a reserved key"
    with atomic_path(directory) as temporary:
        temporary.mkdir(parents=True)
        file = temporary / TENSORS_FILE
        save_file(_storable(tensors), file)
        facts = {**meta, _CHECKSUM: _crc32(file)}
        (temporary / META_FILE).write_text(json.dumps(facts, indent=2) + "\n")


def load_checkpoint(directory: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and facts of a checkpoint directory.

    Raises:
        UserError: If it is missing, incomplete or damaged; names the directory.
    """
    directory = Path(directory)
    _restore_aside(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no such checkpoint")
    try:
        meta = json.loads((directory / META_FILE).read_text())
        checksum = meta.pop(_CHECKSUM)
        if _crc32(directory / TENSORS_FILE) != checksum:
            raise UserError(f"{directory}: {TENSORS_FILE} is damaged (checksum differs); use another checkpoint")
        return load_file(directory / TENSORS_FILE), meta
    except UserError:
        raise
    except FileNotFoundError as error:
        name = Path(error.filename or "").name or "a file"
        raise UserError(f"{directory}: the checkpoint is incomplete, {name} is missing; use another one") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise UserError(f"{directory}: the checkpoint is damaged ({error}); use another one") from error


def recorded_checksum(directory: str | Path) -> str:
    """Hexadecimal checksum of the tensors of a checkpoint, as it was noted with them; `load_checkpoint` verifies it.

    Raises:
        UserError: If there is none.
    """
    try:
        return f"{json.loads((Path(directory) / META_FILE).read_text())[_CHECKSUM]:08x}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{directory}: no such checkpoint, or a damaged one ({error}); use another one") from error


def check_replaceable(directory: Path, fresh: bool, what: str, **facts: str) -> None:
    """Refuses to write over anything but, if so asked, what the same verb wrote.

    Args:
        directory: Where it is to be written.
        fresh: Whether the user wants it replaced.
        what: What the verb writes, in words.
        **facts: What `meta.json` of such a directory says.

    Raises:
        UserError: If something is in the way.
    """
    check_directory(directory)
    if not directory.exists() or not any(directory.iterdir()):
        return
    try:
        meta = json.loads((directory / META_FILE).read_text())
        ours = all(meta.get(name) == value for name, value in facts.items())
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise UserError(f"--out {directory} holds something else than {what}; choose another directory")
    if not fresh:
        raise UserError(f"--out {directory} holds {what}; choose another directory, or replace it with --fresh")


def check_directory(path: Path, name: str = "") -> None:
    """Refuses a directory to write where a file is in its place or above it.

    Raises:
        UserError: Calls the directory by `name`, or `--out PATH`.
    """
    name = name or f"--out {path}"
    file = _file_at_or_above(path)
    if file == path:
        raise UserError(f"{name} is a file; name a directory")
    if file is not None:
        raise UserError(f"{name} lies below {file}, which is a file; name another place")


def check_file(path: Path, option: str = "--out", suffixes: Collection[str] = ()) -> None:
    """Refuses a file to write, before anything is computed for it, where it cannot or must not be written.

    Args:
        path: The file; an older one is replaced.
        option: What the user named it with.
        suffixes: Those that it may have, in lower case; none allows all.

    Raises:
        UserError: If it is a directory, lies below a file, or has another suffix.
    """
    if path.is_dir():
        raise UserError(f"{option} {path} is a directory; name a file")
    file = _file_at_or_above(path.parent)
    if file is not None:
        raise UserError(f"{option} {path} lies below {file}, which is a file; name another place")
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"{option} {path} must end in {' or '.join(suffixes)}")


def atomic_write(path: str | Path, data: bytes | str) -> None:
    """Write a file so that it is whole or, after a crash, what it was before.

    Raises:
        UserError: If the disk is full or not writable.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Temporary sibling of `path` to write a file or a directory to; takes its place on success, vanishes on an error.

    The sibling keeps the suffix, by which many writers choose a format.

    Raises:
        UserError: If the disk is full or not writable, or a file would replace a directory.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove(temporary)
            yield temporary
            if path.is_dir() and not temporary.is_dir():
                raise UserError(f"cannot write {path}: it is a directory; name a file")
            _flush(temporary)
            if path.is_dir() and not path.is_symlink():
                _swap_directory(temporary, path)
            else:
                os.replace(temporary, path)
            _flush_entry(path.parent)
    finally:
        # Below a file there is nothing to remove, and looking there would hide why.
        with suppress(NotADirectoryError):
            _remove(temporary)


@contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turn a full or read-only disk into a `UserError` that names what could not be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors wraps the system's error in a message of its own.
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            raise UserError(
                f"cannot write {path}: the disk is full; free some space and run the same command again, "
                "what was saved before is whole"
            ) from error
        if number in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise UserError(f"cannot write {path}: no permission; choose another directory") from error
        if number in (errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"cannot write {path}: a file is in the way; choose another directory") from error
        raise


def remove_leftovers(directory: Path) -> None:
    """Delete the temporary siblings that killed processes left in a directory; only its sole writer may call this."""
    for leftover in directory.glob(".*.tmp-*"):
        _remove(leftover)


def remove_leftovers_of(path: Path) -> None:
    """Delete what killed processes left of a path that they wrote aside; only its sole writer may call this."""
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.tmp-*{glob.escape(path.suffix)}"):
        _remove(leftover)


def _file_at_or_above(path: Path) -> Path | None:
    """The file that keeps a path from being a directory, if there is one."""
    there = next((part for part in (path, *path.parents) if os.path.lexists(part)), None)
    return None if there is None or there.is_dir() else there


def aside(directory: Path) -> Path:
    """Where a directory waits while another one takes its place; one that was killed meanwhile is taken back there."""
    return directory.with_name(f".{directory.name}.previous")


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU, no two of one storage, as safetensors wants them."""
    seen: set[int] = set()
    storable = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        storable[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return storable


def _crc32(file: Path) -> int:
    value = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _swap_directory(new: Path, old: Path) -> None:
    """Put `new` in the place of `old`; a directory cannot be renamed over a full one, so `old` steps aside first."""
    previous = aside(old)
    _remove(previous)
    os.rename(old, previous)
    os.rename(new, old)
    _remove(previous)


def _restore_aside(directory: Path) -> None:
    """Undo a swap that was killed between its two renames."""
    if not directory.exists() and aside(directory).is_dir():
        os.rename(aside(directory), directory)


def _flush(path: Path) -> None:
    """Force a file, or all files of a directory, to the disk: a rename may otherwise outlive the contents."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())


def _flush_entry(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
