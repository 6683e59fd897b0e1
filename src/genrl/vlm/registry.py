"""Video-language models by name.

A `--vlm` is one of

* `NAME`, a name of `ENTRIES`, with its default checkpoint;
* `NAME=WHERE`, another checkpoint of that family: a directory, a file (internvideo2), or a hub id (`owner/name`,
  `owner/name@revision`);
* a directory of a mini VLM that `genrl train-vlm` wrote;
* `package:Class`, a class of one's own that fulfils the protocol.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from genrl.infra.errors import UserError, did_you_mean
from genrl.vlm.hub import fetch_checkpoint, local_checkpoint
from genrl.vlm.internvideo2_config import PAGE, PUBLISHED_FILE, REPOSITORY
from genrl.vlm.mini import MINI_VLM_DIRECTORY, MiniVLM
from genrl.vlm.own import OWN_CLASS, SAFE_NAME, load_own
from genrl.vlm.protocol import VideoLanguageModel

Dtype = Literal["float32", "bfloat16", "float16"]
"""Precision that a model computes in."""
INTERNVIDEO2_VARIABLE = "GENRL_INTERNVIDEO2"


@dataclass(frozen=True)
class Request:
    """What is asked of a loader.

    Attributes:
        where: Directory, file or hub id after the `=`, or what the entry has for default.
        device: Where the model is to compute.
        dtype: In what precision.
        frames: Frames of a clip, or None for the model's own choice.
    """

    where: str
    device: torch.device
    dtype: torch.dtype
    frames: int | None


@dataclass(frozen=True)
class VlmEntry:
    """A family of models.

    Attributes:
        name: Name in `--vlm`, and of the column in a store.
        reads: Whether it sees motion (`clips`), or the mean of single `pictures`.
        embed_dim: E of the default checkpoint.
        frames_per_clip: L of the default checkpoint.
        licence: Of the default checkpoint's weights.
        download: Size of the default checkpoint's weights in MB; 0 where they are part of this package.
        gated: Whether conditions must be accepted before it can be downloaded.
        where: Hub id of the default checkpoint; empty where none is needed.
        find: From a `where` to a place on this machine, or None; never looks at the network.
        load: Loads it.
    """

    name: str
    reads: Literal["clips", "pictures"]
    embed_dim: int
    frames_per_clip: int
    licence: str
    download: int
    gated: bool
    where: str
    find: Callable[[str], Path | None]
    load: Callable[[VlmEntry, Request], VideoLanguageModel]


def _find_mini(where: str) -> Path | None:
    directory = Path(where) if where else MINI_VLM_DIRECTORY
    # The run directory of `genrl train-vlm` holds the model one level below.
    inside = directory / "model"
    return inside if inside.is_dir() else directory if directory.is_dir() else None


def _load_mini(entry: VlmEntry, request: Request) -> VideoLanguageModel:
    directory = _find_mini(request.where)
    if directory is None:
        raise UserError(f"--vlm mini={request.where}: no such directory; give one that genrl train-vlm wrote")
    if (directory / "config.json").is_file():
        raise UserError(f"--vlm {directory}: not a mini VLM; name its family too, for example --vlm clip={directory}")
    _refuse_dtype(entry.name, str(request.dtype).removeprefix("torch."))
    return MiniVLM.load(directory)


def _load_hf(entry: VlmEntry, request: Request) -> VideoLanguageModel:
    # Before any download: without the library it would be in vain.
    import transformers  # noqa: F401

    from genrl.vlm.hf import load_hf

    return load_hf(entry.name, fetch_checkpoint(request.where, entry.name), request.dtype, request.frames)


def _find_internvideo2(where: str) -> Path | None:
    """The file or directory that was named, or where the variable or the cache has it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "genrl" / "internvideo2"
    named = "" if where == ENTRIES["internvideo2"].where else where
    path = Path(named or os.environ.get(INTERNVIDEO2_VARIABLE) or cache).expanduser()
    official = path / PUBLISHED_FILE
    return official if official.is_file() else path if path.exists() and _not_empty(path) else None


def _not_empty(path: Path) -> bool:
    return path.is_file() or next(path.iterdir(), None) is not None


def _load_internvideo2(entry: VlmEntry, request: Request) -> VideoLanguageModel:
    path = _find_internvideo2(request.where)
    if path is None:
        named = "" if request.where == entry.where else f" at {request.where}"
        raise UserError(
            f"--vlm internvideo2: no weights{named}: accept the conditions at {PAGE}, "
            f"download {PUBLISHED_FILE} there, put it into ~/.cache/genrl/internvideo2 (docs/vlm.md), "
            f"or name it with {INTERNVIDEO2_VARIABLE} or --vlm internvideo2=FILE"
        )
    from genrl.vlm.internvideo2 import load_internvideo2

    return load_internvideo2(path, request.device, request.dtype)


def _hub_entry(
    name: str, reads: Literal["clips", "pictures"], embed_dim: int, frames: int, licence: str, download: int, where: str
) -> VlmEntry:
    """A family of the `transformers` library."""
    return VlmEntry(name, reads, embed_dim, frames, licence, download, False, where, local_checkpoint, _load_hf)


