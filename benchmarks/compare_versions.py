"""Two versions of the program against each other, where a shared machine is too restless for one run after the other.

    git worktree add ../before REVISION
    python benchmarks/compare_versions.py --before ../before --precision float32

Runs each version's own `update_speed.py` and `prompts_speed.py` (one prompt, in the precision of the preset) in turn,
several times, a few updates each, and gives the median over all turns and how many turns the new one won.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from measuring import describe_machine, report

ROOT = Path(__file__).resolve().parents[1]
TIMES = ("model_update_seconds", "behavior_update_seconds", "learn_mini_update_seconds")


@dataclass(frozen=True)
class CompareConfig:
    """What to compare."""

    before: Path
    """A checkout of the other version."""
    turns: int = 6
    repeats: int = 5
    """Timed updates in a turn."""
    precision: Literal["float32", "bfloat16"] = "float32"
    out: Annotated[Path | None, tyro.conf.arg(help="JSON file to write.")] = None


def main(config: CompareConfig) -> dict[str, object]:
    """Runs all turns; prints and returns the result."""
    turns: list[dict[str, dict[str, float]]] = []
    trees = [("before", config.before), ("now", ROOT)]
    for number in range(1, config.turns + 1):
        turns.append({name: one_turn(tree, config) for name, tree in trees})
        trees.reverse()  # Neither is always the first.
        print(f"turn {number} of {config.turns}: {turns[-1]}", flush=True)
    result: dict[str, object] = {
        "precision": config.precision,
        "machine": describe_machine(torch.device("cpu")),
        "before": revision(config.before),
        "now": revision(ROOT),
    }
    for time in TIMES:
        if time in turns[0]["now"]:
            before, now = ([turn[name][time] for turn in turns] for name in ("before", "now"))
            won = sum(b > n for b, n in zip(before, now, strict=True))
            result[time] = {"before": statistics.median(before), "now": statistics.median(now), "turns won": won}
    report(result, config.out)
    return result


def one_turn(tree: Path, config: CompareConfig) -> dict[str, float]:
    """Median seconds of an update of each kind, by a version's own benchmark."""
    speed = run_script(tree, "update_speed.py", "--precision", config.precision, "--repeats", str(config.repeats))
    learning = run_script(tree, "prompts_speed.py", "--numbers", "1", "--repeats", str(config.repeats))
    times = {name: values["median"] for name, values in speed.items() if name in TIMES}
    return times | {"learn_mini_update_seconds": learning["rows"][0]["update_seconds"]}


def run_script(tree: Path, script: str, *options: str) -> dict[str, Any]:
    """The result of a version's own benchmark."""
    environment = os.environ | {"PYTHONPATH": str(tree.resolve() / "src")}
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "result.json"
        command = [sys.executable, str(tree.resolve() / "benchmarks" / script), *options, "--out", str(out)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        result: dict[str, Any] = json.loads(out.read_text())
    return result


def revision(tree: Path) -> str:
    """Which commit a checkout is of."""
    told = subprocess.run(["git", "-C", str(tree), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return told.stdout.strip()


if __name__ == "__main__":
    main(tyro.cli(CompareConfig))
