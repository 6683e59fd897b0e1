"""`genrl import`: a snapshot of the original becomes a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from genrl.infra.checkpoint import check_replaceable
from genrl.interop.original_import import DOMAINS
from genrl.interop.snapshot import Snapshot
from genrl.interop.snapshot_import import Agent, find_agent, import_model, known_domain, left_out
from genrl.models.foundation import FORMAT, FoundationModel


@dataclass(frozen=True)
class SnapshotConfig:
    """Turn a snapshot of the original (`.pt`) into a model, for `genrl imagine`, `genrl learn` and the other verbs.

    World model, connector and aligner come through; policies, critics and optimisers are left out. A snapshot is a
    pickle, and pickles can run programs when they are loaded: here it is read as data, and nothing of it is run. So it
    may come from anywhere. Both forms are known: a training snapshot, and a bare agent as the original's demo loads it.

    The model understands embeddings of the video-language model that it was trained with, InternVideo2 for the released
    ones; prompts in words need that one here, or its embeddings in a file (`genrl imagine --text-embedding`).

    Example: genrl import snapshot_500000.pt --out models/stickman
    """

    snapshot: tyro.conf.Positional[Path]
    """The file."""
    out: Path
    """Directory of the model."""
    domain: str | None = None
    """Body the model was trained for; told from the task in the snapshot unless given."""
    stand_in: tuple[str, ...] = ()
    """Python packages that the snapshot may name beside the original's own, such as one of yours. They are not run."""
    fresh: bool = False
    """Replace a model that is there."""


@dataclass(frozen=True)
class SnapshotImport:
    """What an import gave.

    Attributes:
        path: Directory of the model.
        model: The model.
        agent: What the snapshot held.
    """

    path: Path
    model: FoundationModel
    agent: Agent


def import_snapshot(config: SnapshotConfig) -> SnapshotImport:
    """Import a snapshot, and print what was in it.

    Raises:
        UserError: If the file is no snapshot of the original, or a model is there already.
    """
    check_replaceable(config.out, config.fresh, "a model", format=FORMAT)
    with Snapshot(config.snapshot, config.stand_in) as snapshot:
        agent = find_agent(snapshot)
        model = import_model(snapshot, agent, config.domain)
        model.save(config.out, original={"file": config.snapshot.name, "task": agent.task, "step": agent.step})
        _print_import(snapshot, agent, model)
    print(f"model: {config.out}")
    return SnapshotImport(config.out, model, agent)


def _print_import(snapshot: Snapshot, agent: Agent, model: FoundationModel) -> None:
    spec, sizes = model.spec, model.config.world_model
    rssm = sizes.rssm
    form = "training snapshot" if isinstance(snapshot.root, dict) else "bare agent"
    when = f", step {agent.step}" if agent.step is not None else ""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    known = f"task {agent.task}" if agent.task else "no task is named in it"
    if known_domain(agent.task) is None and spec.domain not in DOMAINS:
        known += "; --domain says which body it is"
    parts = [f"{name} ({count} tensors)" for name, count in left_out(snapshot, agent, model).items()]
    lines = {
        "snapshot": f"{form}{when}, {snapshot.num_bytes / 1e6:.1f} MB",
        "model": f"{parameters} parameters; recurrent state {rssm.deter_dim}, layers {rssm.hidden_dim}, "
        f"{rssm.num_variables} variables of {rssm.num_classes} classes, first convolution {sizes.cnn_depth} channels",
        "made for": f"{spec.domain} ({known}), actions of {spec.action_dim}, look {spec.look}, "
        f"{spec.frames_per_second:g} frames a second",
        "VLM": f"{spec.vlm}, embeddings of {spec.embed_dim}, clips of {spec.frames_per_clip} frames",
        "left out": "; ".join(parts) or "nothing",
    }
    for name, text in lines.items():
        print(f"{name + ':':<10} {text}")
