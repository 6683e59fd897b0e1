"""`genrl prompt rank`: which wording does a model understand best?"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from rich.table import Table

from genrl.infra.checkpoint import atomic_write, check_file
from genrl.infra.compute import DeviceName, pick_device
from genrl.infra.errors import UserError
from genrl.infra.progress import table_console
from genrl.run.prompting import NOTHING_TO_COMPARE, Prompt, load_model
from genrl.vlm.prompt_embedding import BASELINE_STRENGTH


@dataclass(frozen=True)
class PromptRankConfig:
    """Order wordings of a prompt by how well the model's picture of each fits it; needs no environment.

    The z-score decides: cosines of different texts are not comparable, since some lie near to everything. It says by
    how many standard deviations the picture fits its text better than the pictures of 40 other prompts do.
    """

    prompt: tyro.conf.Positional[tuple[str, ...]] = ()
    """Wordings, each in quotes."""
    model: str = "walker-mini"
    """Shipped model, or a directory made by `genrl pretrain`."""
    vlm: str | None = None
    """Where the model's VLM is, if not where it was in training: NAME=WHERE, the directory of a trained mini VLM, or
    package:Class (`genrl vlm list`)."""
    ensemble: bool = False
    """Rank the mean of all wordings, too."""
    baseline_prompt: str | None = None
    """Text of what is there anyway; every wording is ranked with and without what it has in common with it."""
    baseline_strength: float = BASELINE_STRENGTH
    """How much of that is taken out, from 0 to 1."""
    out: Path | None = None
    """JSON file for the numbers."""
    device: DeviceName = "auto"


@dataclass(frozen=True)
class RankedPrompt:
    """A wording and how well the model's picture fits it; see `Groundability`."""

    prompt: str
    cosine: float
    z_score: float


def prompt_rank(config: PromptRankConfig) -> list[RankedPrompt]:
    """Prints the table, best first, and returns its rows.

    Raises:
        UserError: If there is no wording, or the model, its VLM or OUT cannot be used.
    """
    if config.out is not None:
        check_file(config.out)
    if not config.prompt:
        raise UserError("no wordings: give some in quotes, for example genrl prompt rank 'kneeling' 'on its knees'")
    if config.ensemble and len(config.prompt) < 2:
        raise UserError("--ensemble needs at least two wordings")
    model = load_model(config.model, pick_device(config.device), config.vlm)
    prompts = [model.prompt(text) for text in dict.fromkeys(config.prompt)]
    if config.ensemble:
        prompts.append(Prompt.mean(prompts))
    if config.baseline_prompt is not None:
        baseline = model.prompt(config.baseline_prompt)
        prompts += [prompt.against(baseline, config.baseline_strength) for prompt in prompts]
    ranked = []
    for prompt in prompts:
        fit = model.groundability(prompt)
        if not fit.has_z:
            raise UserError(f"there is no order: {NOTHING_TO_COMPARE}")
        ranked.append(RankedPrompt(prompt.label, fit.cosine, fit.z_score))
    ranked.sort(key=lambda row: -row.z_score)
    table = Table("rank", "prompt", "cosine", "z-score")
    for rank, row in enumerate(ranked, start=1):
        table.add_row(str(rank), row.prompt, f"{row.cosine:.3f}", f"{row.z_score:+.2f}")
    table_console().print(table)
    if config.out is not None:
        numbers = {"model": config.model, "prompts": [asdict(row) for row in ranked]}
        atomic_write(config.out, json.dumps(numbers, indent=2) + "\n")
    return ranked
