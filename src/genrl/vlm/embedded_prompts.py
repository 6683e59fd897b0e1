"""Prompts as embeddings in a file, for machines without the model that made them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from genrl.infra.checkpoint import atomic_path
from genrl.infra.errors import UserError, did_you_mean

NAMES_SHOWN = 8
Kind = Literal["text", "video"]


@dataclass(frozen=True)
class EmbeddedPrompts:
    """Prompts that a video-language model has embedded.

    Attributes:
        embeddings: (N, E) float32.
        labels: What each says or shows.
        kinds: Whether each is of a text or of a video; empty where the file does not say.
        vlm: Name of the model that made them; empty where the file does not say.
        checksum: Of its weights, likewise.
        rate: Frames per second at which videos were read.
        frames: Frames of the clips that they were read in.
    """

    embeddings: Tensor
    labels: tuple[str, ...]
    kinds: tuple[Kind, ...] = ()
    vlm: str = ""
    checksum: str = ""
    rate: float = 0.0
    frames: int = 0

    def save(self, path: Path) -> None:
        """Writes an .npz file that NumPy alone can read.

        Raises:
            UserError: If the name ends otherwise, or the disk is full or not writable.
        """
        if path.suffix != ".npz":
            raise UserError(f"--out {path} must end in .npz")
        with atomic_path(path) as aside:
            np.savez(
                aside,
                embeddings=self.embeddings.cpu().numpy(),
                labels=np.array(self.labels),
                kinds=np.array(self.kinds),
                vlm=np.array(self.vlm),
                checksum=np.array(self.checksum),
                rate=np.array(self.rate),
                frames=np.array(self.frames),
            )

    def of_kind(self, kind: Kind, source: str) -> EmbeddedPrompts:
        """Those of texts or those of videos; all where the file does not say.

        Raises:
            UserError: If there is none.
        """
        if not self.kinds:
            return self
        rows = [row for row, own in enumerate(self.kinds) if own == kind]
        if not rows:
            other = self.kinds[0]
            raise UserError(f"{source} holds embeddings of {other}s alone; give it as --{other}-embedding")
        labels = tuple(self.labels[row] for row in rows)
        return replace(self, embeddings=self.embeddings[rows], labels=labels, kinds=())


def read_embedded_prompts(source: str) -> EmbeddedPrompts:
    """Reads what `save` wrote, or bare arrays of numbers.

    Args:
        source: `FILE.npz` or `FILE.npz:LABEL` of `save`; a `.npy` file of (E,) or (N, E) numbers, or `FILE.npz:ARRAY`.

    Raises:
        UserError: If the file holds something else.
    """
    file, _, name = source.partition(".npz:")
    path = Path(f"{file}.npz" if name else source)
    if not path.is_file():
        raise UserError(f"{source}: no such file; give a .npy file of embeddings, or FILE.npz:ARRAY")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _bare(source, loaded, path.stem)
        if {field.name for field in fields(EmbeddedPrompts)} <= set(loaded.files):
            return _ours(source, dict(loaded), name)
        array = loaded.files[0] if not name and len(loaded.files) == 1 else name
        if array not in loaded.files:
            known = did_you_mean(array, loaded.files[:NAMES_SHOWN])
            raise UserError(f"{source}: say which array, as {path}:ARRAY; {known}")
        return _bare(source, loaded[array], name or path.stem)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source} cannot be read as numbers of NumPy ({error})") from error


def _ours(source: str, arrays: dict[str, np.ndarray[Any, Any]], label: str) -> EmbeddedPrompts:
    labels = [str(own) for own in arrays["labels"]]
    rows = [row for row, own in enumerate(labels) if own == label] if label else list(range(len(labels)))
    if not rows:
        raise UserError(f"{source}: no such prompt; {did_you_mean(label, labels[:NAMES_SHOWN])}")
    return EmbeddedPrompts(
        _checked(source, arrays["embeddings"])[rows],
        tuple(labels[row] for row in rows),
        tuple("text" if str(arrays["kinds"][row]) == "text" else "video" for row in rows),
        str(arrays["vlm"]),
        str(arrays["checksum"]),
        float(arrays["rate"]),
        int(arrays["frames"]),
    )


def _bare(source: str, rows: np.ndarray[Any, Any], name: str) -> EmbeddedPrompts:
    embeddings = _checked(source, rows)
    numbered = tuple(f"{name} {number}" for number in range(len(embeddings)))
    return EmbeddedPrompts(embeddings, (name,) if len(embeddings) == 1 else numbered)


def _checked(source: str, rows: np.ndarray[Any, Any]) -> Tensor:
    """(N, E) finite numbers, none of the rows zero."""
    rows = np.atleast_2d(rows)
    if rows.ndim != 2 or not rows.size or rows.dtype.kind != "f":
        raise UserError(f"{source} holds {rows.dtype} {rows.shape}, not embeddings (N, E) of float numbers")
    embeddings = torch.from_numpy(rows.astype(np.float32))
    if not embeddings.isfinite().all() or not embeddings.any(dim=1).all():
        raise UserError(f"{source} holds an embedding that is zero or not finite")
    return embeddings
