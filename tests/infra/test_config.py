"""Configs survive JSON, and what does not fit is refused by name."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from genrl.infra.config import changed_options, config_hash, from_dict, to_dict
from genrl.infra.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Inner:
    noise: float = 0.5
    sizes: tuple[int, ...] = (2, 3)
    pair: tuple[int, str] = (1, "a")

    def __post_init__(self) -> None:
        if self.noise > 1:
            raise ValueError(f"inner.noise must lie in [0, 1], got {self.noise}")


@dataclass(frozen=True)
class Outer:
    data: Path
    inner: Inner = Inner()
    mode: Literal["a", "b", 1] = "a"
    limit: int | None = None
    names: list[str] | None = None
    flag: bool = False
    table: dict[str, float] | None = None


CONFIG = Outer(Path("x/y"), Inner(0.25, (7,), (4, "z")), "b", 3, ["n"], True, {"k": 1.5})


def test_a_config_survives_json() -> None:
    assert from_dict(Outer, json.loads(json.dumps(to_dict(CONFIG))), "file") == CONFIG


def test_missing_keys_take_their_defaults() -> None:
    assert from_dict(Outer, {"data": "d"}, "file") == Outer(Path("d"))


def test_a_whole_number_is_accepted_as_a_float() -> None:
    value = from_dict(Outer, {"data": "d", "inner": {"noise": 1}}, "file").inner.noise
    assert value == 1.0 and isinstance(value, float)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inner": {"nose": 1.0}}, ["'inner.nose'", "did you mean 'noise'"]),
        ({"inner": {"noise": "much"}}, ["'inner.noise'", "float", "'much'"]),
        ({"inner": {"noise": 2.0}}, ["inner.noise must lie in [0, 1], got 2.0"]),
        ({"inner": {"noise": True}}, ["'inner.noise'", "True"]),
        ({"inner": {"sizes": [1, "b"]}}, ["'inner.sizes.1'", "int", "'b'"]),
        ({"inner": {"pair": [1]}}, ["'inner.pair'", "2 values, got 1"]),
        ({"inner": 3}, ["inner must be a table", "3"]),
        ({"mode": "c"}, ["'mode'", "'a', 'b', 1", "'c'"]),
        ({"mode": True}, ["'mode'", "True"]),
        ({"limit": 1.5}, ["'limit'", "int", "1.5"]),
        ({"names": "n"}, ["'names'", "list"]),
        ({"flag": 1}, ["'flag'", "bool"]),
        ({"table": {"k": "v"}}, ["'table.k'", "float"]),
        ({"data": None}, ["'data'", "Path"]),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        from_dict(Outer, {"data": "d", **change}, "model/config.json")
    message = str(caught.value)
    assert message.startswith("model/config.json: ") and "\n" not in message
    assert all(word in message for word in words), message


def test_a_required_key_that_is_missing_is_named() -> None:
    with pytest.raises(UserError, match="file: setting 'data' is missing"):
        from_dict(Outer, {}, "file")


def test_the_hash_depends_on_every_value_and_nothing_else() -> None:
    assert config_hash(CONFIG) == config_hash(replace(CONFIG))
    assert config_hash(CONFIG) != config_hash(replace(CONFIG, inner=replace(CONFIG.inner, noise=0.26)))
    assert len(config_hash(CONFIG, length=5)) == 5


def test_changed_options_are_dotted_leaves() -> None:
    old = {"a": 1, "b": {"c": 2, "d": [1, 2]}, "gone": 0, "same": {"x": None}}
    new = {"a": 1.0, "b": {"c": 3, "d": [1, 3]}, "same": {"x": None}, "added": 1}
    assert changed_options(old, new) == ["b.c", "b.d", "added", "gone"]


def test_suggestions_are_the_near_names_or_all_of_them() -> None:
    assert did_you_mean("walker_rnu", ["walker_run", "stickman_kick"]) == "did you mean 'walker_run'?"
    assert did_you_mean("zzz", ["a", "b"]) == "known: a, b"
