"""What lies in a run directory: whose it is, and what of it `--fresh` may delete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from genrl.infra.checkpoint import aside
from genrl.infra.errors import UserError
from genrl.infra.logging import METRICS_FILE

CONFIG_FILE, SUMMARY_FILE, CHECKPOINTS = "config.json", "summary.json", "checkpoints"
OF_EVERY_RUN = (SUMMARY_FILE, METRICS_FILE, "tensorboard", CHECKPOINTS)
"""What runs of all verbs write, beside the config; a killed deletion leaves no summary, which would say "finished"."""
NAMES_SHOWN = 3


def read_config(file: Path) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Verb, options and fingerprints of inputs (none in older runs) of a run.

    Raises:
        UserError: If the file is not that of a run.
    """
    try:
        facts = json.loads(file.read_text())
        return str(facts["verb"]), dict(facts["config"]), dict(facts.get("inputs", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not that of a genrl run; choose another --out") from error


def refuse_foreign(path: Path, verb: str, name: str, results: Iterable[str]) -> None:
    """Refuses a directory without a config that holds what a run of the verb would replace.

    A run that was killed before its first write has left nothing but a lock. A directory that has a config is looked
    into by whoever takes the run up.

    Raises:
        UserError: Calls the directory by `name`.
    """
    if not (path / CONFIG_FILE).exists() and (taken := written(path, results)):
        names = some([str(entry.relative_to(path)) for entry in taken])
        raise UserError(f"{name} holds {names} and no run of 'genrl {verb}'; name another directory")


def written(path: Path, results: Iterable[str]) -> list[Path]:
    """What a run has written in its directory, but its config.

    Args:
        path: The directory.
        results: Patterns of what its verb writes there, such as `model` or `data/round_*`.
    """
    patterns = [*OF_EVERY_RUN, *results]
    # What a killed replacement has put aside would otherwise come back in the place of what is deleted.
    patterns += [str(aside(Path(pattern))) for pattern in patterns]
    return list(dict.fromkeys(entry for pattern in patterns for entry in sorted(path.glob(pattern))))


def erase(path: Path, results: Collection[str]) -> list[str]:
    """Deletes what `written` lists, and directories that become empty by that; returns the names of what stays."""
    for entry in written(path, results):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
        for parent in entry.relative_to(path).parents[:-1]:
            if not (path / parent).is_symlink() and not any((path / parent).iterdir()):
                (path / parent).rmdir()
    return [entry.name for entry in _visible(path) if entry.name != CONFIG_FILE]


def some(names: list[str]) -> str:
    """The first few of some names."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _visible(path: Path) -> list[Path]:
    """Entries but hidden ones: locks, and what killed processes left of files that they wrote aside."""
    return sorted(entry for entry in path.iterdir() if not entry.name.startswith(".")) if path.is_dir() else []
