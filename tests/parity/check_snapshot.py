"""Compares what a model imported from a snapshot of the original imagines and decodes with what the original did.

    python tests/parity/check_snapshot.py SNAPSHOT.pt EXPECTED.npz

Imports the snapshot as `genrl import` does, loads the model from its directory, and compares every parameter (sum, sum
of absolute values, number) and the imagination of every prompt, with and without resets: one line each (name, largest
error, tolerance, verdict), then a count. Sizes come from the two files. Exits with 1 if anything is off, or if an array
was neither used nor compared. Both forms of snapshot will do.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genrl.interop.snapshot import Snapshot
from genrl.interop.snapshot_import import find_agent
from genrl.models.foundation import FoundationModel
from genrl.run.snapshot import SnapshotConfig, import_snapshot

TOLERANCE = 1e-4
"""Largest difference, relative to the larger of 1 and the value."""
SUMS = "state_names_sum/"

Arrays = Mapping[str, np.ndarray]


class Report:
    """Prints a line per comparison and keeps count."""

    def __init__(self) -> None:
        self.compared = self.off = 0

    def compare(self, name: str, ours: Tensor | None, theirs: np.ndarray) -> None:
        """One array; None stands for one that we lack."""
        expected = torch.from_numpy(np.array(theirs)).double()
        if ours is None or ours.shape != expected.shape:
            found = "missing" if ours is None else f"shape {tuple(ours.shape)}"
            self.verdict(name, f"{found}, expected {tuple(expected.shape)}", False)
            return
        error = (ours.double() - expected).abs() / expected.abs().clamp(min=1.0)
        largest = float(error.max()) if error.numel() else 0.0
        self.verdict(name, f"error {largest:.1e}  tolerance {TOLERANCE:.0e}", largest <= TOLERANCE)

    def verdict(self, name: str, measured: str, good: bool) -> None:
        """One compared array."""
        self.compared += 1
        self.off += not good
        print(f"{name:76s} {measured:36s} {'ok' if good else 'OFF'}")


def check_parameters(file: Path, arrays: Arrays, report: Report) -> None:
    """Every tensor of the agent's state dict, the ones that are not imported too; there are no others."""
    with Snapshot(file) as snapshot:
        tensors = {name: snapshot.read(stored).double() for name, stored in find_agent(snapshot).tensors.items()}
    sums = {name: torch.stack([x.sum(), x.abs().sum(), torch.tensor(x.numel())]) for name, x in tensors.items()}
    expected = {name.removeprefix(SUMS): array for name, array in arrays.items() if name.startswith(SUMS)}
    for name, array in expected.items():
        report.compare(SUMS + name, sums.get(name), array)
    for name in sorted(set(sums) - set(expected)):
        report.verdict(SUMS + name, "not expected", False)


@torch.no_grad()
def check_imagination(model: FoundationModel, arrays: Arrays, report: Report) -> set[str]:
    """Modes throughout, from the aligned prompts, without resets and with one after each clip.

    Returns:
        Names of the arrays that were used or compared.
    """
    seen = {"text_embed"}
    prompts = model.aligner.align(torch.from_numpy(arrays["text_embed"]))
    for group, reset_every in (("noreset", None), ("reset", model.spec.frames_per_clip)):
        steps = arrays[f"{group}_logit"].shape[1]
        states = model.connector.imagine(prompts[:, None].expand(-1, steps, -1), mode=True, reset_every=reset_every)
        ours = {
            "logit": states.logits,
            "stoch": states.stoch,
            "deter": states.deter,
            "image_mean": model.world_model.decoder(states.stoch),
        }
        for name, value in ours.items():
            # A copy of the file may leave images out, which are most of it.
            if name != "image_mean" or f"{group}_{name}" in arrays:
                report.compare(f"{group}_{name}", value, arrays[f"{group}_{name}"])
            seen.add(f"{group}_{name}")
    return seen


def main(argv: list[str] | None = None) -> int:
    """Compares everything; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare an imported snapshot with what the original gave.")
    parser.add_argument("snapshot", type=Path, metavar="SNAPSHOT.pt")
    parser.add_argument("expected", type=Path, metavar="EXPECTED.npz")
    options = parser.parse_args(argv)
    report = Report()
    with np.load(options.expected, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    with tempfile.TemporaryDirectory() as directory:
        path = import_snapshot(SnapshotConfig(options.snapshot, Path(directory) / "model")).path
        model = FoundationModel.load(path)
    check_parameters(options.snapshot, arrays, report)
    seen = check_imagination(model, arrays, report)
    unseen = [name for name in arrays if not name.startswith(SUMS) and name not in seen]
    for name in unseen:
        print(f"{name:76s} NEITHER USED NOR COMPARED")
    print(f"{report.compared} compared, {report.off} off, {len(unseen)} not looked at")
    return 1 if report.off or unseen or not report.compared else 0


if __name__ == "__main__":
    sys.exit(main())
