"""A snapshot of the original: what `torch.save` wrote of a whole agent, read without running anything of it.

The file is a zip archive with one folder inside: `data.pkl`, which describes the agent, and `data/<key>`, the numbers
of each storage as they are. Nothing is unpacked to the disk, and only the numbers that somebody asks for are read.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrl.infra.errors import UserError
from genrl.interop.inert_pickle import Constructor, InertPickleError, Name, RefusedNamesError, StandIn, read_pickle

PACKAGES = ("agent", "tools", "torch", "omegaconf", "gym", "numpy", "collections", "typing", "dm_env")
"""Packages whose names a snapshot needs."""
STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
MAX_PARTS, MAX_NAME = 10_000, 1_000
"""Modules and tensors of an agent, letters of a name: far above any; a module that holds itself would never end."""
MAX_NUMBER = 2**63
NAMES_SHOWN = 8
DAMAGED = "it is damaged or not all there; get it again"


@dataclass(frozen=True, eq=False)
class Storage:
    """Numbers in the archive.

    Attributes:
        member: Where.
        dtype: Of what type.
        size: How many.
    """

    member: zipfile.ZipInfo
    dtype: torch.dtype
    size: int


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A view of a storage, within its bounds."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it has; strides of zero repeat some, so that it may be more than its storage has."""
        return math.prod(self.shape)