# The repository's main branch has weights for JAX alone; this commit, of a proposal to it, has those for transformers.
VIDEOPRISM = "google/videoprism-lvt-base-f16r288@fb6de9f0eb7bc285be86bdca1cf7daa3e3ef51ff"

ENTRIES = {
    entry.name: entry
    for entry in (
        VlmEntry(
            "internvideo2",
            "clips",
            embed_dim=512,
            frames_per_clip=8,
            licence="Apache-2.0",
            download=2830,
            gated=True,
            where=REPOSITORY,
            find=_find_internvideo2,
            load=_load_internvideo2,
        ),
        _hub_entry("videoprism", "clips", 768, 16, "Apache-2.0", 990, VIDEOPRISM),
        _hub_entry("xclip", "clips", 512, 8, "MIT", 786, "microsoft/xclip-base-patch32"),
        _hub_entry("siglip2", "pictures", 768, 8, "Apache-2.0", 1501, "google/siglip2-base-patch16-224"),
        _hub_entry("siglip", "pictures", 768, 8, "Apache-2.0", 813, "google/siglip-base-patch16-224"),
        _hub_entry("clip", "pictures", 512, 8, "MIT", 605, "openai/clip-vit-base-patch32"),
        VlmEntry("mini", "clips", 256, 8, "MIT", 0, False, "", _find_mini, _load_mini),
    )
}
"""All families: those that see motion, those of pictures, the one that is shipped."""


def list_vlms() -> list[str]:
    """Names that `load_vlm` knows."""
    return sorted(ENTRIES)


def column_name(name: str) -> str:
    """Name of the embedding column that a `--vlm` writes: that of its family, whatever the checkpoint.

    A name that is not known stands for itself: imported stores have columns of models that are not here.
    """
    if OWN_CLASS.fullmatch(name):
        return load_vlm(name).name
    return name if _is_foreign(name) else _parse(name)[0].name


def vlm_source(name: str) -> str:
    """A `--vlm` that means the same from any working directory, and after the defaults have changed."""
    if OWN_CLASS.fullmatch(name) or _is_foreign(name):
        return name
    entry, where = _parse(name)
    path = Path(where).expanduser()
    if where and path.exists():
        return f"{entry.name}={path.resolve()}"
    # Where InternVideo2 lies is this machine's affair.
    return f"{entry.name}={where}" if where and entry.name != "internvideo2" else entry.name


def column_vlm(name: str, source: str) -> str:
    """The `--vlm` whose weights a column should have.

    Args:
        name: As the user gave it. A family's name alone means the checkpoint that the column was made with.
        source: What the column records of it; empty when nobody said.
    """
    return source if name in ENTRIES and source.partition("=")[0] == name else name


def find_vlm(name: str) -> Path | None:
    """Where a `--vlm` lies on this machine; None where it does not, or is not known. Never looks at the network.

    A class of one's own lies nowhere: it must be named to be run.
    """
    try:
        entry, where = _parse(name)
    except UserError:
        return None
    if entry.load is _load_hf and find_spec("transformers") is None:
        return None
    return entry.find(where)


def load_vlm(
    name: str = "mini", device: str | torch.device = "cpu", dtype: Dtype = "float32", frames: int | None = None
) -> VideoLanguageModel:
    """Load a video-language model, frozen and in evaluation mode.

    Args:
        name: A name of `list_vlms`, `NAME=WHERE`, the directory of a mini VLM that `genrl train-vlm` wrote, or
            `package:Class`.
        device: Where it computes.
        dtype: Precision that it computes in; embeddings are float32 all the same.
        frames: Frames of a clip, where the model leaves them open.

    Raises:
        UserError: If there is no such model, it cannot be had, or it does not take that dtype or these frames.
        ModuleNotFoundError: If a library is not installed.
    """
    if OWN_CLASS.fullmatch(name):
        _refuse_dtype(name, dtype)
        model = load_own(name)
    else:
        entry, where = _parse(name)
        model = entry.load(entry, Request(where, torch.device(device), getattr(torch, dtype), frames))
    if frames is not None and model.frames_per_clip != frames:
        raise UserError(f"VLM {name!r} reads clips of {model.frames_per_clip} frames only, not of {frames} (--frames)")
    if isinstance(model, torch.nn.Module):
        model.to(device).eval().requires_grad_(False)
    return model


def _is_foreign(name: str) -> bool:
    """Whether it may be the column of a model that is not known here."""
    return name not in ENTRIES and not Path(name).is_dir() and SAFE_NAME.fullmatch(name) is not None


def _parse(name: str) -> tuple[VlmEntry, str]:
    """Family and checkpoint of a `--vlm` that is no class.

    Raises:
        UserError: If there is none of that name.
    """
    family, _, where = name.partition("=")
    if family in ENTRIES:
        return ENTRIES[family], where or ENTRIES[family].where
    if Path(name).is_dir():
        return ENTRIES["mini"], name
    hint = did_you_mean(family, list_vlms())
    raise UserError(
        f"--vlm: unknown model {name!r}; {hint} (or NAME=WHERE, package:Class, the directory of a trained mini VLM; "
        "see `genrl vlm list`)"
    )


def _refuse_dtype(name: str, dtype: str) -> None:
    if dtype != "float32":
        raise UserError(f"--dtype {dtype}: VLM {name!r} computes in float32 only; leave the option out")
