"""Frozen dataclasses to JSON and back, strictly."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from genrl.infra.errors import UserError, did_you_mean

Config = TypeVar("Config")
_MISSING = object()


def to_dict(config: Any) -> Any:
    """JSON-ready form of a config: dataclasses become dicts, paths strings, tuples lists."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config) if field.init}
    if isinstance(config, Mapping):
        return {str(key): to_dict(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_dict(value) for value in config]
    if isinstance(config, Path):
        return str(config)
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    raise TypeError(f"a config may not hold a {type(config).__name__}: {config!r}")


def from_dict(cls: type[Config], data: Mapping[str, Any], where: str) -> Config:
    """Read a config back, refusing unknown keys, missing ones and values of another type.

    Args:
        cls: The dataclass to build; nested dataclasses, unions, literals, tuples, lists, dicts and paths are followed.
        data: What `to_dict` gave, perhaps through JSON.
        where: The file or option that the data came from, for complaints.

    Returns:
        The config.

    Raises:
        UserError: Naming `where` and the dotted key.
    """
    return _read_dataclass(cls, data, where, "")


def config_hash(config: Any, length: int = 8) -> str:
    """First `length` hexadecimal digits of a hash of all values of a config."""
    text = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def changed_options(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Dotted names of the values that differ between two configs in dict form, in the order of the new one."""
    changed = []
    for key in [*new, *(key for key in old if key not in new)]:
        before, now = old.get(key, _MISSING), new.get(key, _MISSING)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            changed += [f"{key}.{name}" for name in changed_options(before, now)]
        elif before is _MISSING or now is _MISSING or before != now:
            changed.append(key)
    return changed


def _read_dataclass(cls: Any, data: Any, where: str, key: str) -> Any:
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: {key or 'the configuration'} must be a table of settings, got {data!r}")
    prefix = f"{key}." if key else ""
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for name in data:
        if name not in fields:
            raise UserError(f"{where}: unknown setting '{prefix}{name}'; {did_you_mean(str(name), fields)}")
    hints = typing.get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _read(hints[name], data[name], where, prefix + name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: setting '{prefix}{name}' is missing")
    try:
        return cls(**values)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _read(hint: Any, value: Any, where: str, key: str) -> Any:
    """Value as the type hint wants it; every complaint ends here."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _read_union(args, value, where, key, hint)
    if origin is Literal:
        # By type too: True would pass for 1.
        if any(value == choice and type(value) is type(choice) for choice in args):
            return value
        raise UserError(f"{where}: '{key}' must be one of {', '.join(map(repr, args))}, got {value!r}")
    if dataclasses.is_dataclass(hint):
        return _read_dataclass(hint, value, where, key)
    if origin in (tuple, list) or hint in (tuple, list):
        return _read_sequence(origin or hint, args, value, where, key)
    if (origin or hint) in (dict, Mapping) or origin is getattr(Mapping, "__origin__", Mapping):
        if not isinstance(value, Mapping):
            raise _wrong_type(hint, value, where, key)
        inner = args[1] if args else Any
        return {name: _read(inner, item, where, f"{key}.{name}") for name, item in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint in (bool, str) and isinstance(value, hint):
        return value
    if hint in (None, type(None)) and value is None:
        return None
    raise _wrong_type(hint, value, where, key)


def _read_union(args: tuple[Any, ...], value: Any, where: str, key: str, hint: Any) -> Any:
    complaints = []
    for option in args:
        try:
            return _read(option, value, where, key)
        except UserError as error:
            complaints.append((option, error))
    # `X | None` with a wrong X: what is wrong with X says more than "must be X | None".
    real = [error for option, error in complaints if option is not type(None)]
    raise real[0] if len(real) == 1 else _wrong_type(hint, value, where, key)


def _read_sequence(kind: Any, args: tuple[Any, ...], value: Any, where: str, key: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{where}: '{key}' must be a list, got {value!r}")
    if kind is tuple and args and args[-1] is not Ellipsis:
        if len(value) != len(args):
            raise UserError(f"{where}: '{key}' must have {len(args)} values, got {len(value)}")
        hints = list(args)
    else:
        hints = [args[0] if args else Any] * len(value)
    items = [_read(hint, item, where, f"{key}.{i}") for i, (hint, item) in enumerate(zip(hints, value, strict=True))]
    return kind(items)


def _wrong_type(hint: Any, value: Any, where: str, key: str) -> UserError:
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    return UserError(f"{where}: '{key}' must be {name}, got {value!r}")
