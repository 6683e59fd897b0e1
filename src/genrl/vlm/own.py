"""Video-language models of one's own: `--vlm package:Class`."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from genrl.infra.errors import UserError
from genrl.vlm.protocol import VideoLanguageModel

OWN_CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
SAFE_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
"""What a column of a store may be called."""
ATTRIBUTES = {"name": str, "embed_dim": int, "frames_per_clip": int, "image_size": int, "checksum": str}
METHODS = ("embed_video", "embed_text", "embed_frames_sliding")


def load_own(name: str) -> VideoLanguageModel:
    """A model of the class (or of the function) that `package.module:Class` names, made without arguments.

    Raises:
        UserError: If there is none, or something is missing that the protocol asks for.
    """
    option = f"--vlm {name}"
    module, _, attribute = name.partition(":")
    try:
        made = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # The module is there, and lacks a library.
        raise UserError(
            f"{option}: no module {error.name!r}; install it, or add its directory to PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise UserError(f"{option}: module {module} has no {attribute!r}") from error
    try:
        model: Any = made()
    except TypeError as error:
        raise UserError(f"{option}: it must be possible to make one without arguments ({error})") from error
    check_protocol(model, option)
    return model


def check_protocol(model: Any, option: str) -> None:
    """Refuse what does not fulfil `VideoLanguageModel`; names the first thing that is missing.

    Args:
        model: The candidate.
        option: Names it in the message.
    """
    protocol = "the protocol (genrl.vlm.protocol.VideoLanguageModel)"
    for attribute, kind in ATTRIBUTES.items():
        if not isinstance(getattr(model, attribute, None), kind):
            raise UserError(f"{option}: it lacks the attribute {attribute!r} ({kind.__name__}) of {protocol}")
    for method in METHODS:
        if not callable(getattr(model, method, None)):
            raise UserError(f"{option}: it lacks the method {method!r} of {protocol}")
    if not SAFE_NAME.fullmatch(model.name):
        raise UserError(f"{option}: its name {model.name!r} may hold letters, digits, '.', '-' and '_' only")
