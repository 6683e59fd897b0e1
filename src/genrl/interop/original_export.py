"""Stores as episode files of the original; what the files are: `original.py`.

Each store becomes a folder, each episode a file `INDEX-TIME-ID-LENGTH.npz` in it, as the original names them. Time and
id are made from the episode's place, so that the same store gives the same names.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from genrl.data.episode import Episode, StoreSpec
from genrl.infra.checkpoint import atomic_path, atomic_write, remove_leftovers
from genrl.infra.errors import UserError
from genrl.interop.importing import Provenance
from genrl.interop.original import EMBEDDING

PROVENANCE = "genrl.json"
"""Ours: the store's own description; everybody else ignores it."""
TIME = "19700101T000000"


class OriginalSink:
    """Writes episodes as files, or adds to those that it wrote.

    Args:
        root: Directory of the data set.
        spec: What the episodes share.

    Attributes:
        origins: Names of the episodes that are there already.

    Raises:
        UserError: If the directory holds something else.
    """

    def __init__(self, root: Path, spec: StoreSpec) -> None:
        provenance = Provenance(spec, lossless=True)
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            there = read_provenance(root)
            if there is None:
                raise UserError(f"--out {root} is not an export of ours; name a new or empty directory")
            if there != provenance:
                raise UserError(f"--out {root} holds another kind of episodes ({there}); name another directory")
        self.root = root
        atomic_write(root / PROVENANCE, provenance.to_json())
        self.origins: set[str] = set()
        for folder in (path for path in root.iterdir() if path.is_dir()):
            remove_leftovers(folder)
            self.origins |= {f"{folder.name}#{file.name.split('-')[0]}" for file in folder.glob("*.npz")}

    def write(self, episode: Episode, source: str, origin: str) -> None:
        """Adds an episode, whole or not at all."""
        store, _, index = origin.rpartition("#")
        identity = hashlib.sha256(origin.encode()).hexdigest()[:32]
        with atomic_path(self.root / store / f"{index}-{TIME}-{identity}-{len(episode)}.npz") as aside:
            np.savez_compressed(aside, **original_arrays(episode))
        self.origins.add(origin)


def read_provenance(root: Path) -> Provenance | None:
    """What an export of ours says about itself; None for data of others."""
    file = root / PROVENANCE
    return Provenance.from_json(file.read_text(), str(file)) if file.is_file() else None


def original_arrays(episode: Episode) -> dict[str, Any]:
    """The arrays of an episode's file; embeddings of other VLMs than the original's stay behind."""
    rows = np.arange(len(episode))
    arrays: dict[str, Any] = {
        "observation": np.ascontiguousarray(episode.frames.transpose(0, 3, 1, 2)),
        "action": episode.action,
        "reward": episode.reward[:, None],
        "discount": 1.0 - episode.is_terminal[:, None].astype(np.float32),
        "is_first": rows == 0,
        "is_last": rows == len(episode) - 1,
        "is_terminal": episode.is_terminal,
    }
    if EMBEDDING in episode.embeddings:
        arrays["clip_video"] = episode.embeddings[EMBEDDING].astype(np.float32)
    if episode.state is not None:
        arrays["state"] = episode.state.astype(np.float32)
    return arrays
