"""From the command line, offline: a tiny model of every family embeds a store, trains a model, and is found again."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrl import cli
from genrl.data.store import Episode, Store, StoreSpec, StoreWriter
from genrl.models.foundation import FoundationModel
from genrl.run.prompting import load_model
from genrl.vlm.registry import ENTRIES
from tests.vlm.hf_tiny import make_hf
from tests.vlm.tiny import noise

pytest.importorskip("transformers")

UPDATES = 20


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the network was looked at")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Four episodes of noise."""
    with StoreWriter.open(tmp_path / "store", StoreSpec("walker", 2, "fast", "side", 2, 0.025)) as writer:
        for number in range(4):
            action = np.random.default_rng(number).uniform(-1, 1, (20, 2)).astype(np.float32)
            zeros = np.zeros(20, np.float32)
            writer.add(Episode(noise(20, 64, 64, seed=number).numpy(), action, zeros, zeros.astype(bool)), "noise")
    return tmp_path / "store"


def genrl(*words: object) -> None:
    assert cli.main([str(word) for word in words]) == 0


def pretrain(store: Path, vlm: str, out: Path, updates: int) -> None:
    stages = ["--joint.updates", updates, "--latent.updates", updates]
    genrl("pretrain", "debug", "--data", store, "--vlm", vlm, "--out", out, *stages, "--device", "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in ENTRIES if name not in ("mini", "internvideo2")])
def test_the_whole_road_with_each_family(store: Path, tmp_path: Path, family: str, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_hf(tmp_path / "weights", family)
    vlm = f"{family}=weights"
    genrl("embed", "--data", store, "--vlm", vlm, "--device", "cpu")
    info = Store.open(store).embedding_info(family)
    assert info.source == f"{family}={tmp_path / 'weights'}"
    pretrain(store, vlm, tmp_path / "pretrain", UPDATES)

    monkeypatch.chdir("/")  # Wherever the user is, the model knows where its VLM was.
    model = tmp_path / "pretrain" / "model"
    capsys.readouterr()
    preview = tmp_path / "preview.png"
    genrl("imagine", "--model", model, "--prompt", "standing up", "--steps", 8, "--out", preview, "--device", "cpu")
    assert preview.exists() and "groundability" in capsys.readouterr().out
    learnt = ["--prompt", "walking", "--updates", UPDATES, "--device", "cpu"]
    genrl("learn", "debug", "--model", model, *learnt, "--out", tmp_path / "learn")
    assert (tmp_path / "learn" / "policy").is_dir()

    shutil.move(tmp_path / "weights", tmp_path / "moved")
    assert cli.main([str(word) for word in ("imagine", "--model", model, "--prompt", "jump", "--device", "cpu")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"was trained with VLM '{family}', which is not here" in said and f"(--vlm {family}=WHERE)" in said
    moved = f"{family}={tmp_path / 'moved'}"
    genrl("imagine", "--model", model, "--vlm", moved, "--prompt", "jump", "--out", preview, "--device", "cpu")


def test_a_model_knows_its_vlm_and_refuses_other_weights(store: Path, tmp_path: Path, capsys) -> None:
    weights, other = make_hf(tmp_path / "weights", "clip"), make_hf(tmp_path / "other", "clip", seed=1)
    genrl("embed", "--data", store, "--vlm", f"clip={weights}", "--frames", 4, "--device", "cpu")
    # A column tells where it comes from: the name of the family suffices.
    pretrain(store, "clip", tmp_path / "pretrain", 2)
    spec = FoundationModel.load(tmp_path / "pretrain" / "model").spec
    assert (spec.vlm, spec.vlm_source, spec.frames_per_clip) == ("clip", f"clip={weights}", 4)
    prompted = load_model(tmp_path / "pretrain")
    assert prompted.has_vlm and prompted.vlm.frames_per_clip == 4 and prompted.vlm.checksum == spec.vlm_checksum

    words = [
        "imagine",
        "--model",
        tmp_path / "pretrain",
        "--vlm",
        f"clip={other}",
        "--prompt",
        "jump",
        "--device",
        "cpu",
    ]
    assert cli.main([str(word) for word in words]) == 2
    assert f"was trained with VLM 'clip' of checksum {spec.vlm_checksum}" in capsys.readouterr().err
    assert cli.main(["embed", "--data", str(store), "--vlm", f"clip={other}", "--device", "cpu"]) == 2
    assert "from other weights" in capsys.readouterr().err


OWN = """
from pathlib import Path
from genrl.vlm.mini import MINI_VLM_DIRECTORY, MiniVLM

Path(__file__).with_name("was_run").touch()

def make():
    model = MiniVLM.load(MINI_VLM_DIRECTORY)
    model.name = "own"
    return model
"""


def test_a_model_does_not_choose_which_code_is_run(store: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    (tmp_path / "own_vlm.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    genrl("embed", "--data", store, "--vlm", "own_vlm:make", "--device", "cpu")
    pretrain(store, "own_vlm:make", tmp_path / "pretrain", 2)
    (tmp_path / "was_run").unlink()
    monkeypatch.delitem(__import__("sys").modules, "own_vlm")
    words = ["imagine", "--model", str(tmp_path / "pretrain"), "--prompt", "jump", "--device", "cpu"]
    assert cli.main(words) == 2
    assert "a class of your own; name it to have it run: --vlm own_vlm:make" in capsys.readouterr().err
    assert not load_model(tmp_path / "pretrain").has_vlm and not (tmp_path / "was_run").exists()
    genrl(*words, "--vlm", "own_vlm:make", "--out", tmp_path / "preview.png")
    assert (tmp_path / "was_run").exists()
