"""A learner of one line and its run: what the tests of run directories start, stop and kill."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrl.infra.rundir import Run


@dataclass(frozen=True)
class ToyConfig:
    updates: int = 10
    learning_rate: float = 1.0
    seed: int = 7
    device: str = "cpu"


class ToyLearner:
    """Adds a random number at every update; its weight tells which updates it has seen, and with which noise."""

    def __init__(self) -> None:
        self.weight = torch.zeros(2, dtype=torch.float64)

    def update(self) -> dict[str, Tensor | float]:
        self.weight = self.weight + torch.rand(2, dtype=torch.float64)
        return {"loss": self.weight.sum(), "constant": 1.0}

    def state_tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def state_meta(self) -> dict[str, Any]:
        return {"kind": "toy"}

    def load_state(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        assert meta["kind"] == "toy"
        self.weight = tensors["weight"]


def train(out: Path, config: ToyConfig, *, seconds: float = 0.0, **options: Any) -> ToyLearner:
    """The loop of every verb, `seconds` an update."""
    learner = ToyLearner()
    with Run.open(out, "toy", config, **options) as run:
        for update in run.updates(config.updates, run.restore(learner)):
            run.log(update, learner.update(), every=1)
            run.save(update, learner, every=3)
            time.sleep(seconds)
        if not run.stopped:
            run.finish({"weight": learner.weight.tolist()})
    return learner


if __name__ == "__main__":
    train(Path(sys.argv[1]), ToyConfig(updates=int(sys.argv[2])), seconds=0.02)
