"""Stores become episode files of the original, and come back."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genrl.data.store import EmbeddingInfo, Episode, Store, StoreWriter
from genrl.infra.errors import UserError
from genrl.interop import original_export
from genrl.interop.original_export import original_arrays
from genrl.run.data import ExportConfig, export
from tests.interop.travel import SPEC, noisy_episode, run_import, write_store

EMBEDDING = EmbeddingInfo("internvideo2", 6, 8, "imported")


def run_export(store: Path, out: Path):
    return export(ExportConfig((store,), out, "original"))


def embedded(rows: int, seed: int) -> Episode:
    """An episode with embeddings where a whole clip ends."""
    embedding = np.random.default_rng(seed).normal(size=(rows, 6))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    embedding[:7] = 0
    return replace(noisy_episode(rows, seed), embeddings={"internvideo2": embedding.astype(np.float16)})


def write_embedded(path: Path) -> Store:
    with StoreWriter.open(path, SPEC) as writer:
        writer.declare_embedding(EMBEDDING)
        for number in range(3):
            writer.add(embedded(10 + number, number), "expert")
    return Store.open(path)


def test_there_and_back_nothing_changes(tmp_path: Path) -> None:
    store = write_embedded(tmp_path / "walk")
    report = run_export(store.path, tmp_path / "out")
    assert (report.exported, report.frames, report.set_aside) == (3, 33, {})
    run_import(tmp_path / "out", tmp_path / "back")
    back = Store.open(tmp_path / "back")
    assert back.spec == SPEC and back.sources == ["original:out/walk"]
    assert back.embedding_info("internvideo2") == EMBEDDING
    for index in range(3):
        one, other = store.episode(index), back.episode(index)
        for name in ("frames", "action", "reward", "is_terminal", "state"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        # Imported rows are made to have unit length again.
        assert np.abs(one.embeddings["internvideo2"] - other.embeddings["internvideo2"]).max() < 1e-3
        assert not other.embeddings["internvideo2"][:7].any()


def test_a_file_is_laid_out_as_the_original_has_it(tmp_path: Path) -> None:
    store = write_embedded(tmp_path / "walk")
    run_export(store.path, tmp_path / "out")
    files = sorted((tmp_path / "out" / "walk").iterdir())
    assert [file.name.split("-")[0] for file in files] == ["0", "1", "2"]
    assert [int(file.stem.split("-")[-1]) for file in files] == [10, 11, 12]
    episode = store.episode(1)
    with np.load(files[1], allow_pickle=False) as file:
        layout = {name: (file[name].dtype.name, file[name].shape) for name in file.files}
        assert np.array_equal(file["observation"][3, 2], episode.frames[3, :, :, 2])
        assert file["discount"][:, 0].tolist() == [1.0] * 10 + [0.0]
        assert file["is_first"].nonzero()[0].tolist() == [0] and file["is_last"].nonzero()[0].tolist() == [10]
    assert layout == {
        "observation": ("uint8", (11, 3, 32, 32)),
        "action": ("float32", (11, 2)),
        "reward": ("float32", (11, 1)),
        "discount": ("float32", (11, 1)),
        "is_first": ("bool", (11,)),
        "is_last": ("bool", (11,)),
        "is_terminal": ("bool", (11,)),
        "clip_video": ("float32", (11, 6)),
        "state": ("float32", (11, 3)),
    }
    assert {"clip_video", "state"}.isdisjoint(original_arrays(noisy_episode(4, 0, spec=replace(SPEC, state_dim=0))))


def test_options_say_otherwise_than_the_export(tmp_path: Path) -> None:
    run_export(write_store(tmp_path / "walk").path, tmp_path / "out")
    run_import(tmp_path / "out", tmp_path / "back", domain="stickman", look="paper", frame_size=16)
    assert Store.open(tmp_path / "back").spec == replace(SPEC, domain="stickman", look="paper", frame_size=16)


def test_an_export_that_was_stopped_goes_on_and_takes_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_store(tmp_path / "walk").path
    real = original_export.original_arrays

    def stop_at_the_second(episode: Episode):
        if len(episode) == 10:
            raise KeyboardInterrupt
        return real(episode)

    with monkeypatch.context() as patch:
        patch.setattr(original_export, "original_arrays", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            run_export(store, tmp_path / "out")
    # What a process that was killed outright leaves.
    (tmp_path / "out" / "walk" / ".1-x.tmp-1.npz").write_bytes(b"half")
    with StoreWriter.open(store, SPEC) as writer:
        writer.add(noisy_episode(5, 9), "late")
    report = run_export(store, tmp_path / "out")
    assert (report.exported, report.skipped) == (3, 1)
    assert len(os.listdir(tmp_path / "out" / "walk")) == 4
    assert run_import(tmp_path / "out", tmp_path / "back").imported == 4


def test_nothing_else_is_written_over(tmp_path: Path) -> None:
    store = write_store(tmp_path / "walk").path
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="full is not an export of ours"):
        run_export(store, tmp_path / "full")
    run_export(store, tmp_path / "out")
    other = write_store(tmp_path / "run", spec=replace(SPEC, look="paper")).path
    with pytest.raises(UserError, match="out holds another kind of episodes"):
        run_export(other, tmp_path / "out")
    with pytest.raises(UserError, match="--no-lossless has no meaning"):
        export(ExportConfig((store,), tmp_path / "new", "original", lossless=False))
    assert not (tmp_path / "new").exists()
