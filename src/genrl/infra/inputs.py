"""What a run reads from elsewhere, told apart by content: options alone say where it lies, not what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunInput:
    """A model, a store or a file that the result of a run depends on.

    Attributes:
        name: Option and value, such as `--model walker-mini`.
        fingerprint: A few words that differ where its content does.
        path: Where it lies, if anywhere.
    """

    name: str
    fingerprint: str
    path: Path | None = None


def changed_inputs(old: Mapping[str, str], new: Sequence[RunInput]) -> list[str]:
    """How the inputs differ from those that a run began with, a clause each.

    Only options of which the run noted something are compared: older runs noted none, or fewer.
    """
    noted = {_option(name) for name in old}
    clauses = []
    for each in new:
        was = old.get(each.name)
        if was not in (None, each.fingerprint):
            clauses.append(f"{each.name} has changed since this run began (then {was}, now {each.fingerprint})")
        elif was is None and _option(each.name) in noted:
            clauses.append(f"{each.name} was not there when this run began")
    now, options = {each.name for each in new}, {_option(each.name) for each in new}
    gone = [name for name in old if name not in now and _option(name) in options]
    return clauses + [f"{name} was there when this run began" for name in gone]


def _option(name: str) -> str:
    return name.partition(" ")[0]
