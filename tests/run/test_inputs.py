"""Fingerprints of inputs: they differ where contents do, and only there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genrl.data.store import EmbeddingInfo, EmbeddingWriter, Episode, Store, StoreSpec, StoreWriter
from genrl.infra.checkpoint import save_checkpoint
from genrl.infra.errors import UserError
from genrl.run.inputs import file_input, model_input, prompt_inputs, store_inputs
from genrl.run.prompts import PromptConfig

SPEC = StoreSpec("walker", 2, "fast", "side", 2, 0.025)


def write(path: Path, seed: int, episodes: int = 1, spec: StoreSpec = SPEC) -> Path:
    """A store of episodes of 20 rows."""
    with StoreWriter.open(path, spec) as writer:
        for number in range(episodes):
            action = np.random.default_rng((seed, number)).uniform(-1, 1, (20, 2)).astype(np.float32)
            zeros = np.zeros(20, np.float32)
            writer.add(Episode(np.zeros((20, 64, 64, 3), np.uint8), action, zeros, zeros > 0), "noise")
    return path


def fingerprint(path: Path) -> str:
    (own,) = store_inputs([path])
    assert own.name == f"--data {path}" and own.path == path
    return own.fingerprint


def test_stores_of_other_episodes_differ_and_copies_do_not(tmp_path: Path) -> None:
    first = fingerprint(write(tmp_path / "a", 0))
    assert first.startswith("20 frames, ")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == first
    others = [
        write(tmp_path / "seed", 1),
        write(tmp_path / "longer", 0, 2),
        write(tmp_path / "look", 0, spec=replace(SPEC, look="paper")),
        write(tmp_path / "empty", 0, 0),
    ]
    assert len({first, *map(fingerprint, others)}) == 5
    assert [own.path for own in store_inputs([tmp_path])] == sorted(tmp_path.iterdir())


def test_more_embeddings_do_not_change_a_store(tmp_path: Path) -> None:
    before = fingerprint(write(tmp_path / "a", 0))
    with EmbeddingWriter(tmp_path / "a", EmbeddingInfo("other", 4, 8, "of another VLM")) as writer:
        writer.write(0, np.ones((writer.num_rows, 4), np.float16))
    assert Store.open(tmp_path / "a").embeddings == ["other"] and fingerprint(tmp_path / "a") == before


def test_a_model_is_told_by_its_weights_and_those_of_its_general_policy(tmp_path: Path) -> None:
    def model(weight: float) -> str:
        save_checkpoint(tmp_path / "run" / "model", {"w": torch.tensor([weight])}, {})
        return model_input("--model", str(tmp_path / "run")).fingerprint

    first, other = model(1.0), model(2.0)
    assert first == model(1.0) != other
    save_checkpoint(tmp_path / "run" / "model" / "general", {"w": torch.tensor([3.0])}, {})
    own = model_input("--model", str(tmp_path / "run"))
    assert own.fingerprint.split()[0] == first and own.fingerprint != first
    assert own.path == tmp_path / "run" / "model"


def test_files_and_embeddings_are_told_by_their_content(tmp_path: Path) -> None:
    file = tmp_path / "walk.npy"
    np.save(file, np.eye(2, 4, dtype=np.float32))
    config = PromptConfig(video=(file,), text_embedding=(str(file),))
    before = prompt_inputs(config)
    assert [own.name for own in before] == [f"--video {file}", f"--text-embedding {file}"]
    assert prompt_inputs(config) == before
    np.save(file, np.eye(2, 4, 1, dtype=np.float32))
    assert all(old.fingerprint != new.fingerprint for old, new in zip(before, prompt_inputs(config), strict=True))
    with pytest.raises(UserError, match="--goal-texts .*nowhere cannot be read .No such file"):
        file_input("--goal-texts", tmp_path / "nowhere")
