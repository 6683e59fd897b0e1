"""Do losses in bfloat16 agree with those in float32? Curves of both from the same weights, batches and noise.

    genrl data draw recipes/walker_trajectories.npz --out data && genrl embed --data data --vlm mini
    python benchmarks/precision_losses.py --data data/exploration --out benchmarks/results/precision_losses_cpu.json \
        --figure docs/images/precision_losses_cpu.png

Model updates of a fresh model from the data; then behaviour updates of a fresh policy in a shipped model. Each is run
three times: in float32, in float32 with other noise (samples of the latents, of actions, of the aligner), and in
bfloat16 with the noise of the first (on a GPU compiled and captured, which those in float32 are not). The third should
keep as near to the first as the second does: `gap` is the mean distance of two runs' running means over the updates
after the first quarter, as a share of the loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import torch._inductor.config
import tyro
from measuring import describe_machine, options_of, report
from torch import Tensor
from update_speed import SpeedConfig, sizes

from genrl.behavior.learner import BehaviorLearner
from genrl.data.episode import Array
from genrl.data.sampler import WindowSampler
from genrl.infra.captured import Compilation
from genrl.infra.checkpoint import atomic_path
from genrl.infra.compute import DeviceName, Precision, pick_device, prepare
from genrl.models.foundation import FoundationModel, ModelSpec
from genrl.models.learner import FoundationLearner, FoundationLearnerConfig
from genrl.presets import PRESETS
from genrl.run.learn import start_drawer
from genrl.run.prompting import load_model

RUNS: dict[str, tuple[Precision, int]] = {
    "float32": ("float32", 0),
    "float32, other noise": ("float32", 1),
    "bfloat16": ("bfloat16", 0),
}
"""Name -> precision and seed of the noise."""
Curves = dict[str, list[float]]
SMOOTHING = 10
"""Updates of a running mean: what differs from one to the next would hide what lasts."""


@dataclass(frozen=True)
class LossesConfig:
    """What to compare."""

    data: tuple[Path, ...]
    """Stores with embeddings."""
    embedding: str = "mini"
    preset: Literal["custom", "mini", "paper"] = "custom"
    """Sizes of the model; `custom` are those of `update_speed.py`."""
    model: str = "walker-mini"
    """Whose imagination the policy learns in."""
    prompt: str = "walk fast clean"
    updates: int = 200
    device: DeviceName = "auto"
    out: Annotated[Path | None, tyro.conf.arg(help="JSON file to write.")] = None
    figure: Annotated[Path | None, tyro.conf.arg(help="PNG file to write.")] = None


def main(config: LossesConfig) -> dict[str, object]:
    """Runs all, prints and returns the result."""
    device = pick_device(config.device)
    prepare(device)
    torch.backends.cudnn.allow_tf32 = False  # The reference is float32 throughout.
    # Generated code draws the numbers that the plain one draws.
    torch._inductor.config.fallback_random = True
    model_curves = {name: curves(model_updates(config, device, *how), config.updates) for name, how in RUNS.items()}
    policy_curves = {name: curves(policy_updates(config, device, *how), config.updates) for name, how in RUNS.items()}
    merged = {name: model_curves[name] | policy_curves[name] for name in RUNS}
    gaps = {
        loss: {name: gap(merged["float32"][loss], merged[name][loss]) for name in list(RUNS)[1:]}
        for loss in merged["float32"]
    }
    result = {
        "config": options_of(config) | {"data": [str(path) for path in config.data]},
        "machine": describe_machine(device),
        "gap": gaps,
        "curves": {name: {k: [float(f"{v:.4g}") for v in vs] for k, vs in own.items()} for name, own in merged.items()},
    }
    report({name: value for name, value in result.items() if name != "curves"}, None)
    if config.out is not None:
        report_quietly(result, config.out)
    if config.figure is not None:
        draw(merged, config.figure)
    return result


def model_updates(
    config: LossesConfig, device: torch.device, precision: Precision, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Losses of updates of a model that begins from the same weights and sees the same batches, whatever the noise."""
    foundation, _, _, batch_size, window = sizes(SpeedConfig(preset=config.preset))
    sampler = WindowSampler(list(config.data), window, batch_size, seed=0, embedding=config.embedding)
    spec, info = sampler.spec, sampler.embedding_info
    assert info is not None
    torch.manual_seed(0)
    model = FoundationModel(
        foundation,
        ModelSpec(
            spec.domain, spec.look, spec.camera, spec.action_dim, spec.action_repeat, spec.control_timestep,
            spec.action_low, spec.action_high, spec.discrete, info.name, info.checksum, info.dim, info.frames_per_clip,
        ),
    ).to(device)  # fmt: skip
    learner = FoundationLearner(model, FoundationLearnerConfig(precision=precision, compile=compilation(precision)))
    torch.manual_seed(seed)
    for update in range(config.updates):
        yield learner.update(sampler.batch(update).to(device))


