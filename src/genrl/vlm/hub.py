"""Checkpoints of the Hugging Face hub: in a directory, in the hub's cache, or downloaded once."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from genrl.infra.errors import UserError

HUB_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
"""`owner/name`, or `owner/name@revision` for another branch or commit than main."""
DESCRIPTIONS = ["*.json", "*.txt", "*.model"]
WEIGHTS = {"model.safetensors": "model*.safetensors", "pytorch_model.bin": "pytorch_model*.bin"}
"""File of weights -> pattern of its parts; the first kind is preferred: it cannot hold code."""
PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model")


def local_checkpoint(where: str) -> Path | None:
    """Directory of a checkpoint on this machine, without any look at the network.

    Args:
        where: A directory, or a hub id (`owner/name`, `owner/name@revision`).
    """
    directory = Path(where).expanduser()
    if directory.is_dir():
        return directory
    match = HUB_ID.fullmatch(where)
    if match is None:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ModuleNotFoundError:
        return None
    file = try_to_load_from_cache(match["repository"], "config.json", revision=match["revision"])
    if isinstance(file, str) and _is_whole(Path(file).parent):
        return Path(file).parent
    return None


def _is_whole(directory: Path) -> bool:
    """Whether nothing is missing that a model is loaded from: other programs may have downloaded parts."""
    parts = (PROCESSORS, TOKENIZERS)
    return _has_weights(directory) and all(any((directory / name).is_file() for name in names) for names in parts)


def _has_weights(directory: Path) -> bool:
    """Whether a directory holds weights, in one file or in all parts that an index names."""
    for name in WEIGHTS:
        index = directory / f"{name}.index.json"
        parts = json.loads(index.read_text())["weight_map"].values() if index.is_file() else [name]
        if all((directory / part).is_file() for part in parts):
            return True
    return False


def fetch_checkpoint(where: str, family: str) -> Path:
    """Directory of a checkpoint, downloaded if it is not here.

    Args:
        where: A directory, or a hub id.
        family: Name of the model in `--vlm`, for messages.

    Raises:
        UserError: If it is not here and cannot be had; says what to accept where, and where to put the files.
    """
    directory = local_checkpoint(where)
    if directory is not None:
        return directory
    match = HUB_ID.fullmatch(where)
    if match is None:
        raise UserError(f"--vlm {family}={where}: no such directory, and not a hub id such as owner/name")
    repository, revision = match["repository"], match["revision"]
    by_hand = f"put its files into a directory and name it: --vlm {family}=DIR"
    absent = f"--vlm {family}: {repository} is not on this machine"
    command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")

    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "True"):
        raise UserError(f"{absent}, and HF_HUB_OFFLINE forbids a download; unset it, or {by_hand}")
    try:
        return _download(repository, revision)
    except errors.GatedRepoError as error:
        raise UserError(
            f"{absent}, and it is gated: accept its conditions at https://huggingface.co/{repository} and log in with "
            f"`hf auth login`, or {by_hand}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{absent}, and the hub has none of that name (or it is private); or {by_hand}") from error
    except (OSError, ValueError, errors.HTTPError) as error:
        raise UserError(
            f"{absent}, and it cannot be downloaded ({type(error).__name__}): run `{command}` where there is a "
            f"network, or {by_hand}"
        ) from error


def _download(repository: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    for weights in WEIGHTS.values():
        directory = Path(snapshot_download(repository, revision=revision, allow_patterns=[*DESCRIPTIONS, weights]))
        if _has_weights(directory):
            return directory
    raise FileNotFoundError(f"{repository} has no weights for PyTorch")