class Snapshot:
    """A snapshot, opened; use as a context manager.

    Args:
        file: The file.
        stand_ins: Further packages whose names are let be.

    Attributes:
        root: What the file describes, of plain values, stand-ins and `StoredTensor`s.
        storages: Every storage that it mentions, by key.
        num_bytes: Size of the file.

    Raises:
        UserError: If it is no snapshot, or a damaged one, or one that names what a snapshot does not need.
    """

    def __init__(self, file: Path, stand_ins: Sequence[str] = ()) -> None:
        self.file = file
        self.storages: dict[str, Storage] = {}
        self._archive = _open(file)
        try:
            self.num_bytes = file.stat().st_size
            self._members = {info.filename: info for info in self._archive.infolist()}
            self._folder = self._find_folder()
            if self._read_small("byteorder", b"little") != b"little":
                raise UserError(f"{file} was saved on a big-endian machine; save it again on a little-endian one")
            pickle = self._read(self._member("data.pkl"))
            self.root = read_pickle(pickle, (*PACKAGES, *stand_ins), REBUILDERS, self._storage)
        except RefusedNamesError as error:
            self.close()
            shown, packages = error.names[:NAMES_SHOWN], sorted({name.split(".")[0] for name in error.names})
            more = f" and {len(error.names) - NAMES_SHOWN} more" if len(error.names) > NAMES_SHOWN else ""
            raise UserError(
                f"{file} names what no snapshot of the original needs: {', '.join(shown)}{more}; nothing was run. "
                f"If its origin is known and the names are harmless, --stand-in {' '.join(packages)} lets them be "
                "(still without running them)"
            ) from error
        except InertPickleError as error:
            self.close()
            raise UserError(f"{file} cannot be read as a snapshot: {error}") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._archive.close()

    def read(self, tensor: StoredTensor) -> Tensor:
        """A tensor's numbers, in memory of their own.

        Raises:
            UserError: If it repeats numbers, so that it could be of any size, or the file is damaged.
        """
        storage = tensor.storage
        if tensor.size > storage.size:
            raise UserError(f"{self.file}: a tensor of {tensor.shape} is larger than its storage of {storage.size}")
        if not tensor.size:
            return torch.empty(tensor.shape, dtype=storage.dtype)
        numbers = torch.frombuffer(bytearray(self._read(storage.member)), dtype=storage.dtype)
        return numbers.as_strided(tensor.shape, tensor.stride, tensor.offset).clone()

    def _find_folder(self) -> str:
        """The one folder that holds the description."""
        folders = [name.removesuffix("/data.pkl") for name in self._members if name.endswith("/data.pkl")]
        if len(folders) != 1 or not folders[0] or "/" in folders[0]:
            raise UserError(f"{self.file} is a zip archive, but none that torch.save wrote; name a snapshot (.pt)")
        return folders[0]

    def _member(self, name: str) -> zipfile.ZipInfo:
        """What the archive says of a member, believed only where it can be true.

        torch stores without compression, so that nothing can be larger than the file it is in.
        """
        info = self._members.get(f"{self._folder}/{name}")
        if info is None:
            raise UserError(f"{self.file} lacks its part {name!r}: {DAMAGED}")
        if info.compress_type != zipfile.ZIP_STORED or not info.file_size == info.compress_size <= self.num_bytes:
            raise UserError(f"{self.file}: its part {name!r} is compressed or has a false size: {DAMAGED}")
        return info

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        try:
            return self._archive.read(info)
        except (zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:  # RuntimeError: an encrypted part
            raise UserError(f"{self.file}: {DAMAGED} ({error})") from error

    def _read_small(self, name: str, default: bytes) -> bytes:
        known = f"{self._folder}/{name}" in self._members
        return self._read(self._member(name)) if known else default

    def _storage(self, identity: Any) -> Storage:
        """What a persistent id names: a member of this archive and nothing else."""
        match identity:
            case ("storage", Name() as kind, str(key), str(), int(size)) if str(kind) in STORAGES:
                pass
            case ("storage", Name() as kind, *_) if str(kind) not in STORAGES:
                raise InertPickleError(f"it has numbers of a kind not known here, {kind}")
            case _:
                raise InertPickleError("it refers to something that is no storage of it")
        dtype = STORAGES[str(kind)]
        if key not in self.storages:
            member = self._member(f"data/{key}")
            if member.file_size != size * dtype.itemsize:
                raise InertPickleError(f"storage {key!r} is not as large as it says")
            self.storages[key] = Storage(member, dtype, size)
        storage = self.storages[key]
        if (storage.dtype, storage.size) != (dtype, size):
            raise InertPickleError(f"storage {key!r} is described in two ways")
        return storage


def state_tensors(module: StandIn) -> dict[str, StoredTensor]:
    """Parameters and buffers of a torch module by name, as its state dict would have them.

    Raises:
        UserError: If modules are nested without end.
    """
    tensors: dict[str, StoredTensor] = {}
    waiting, visits = [("", module)], 0
    while waiting:
        prefix, module = waiting.pop()
        visits += 1
        if visits + len(tensors) + len(waiting) > MAX_PARTS or len(prefix) > MAX_NAME:
            raise UserError("the agent has parts without end: it is damaged, or no agent")
        passing = module.attribute("_non_persistent_buffers_set")
        passing = passing if isinstance(passing, set) else ()
        for group in ("_parameters", "_buffers"):
            for name, value in _entries(module, group):
                if isinstance(value, StoredTensor) and not (group == "_buffers" and name in passing):
                    tensors[prefix + name] = value
        children = [(f"{prefix}{name}.", part) for name, part in _entries(module, "_modules")]
        waiting += [(name, part) for name, part in reversed(children) if isinstance(part, StandIn)]
    return tensors


def find_module(module: Any, path: str) -> StandIn | None:
    """A part of a torch module by its dotted path, None where there is none."""
    for name in path.split("."):
        module = dict(_entries(module, "_modules")).get(name) if isinstance(module, StandIn) else None
    return module if isinstance(module, StandIn) else None


def setting(config: Any, path: str) -> Any:
    """A value of an omegaconf configuration by its dotted path, None where there is none."""
    for name in path.split("."):
        content = config.attribute("_content") if isinstance(config, StandIn) else config
        config = content.get(name) if isinstance(content, Mapping) else None
    return config.attribute("_val") if isinstance(config, StandIn) else config


def _entries(module: StandIn, group: str) -> list[tuple[str, Any]]:
    entries = module.attribute(group)
    if not isinstance(entries, dict):
        return []
    return [(name, value) for name, value in entries.items() if isinstance(name, str) and name.isprintable()]


def _open(file: Path) -> zipfile.ZipFile:
    if not file.is_file():
        raise UserError(f"{file} is no file; name a snapshot of the original (.pt)")
    with file.open("rb") as stream:
        start = stream.read(4)
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:  # RuntimeError: of a later zip version
        if start == b"PK\x03\x04":
            raise UserError(f"{file}: {DAMAGED} (the end of its archive is missing)") from error
        if start[:1] == b"\x80":
            raise UserError(
                f"{file} is a bare pickle, as torch.save wrote before version 1.6; load it with the original's code "
                "and save it again"
            ) from error
        raise UserError(f"{file} is no snapshot: torch.save writes zip archives, and this is none") from error


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    """In the place of torch's functions of this name; gradients and hooks are let go."""
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or len(shape) != len(stride):
        raise InertPickleError("it describes a tensor without numbers")
    if not all(type(number) is int and 0 <= number < MAX_NUMBER for number in numbers):
        raise InertPickleError("it describes a tensor of impossible shape")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if last >= storage.size and 0 not in shape:
        raise InertPickleError("it describes a tensor that goes beyond its storage")
    return StoredTensor(storage, offset, tuple(shape), tuple(stride))


def _rebuild_parameter(tensor: Any, *_: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise InertPickleError("it describes a parameter without numbers")
    return tensor


REBUILDERS: Mapping[str, Constructor] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
}