def policy_updates(
    config: LossesConfig, device: torch.device, precision: Precision, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Losses of updates of a policy that begins from the same weights, whatever the noise."""
    prompted, learn = load_model(config.model, device), PRESETS["learn"]["mini"]
    behavior = replace(learn.behavior, precision=precision, compile=compilation(precision))
    steps = behavior.actor_critic.horizon + 1
    torch.manual_seed(0)
    target = prompted.model.target(prompted.prompt(config.prompt).embedding[None].to(device), steps, align=True)
    learner = BehaviorLearner(prompted.model, target, behavior)
    torch.manual_seed(seed)
    draw = start_drawer(prompted, learner, None, replace(learn, behavior=behavior))
    for update in range(config.updates):
        yield learner.update(draw(update))


def compilation(precision: Precision) -> Compilation:
    """The reference runs one operation after another; what is compared with it runs as users run it."""
    return "off" if precision == "float32" else "auto"


def curves(updates: Iterator[dict[str, Tensor]], count: int) -> Curves:
    """What is called a loss or a reward of each update."""
    found: Curves = {}
    for number, metrics in enumerate(updates, start=1):
        for name, value in metrics.items():
            if name.startswith("loss/") or name == "imagined/reward":
                found.setdefault(name, []).append(value.item())
        if number % 50 == 0:
            print(f"{number} of {count} updates", flush=True)
    return found


def gap(one: list[float], other: list[float]) -> float:
    """Mean distance of two smoothed curves after their first quarter, as a share of the first one's mean size."""
    a, b = (smoothed(values)[len(values) // 4 :] for values in (one, other))
    return float(np.abs(a - b).mean() / np.abs(a).mean())


def smoothed(values: list[float]) -> Array:
    """Running mean, shorter by its width."""
    return np.convolve(values, np.ones(SMOOTHING) / SMOOTHING, "valid")


def report_quietly(result: dict[str, object], out: Path) -> None:
    """Writes the JSON, curves included, without printing them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result) + "\n")


def draw(runs: dict[str, Curves], file: Path) -> None:
    """A panel for each loss, a line for each run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(runs["float32"])
    columns = -(-len(names) // 2)
    figure = Figure(figsize=(3.2 * columns, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, columns, squeeze=False).flat
    colours = {"float32": "black", "float32, other noise": "0.65", "bfloat16": "tab:red"}
    for name, panel in zip(names, panels, strict=False):
        for run, own in runs.items():
            panel.plot(smoothed(own[name]), color=colours[run], linewidth=1.2, label=run)
        panel.set_title(name, fontsize=9)
        panel.tick_params(labelsize=7)
        if name == "loss/reconstruction":
            panel.set_yscale("log")
    for panel in list(figure.axes)[len(names) :]:
        panel.axis("off")
    figure.axes[0].legend(fontsize=7)
    figure.supxlabel("update", fontsize=9)
    with atomic_path(file) as aside:
        figure.savefig(aside, dpi=110, format="png")


if __name__ == "__main__":
    main(tyro.cli(LossesConfig))
