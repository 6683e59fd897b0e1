"""The command line: light, lazy, and one line for every complaint."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import pytest

import genrl
from genrl import cli


@dataclass(frozen=True)
class Part:
    noise: float = 0.5
    """Share of noise."""

    def __post_init__(self) -> None:
        if self.noise > 1:
            raise ValueError(f"part.noise must lie in [0, 1], got {self.noise}")


@dataclass(frozen=True)
class Config:
    """Train something."""

    data: tuple[Path, ...] = ()
    """Stores to read."""
    part: Part = field(default_factory=Part)
    mode: Literal["a", "b"] = "a"
    fresh: bool = False


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Puts a verb of our own in the place of `pretrain`; the configs it was called with."""
    configs: list[Config] = []
    verb: Any = types.ModuleType("genrl.run.pretrain")
    verb.PretrainConfig, verb.pretrain = Config, configs.append
    presets: Any = types.ModuleType("genrl.presets")
    presets.PRESETS = {"pretrain": {"mini": Config(mode="b"), "paper": Config(part=Part(0.25))}}
    monkeypatch.setitem(sys.modules, "genrl.run.pretrain", verb)
    monkeypatch.setitem(sys.modules, "genrl.presets", presets)
    return configs


Complaint = Callable[..., str]


@pytest.fixture
def complaint(called: list[Config], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Complaint:
    """Runs `genrl WORDS`, which must exit with 2 and one line, and gives the line."""
    monkeypatch.delenv("GENRL_TRACEBACK", raising=False)

    def run(*words: str) -> str:
        assert cli.main(words) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("genrl: error: ") and err.count("\n") == 1, (out, err)
        return err.removeprefix("genrl: error: ").strip()

    return run


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_help_and_import_load_neither_torch_nor_a_simulator() -> None:
    code = (
        "import sys, genrl, genrl.cli; genrl.cli.main(['--help']); "
        "print(sorted({'torch', 'mujoco', 'dm_control', 'gymnasium', 'numpy', 'tyro'} & set(sys.modules)))"
    )
    out = python(code)
    assert out.splitlines()[-1] == "[]"
    assert all(f"  {name} " in out for name in cli.VERBS)


def test_help_takes_less_than_half_a_second() -> None:
    code = (
        "import time; began = time.process_time(); import genrl.cli; genrl.cli.main(['--help']); "
        "print(time.process_time() - began)"
    )
    assert min(float(python(code).splitlines()[-1]) for _ in range(2)) < 0.5


def test_versions_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"genrl {genrl.__version__}\n"
    pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert genrl.__version__ == pyproject["project"]["version"] == version("genrl-mfwm")


def test_the_first_preset_is_the_default_and_flags_change_it(called: list[Config]) -> None:
    assert cli.main(["pretrain", "--data", "x", "y", "--fresh"]) == 0
    assert cli.main(["pretrain", "paper", "--mode", "b"]) == 0
    assert called == [
        Config(data=(Path("x"), Path("y")), mode="b", fresh=True),
        Config(part=Part(0.25), mode="b"),
    ]


def test_the_help_of_a_verb_tells_options_and_presets(called: list[Config], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pretrain", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(words in said for words in ("Train something.", "mini, paper", "--part.noise", "Share of noise."))
    assert called == []


def test_a_group_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data"]) == 0
    said = capsys.readouterr().out
    assert "data inspect" in said and "data import" in said and "pretrain" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretain"], "unknown verb 'pretain'; did you mean 'pretrain'?"),
        (["data", "inspct"], "unknown verb 'data inspct'; did you mean 'data inspect'"),
        (["pretrain", "big"], "genrl pretrain: unknown preset 'big'; known: mini, paper"),
        (
            ["pretrain", "--part.nose", "1"],
            "genrl pretrain: unknown option '--part.nose'; did you mean '--part.noise'?",
        ),
        (["pretrain", "--mode", "a", "b"], "genrl pretrain: unexpected word 'b'"),
        (["pretrain", "--mode", "c"], "genrl pretrain: invalid choice 'c' for argument '--mode'."),
        (["pretrain", "--part.noise", "2"], "part.noise must lie in [0, 1], got 2.0"),
        (["pretrain", "--part.noise", "much"], "could not convert string to float: 'much'"),
    ],
)
def test_what_cannot_be_read_gets_one_line(complaint: Complaint, words: list[str], said: str) -> None:
    assert said in complaint(*words)


def test_the_message_is_found_in_either_frame() -> None:
    drawn = "╭─ Value error ─╮\n│ noise is bad, │\n│ got 3         │\n│ ───────────── │\n│ see --help    │\n╰───╯\n"
    plain = " Value error \n -------------\n  noise is bad,\n  got 3\n  ------------\n  see --help\n"
    assert cli._first_paragraph(drawn) == cli._first_paragraph(plain) == "noise is bad, got 3"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("two\nlines"), "two lines"),
        (OSError(28, "No space left on device"), "the disk is full"),
        (ModuleNotFoundError("No module", name="transformers.models"), "pip install 'genrl-mfwm[vlm]'"),
    ],
)
def test_errors_a_user_can_mend_get_one_line(
    complaint: Complaint, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(config: Config) -> None:
        raise error

    monkeypatch.setattr(sys.modules["genrl.run.pretrain"], "pretrain", fail)
    assert said in complaint("pretrain")
    monkeypatch.setenv("GENRL_TRACEBACK", "1")
    with pytest.raises(type(error)):
        cli.main(["pretrain"])


def test_errors_that_no_check_raised_say_where_they_come_from(
    complaint: Complaint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: Config) -> None:
        int("three")

    monkeypatch.setattr(sys.modules["genrl.run.pretrain"], "pretrain", fail)
    said = complaint("pretrain")
    assert "invalid literal" in said and f"(ValueError in {__file__}:" in said and "GENRL_TRACEBACK=1" in said


def test_errors_of_ours_keep_their_traceback(called: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: Config) -> None:
        raise ModuleNotFoundError("No module named 'genrl.nowhere'", name="genrl.nowhere")

    monkeypatch.setattr(sys.modules["genrl.run.pretrain"], "pretrain", fail)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["pretrain"])


def test_an_interrupt_exits_with_130(called: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(config: Config) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["genrl.run.pretrain"], "pretrain", interrupt)
    assert cli.main(["pretrain"]) == 130


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_verb_is_there_with_its_options(name: str) -> None:
    verb = cli.VERBS[name]
    module = import_module(verb.module)
    assert callable(getattr(module, verb.function))
    assert getattr(module, verb.config_class).__dataclass_params__.frozen


def test_python_m_genrl_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "genrl", "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("genrl: error: unknown verb 'nonsense'")


def test_an_unknown_attribute_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nonsense'"):
        genrl.nonsense  # noqa: B018
