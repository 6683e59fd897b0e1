"""Imports go down the layers of docs/architecture.md, never up and never sideways."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "genrl"

LAYERS = [
    {"infra", "nn"},
    {"data", "envs", "vlm"},
    {"models"},
    {"behavior"},
    {"agents", "baselines", "interop"},
    {"evaluation"},
    {"run"},
    {"cli", "presets", "demo", "api", "__main__", "__init__"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
ALONE = {0, 1}
"""Levels whose parts do not know each other; further up, siblings may meet."""

FILES = sorted(PACKAGE.rglob("*.py"))


def imported_parts(source: str, package: list[str]) -> set[str]:
    """Parts of genrl that a file imports anywhere in it, functions and `import_module("genrl.x")` included.

    Args:
        source: Text of the file.
        package: The packages it lies in, such as ["genrl", "infra"], for relative imports.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            names |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            names |= {str(word.value) for word in node.args if isinstance(word, ast.Constant)}
    parts = {name.split(".")[1] for name in names if name.startswith("genrl.")}
    return {part for part in parts if part in LEVEL}


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def may_import(importer: str, imported: str) -> bool:
    above, below = LEVEL[importer], LEVEL[imported]
    return importer == imported or below < above or (below == above and above not in ALONE)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_imports_only_from_below(file: Path) -> None:
    part = part_of(file)
    assert part in LEVEL, f"{part} has no layer; give it one in docs/architecture.md and here"
    package = ["genrl", *file.relative_to(PACKAGE).parent.parts]
    wrong = {other for other in imported_parts(file.read_text(), package) if not may_import(part, other)}
    assert not wrong, f"{part} (layer {LEVEL[part]}) may not import {sorted(wrong)}"


def test_every_way_of_importing_is_seen() -> None:
    source = (
        "import genrl.data.store\nfrom genrl.envs import tasks\nfrom genrl import vlm\nfrom .. import models\n"
        "from ..behavior.rewards import x\nfrom . import errors\ndef f():\n    import_module('genrl.run.learn')\n"
    )
    assert imported_parts(source, ["genrl", "infra"]) == {"data", "envs", "vlm", "models", "behavior", "infra", "run"}


def test_up_and_sideways_are_refused_and_down_is_not() -> None:
    assert may_import("models", "nn") and may_import("run", "data") and may_import("agents", "interop")
    assert not may_import("models", "behavior")
    assert not may_import("data", "envs") and not may_import("nn", "infra")
