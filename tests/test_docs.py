"""The documents say what is so: commands can be read, links lead somewhere, metrics and presets are the code's."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from genrl import cli
from genrl.behavior.actor_critic import ActorCriticConfig
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.start_states import StartConfig, data_free_starts
from genrl.evaluation.prediction import predict_open_loop
from genrl.infra.config import changed_options, to_dict
from genrl.models.learner import FoundationLearner, FoundationLearnerConfig
from genrl.presets import PRESETS
from genrl.run.pretrain import prediction_errors
from tests.models.tiny import tiny_batch, tiny_model

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])

METRIC = re.compile(r"\"((?:actor|critic|imagined|loss|novelty|vlm)/[a-z_]+)\"")
"""A metric key as the code spells it."""


def blocks(document: Path, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Words after `genrl` of every command line in a shell block, and of the README's table of verbs."""
    lines = [line for document in DOCUMENTS for block in blocks(document, "sh") for line in block.splitlines()]
    lines += re.findall(r"\| `(genrl [^`]+)` \|", (ROOT / "README.md").read_text())
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("genrl ")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_documents_can_be_read(words: list[str]) -> None:
    name, rest = cli._find_verb(words)
    assert name is not None
    config_class = getattr(import_module(cli.VERBS[name].module), cli.VERBS[name].config_class)
    assert isinstance(cli._read_config(name, config_class, rest), config_class)


def test_the_readme_has_an_example_of_every_verb() -> None:
    shown = {cli._find_verb(words)[0] for words in commands()}
    assert shown == set(cli.VERBS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_exist(document: Path) -> None:
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert [link for link in links if not (document.parent / link).exists()] == []
    named = re.findall(r"\b(?:recipes|benchmarks|tests)/\w+(?:/\w+)*\.(?:py|sh|npz)\b", text)
    assert [file for file in named if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_in_the_documents_is_python_and_its_imports_exist(document: Path) -> None:
    for block in blocks(document, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                module = import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names)


def test_every_metric_is_in_the_glossary() -> None:
    model = tiny_model()
    pretraining = FoundationLearner(model, FoundationLearnerConfig()).update(tiny_batch())
    prediction = prediction_errors(predict_open_loop(model.world_model, tiny_batch(), context=3))
    config = BehaviorConfig(ActorCriticConfig(num_layers=1, hidden_dim=16))
    target = model.target(tiny_batch().embedding[:1, 0], config.actor_critic.horizon + 1, align=True)
    learner = BehaviorLearner(model, target, config)
    behavior = learner.update(data_free_starts(model, learner.actor_critic.actor, StartConfig(num_starts=4)))
    written = {key for file in (ROOT / "src").rglob("*.py") for key in METRIC.findall(file.read_text())}
    keys = {*pretraining, *prediction, *behavior, *written}
    assert len(keys) > 20
    glossary = (ROOT / "docs" / "metrics.md").read_text()
    assert sorted(key for key in keys if f"`{key}`" not in glossary) == []


@pytest.mark.parametrize("verb", ["pretrain", "learn"])
def test_the_table_of_presets_is_that_of_the_code(verb: str) -> None:
    text = (ROOT / "docs" / "differences.md").read_text()
    table = text.split(f"| `genrl {verb}` | paper | mini |\n| --- | --- | --- |\n")[1].split("\n\n")[0]
    paper, mini = (to_dict(PRESETS[verb][name]) for name in ("paper", "mini"))
    rows = [f"| `{name}` | {value(paper, name)} | {value(mini, name)} |" for name in changed_options(paper, mini)]
    assert table.strip().splitlines() == rows


def value(options: dict, name: str) -> object:
    """Value of a dotted option."""
    for key in name.split("."):
        options = options[key]
    return options


def test_tables_of_the_model_cards_are_those_of_the_committed_measurements() -> None:
    cards = runpy.run_path(str(ROOT / "recipes" / "model_cards.py"))
    texts = [document.read_text() for document in (ROOT / "docs").glob("*.md")]
    assert sum(len(cards["BLOCK"].findall(text)) for text in texts) == len(cards["TABLES"])
    assert [text for text in texts if cards["filled"](text) != text] == []
