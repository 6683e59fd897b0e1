"""Fingerprints of what a run reads: cheap ones, that need not read all of it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from genrl.data.store import Store, find_stores
from genrl.infra.checkpoint import recorded_checksum
from genrl.infra.errors import UserError
from genrl.infra.inputs import RunInput
from genrl.run.prompting import GENERAL, model_directory
from genrl.run.prompts import PromptConfig
from genrl.vlm.embedded_prompts import read_embedded_prompts

ACTIONS_READ = 256
"""Actions of each end of a store that tell it from one of the same size."""


def model_input(option: str, name: str) -> RunInput:
    """A model with its general policy, if it has one, by the checksums noted with them."""
    directory = model_directory(name)
    parts = [part for part in (directory, directory / GENERAL) if part.is_dir()]
    return RunInput(f"{option} {name}", " ".join(map(recorded_checksum, parts)), directory)


def store_inputs(paths: Sequence[Path]) -> list[RunInput]:
    """Every store of `--data`, by its episodes and its first and last actions.

    Embeddings are not among them: more may be added, and those that are read are told by the VLM's checksum.
    """
    inputs = []
    for path in find_stores(paths):
        store = Store.open(path)
        rows, ends = store.num_frames, min(ACTIONS_READ, store.num_frames)
        content = [store.episodes.length, store.read("action", 0, ends), store.read("action", rows - ends, rows)]
        checksum = zlib.crc32(b"".join(part.tobytes() for part in content), zlib.crc32(store.spec.look.encode()))
        inputs.append(RunInput(f"--data {path}", f"{rows} frames, {checksum:08x}", path))
    return inputs


def prompt_inputs(config: PromptConfig) -> list[RunInput]:
    """Files that prompts come from: videos by all of their content, embeddings by those that were chosen."""
    inputs = [file_input("--video", path) for path in config.video]
    for option, sources in (("--text-embedding", config.text_embedding), ("--video-embedding", config.video_embedding)):
        for source in sources:
            content = read_embedded_prompts(source).embeddings.numpy().tobytes()
            inputs.append(RunInput(f"{option} {source}", f"{zlib.crc32(content):08x}"))
    return inputs


def file_input(option: str, path: Path) -> RunInput:
    """A file, by all of its content.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        return RunInput(f"{option} {path}", f"{zlib.crc32(path.read_bytes()):08x}", path)
    except OSError as error:
        raise UserError(f"{option} {path} cannot be read ({error.strerror or error})") from error
