"""A store of four short episodes with embeddings, a VLM of few weights, a model pretrained on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from genrl.data.store import Episode, StoreSpec, StoreWriter
from genrl.presets import PRESETS
from genrl.run.embed import EmbedConfig, embed
from genrl.run.learn import LearnConfig
from genrl.run.pretrain import PretrainConfig, StageConfig, pretrain
from tests.vlm.tiny import noise, tiny_vlm


def make_store(directory: Path) -> tuple[Path, Path]:
    """Writes a store with embeddings, and the VLM that made them; returns both."""
    spec = StoreSpec("walker", 2, "fast", "side", 2, 0.025)
    with StoreWriter.open(directory / "store", spec) as writer:
        for number in range(4):
            action = np.random.default_rng(number).uniform(-1, 1, (20, 2)).astype(np.float32)
            zeros = np.zeros(20, np.float32)
            writer.add(Episode(noise(20, 64, 64, seed=number).numpy(), action, zeros, zeros.astype(bool)), "noise")
    tiny_vlm().save(directory / "vlm")
    embed(EmbedConfig((directory / "store",), str(directory / "vlm"), "cpu"))
    return directory / "store", directory / "vlm"


def pretrain_config(store: Path, vlm: Path, out: Path, updates: int = 4) -> PretrainConfig:
    """The debug preset with so many updates of each stage."""
    debug: PretrainConfig = PRESETS["pretrain"]["debug"]
    stage: StageConfig = replace(debug.joint, updates=updates)
    return replace(debug, data=(store,), vlm=str(vlm), out=out, joint=stage, latent=stage, device="cpu")


def learn_config(model: Path, vlm: Path, out: Path, updates: int = 4) -> LearnConfig:
    """The debug preset with so many updates."""
    debug: LearnConfig = PRESETS["learn"]["debug"]
    return replace(debug, model=str(model), vlm=str(vlm), out=out, prompt=("walking",), updates=updates, device="cpu")


def make_model(directory: Path) -> tuple[Path, Path, Path]:
    """A pretrained model, its store and its VLM."""
    store, vlm = make_store(directory)
    return pretrain(pretrain_config(store, vlm, directory / "pretrain")), store, vlm
