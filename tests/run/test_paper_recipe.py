"""The recipe of the paper's walker, rehearsed: every stage on very little; and its estimates."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genrl.data.store import Episode, Store, StoreSpec, StoreWriter
from genrl.models.foundation import FoundationModel
from genrl.run.data import ExportConfig, export
from tests.vlm.tiny import noise, tiny_vlm

ROOT = Path(__file__).parents[2]


def test_the_estimates_in_the_documents_are_those_of_the_script() -> None:
    estimates = runpy.run_path(str(ROOT / "recipes" / "paper_estimates.py"))
    assert estimates["table"]() in (ROOT / "docs" / "reproduce.md").read_text()
    # By hand: 2.5e6 clips of 5.1 TFLOP are 12.75e6 TFLOP; at 40 % of 312 TFLOP/s, 102,163 s.
    assert "A100 28 h" in estimates["table"]()


@pytest.mark.slow
@pytest.mark.gl
def test_every_stage_runs_from_episode_files_to_scores_and_again_does_nothing(tmp_path: Path) -> None:
    spec = StoreSpec("walker", 6, "paper", "side", 2, 0.025, action_low=(-1.0,) * 6, action_high=(1.0,) * 6)
    with StoreWriter.open(tmp_path / "walk", spec) as writer:
        for number in range(5):
            action = np.random.default_rng(number).uniform(-1, 1, (40, 6)).astype(np.float32)
            action[0], zeros = 0, np.zeros(40, np.float32)
            writer.add(Episode(noise(40, 64, 64, seed=number).numpy(), action, zeros, zeros.astype(bool)), "walk")
    export(ExportConfig((tmp_path / "walk",), tmp_path / "episodes", "original"))
    tiny_vlm().save(tmp_path / "vlm")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SHARE": "25000",  # 20 updates of the model, 2 of a policy.
        "TASKS": "walker_stand walker_run",
        "SEEDS": "0",
        "JOBS": "1",
    }
    words = [ROOT / "recipes" / "paper_walker.sh", tmp_path / "episodes", tmp_path / "work", tmp_path / "vlm"]

    def recipe() -> str:
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout + done.stderr

    recipe()
    data = Store.open(tmp_path / "work" / "data")
    assert data.num_frames == 200 and data.embedded_rows("mini") == 200 and data.spec.look == "paper"
    spec_of_model = FoundationModel.load(tmp_path / "work" / "model" / "model").spec
    assert (spec_of_model.vlm, spec_of_model.vlm_checksum) == ("mini", tiny_vlm().checksum)
    scores = json.loads((tmp_path / "work" / "scores" / "scores.json").read_text())
    assert [row["task"] for row in scores["tasks"]] == ["walker_stand", "walker_run"]
    assert [row["seeds"][0]["updates"] for row in scores["tasks"]] == [2, 2]
    again = recipe()
    assert "embeddings 'mini' are complete" in again and "finished; the model is" in again
