"""The library in five lines: `genrl.load`, `genrl.learn`, `genrl.evaluate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrl.infra.compute import pick_device

if TYPE_CHECKING:
    from genrl.behavior.policy import Policy
    from genrl.run.evaluate import EvaluationResult
    from genrl.run.prompting import PromptedModel


SEVERAL = ("data", "video", "text_embedding", "video_embedding")
"""Options of `learn` that may be given several times; the first two are paths."""


def load(model: str | Path = "walker-mini", device: str = "auto", vlm: str | None = None) -> PromptedModel:
    """A shipped model by name, or one that `genrl pretrain` wrote.

    Args:
        model: Name or directory.
        device: auto, cpu or cuda.
        vlm: Where the model's VLM is, if not where it was in training, as `--vlm` takes it.

    Raises:
        UserError: If there is none.
    """
    from genrl.run.prompting import load_model

    return load_model(model, pick_device(device), vlm)


def learn(
    model: PromptedModel | str | Path, prompt: str | Sequence[str], preset: str = "mini", **options: Any
) -> Policy:
    """Learns a policy for a prompt in imagination, as `genrl learn` does.

    Args:
        model: What `load` gave, or what it takes.
        prompt: Text that describes the behaviour, or several wordings of it, whose mean embedding is the target.
        preset: Preset of `genrl learn`.
        **options: Options of `genrl learn` by their Python names, for instance `updates=1_000, seed=3, out="run"`,
            `baseline_prompt="a person"`.

    Returns:
        The policy, with `reset(seed)` and `act(frame)`; it is also on disk in the run directory.

    Raises:
        UserError: If the prompt or an option cannot be used.
    """
    from genrl.behavior.policy import Policy
    from genrl.infra.errors import UserError, did_you_mean
    from genrl.presets import PRESETS
    from genrl.run.learn import LearnConfig
    from genrl.run.learn import learn as run_learn

    known = {field.name for field in dataclasses.fields(LearnConfig)}
    for name in options:
        if name not in known:
            raise UserError(f"genrl.learn: unknown option {name!r}; {did_you_mean(name, known)}")
    if isinstance(model, str | Path):
        model_name = str(model)
    else:
        model_name, options = model.name, {"vlm": model.named_vlm, "device": model.device.type} | options
    if options.get("out") is not None:
        options["out"] = Path(options["out"])
    options = {name: value for name, value in options.items() if value is not None or name not in SEVERAL}
    # One of what there may be several of need not stand in a tuple.
    options |= {name: tuple(map(Path, _several(options[name]))) for name in SEVERAL[:2] if name in options}
    options |= {name: _several(options[name]) for name in SEVERAL[2:] if name in options}
    presets = PRESETS["learn"]
    if preset not in presets:
        raise UserError(f"genrl.learn: unknown preset {preset!r}; {did_you_mean(preset, presets)}")
    wordings = (prompt,) if isinstance(prompt, str) else tuple(prompt)
    if len(wordings) > 1:
        options = {"ensemble": True} | options
    config = dataclasses.replace(presets[preset], model=model_name, prompt=wordings, **options)
    return Policy.load(run_learn(config)[0].policy)


def evaluate(policy: Policy | str | Path, task: str, episodes: int = 10, seed: int = 0) -> EvaluationResult:
    """Runs a policy in the simulator and scores it with the task's true reward.

    Args:
        policy: What `learn` gave, or the directory of a policy.
        task: Name of the task, as `genrl tasks` lists it, or the id of another Gymnasium environment.
        episodes: Number of episodes.
        seed: Of the environment and of the policy's latent samples.

    Raises:
        UserError: If the task is unknown or not one the policy was made for.
    """
    from genrl.run.evaluate import evaluate_policy

    return evaluate_policy(policy, task, episodes, seed)


def _several(given: str | Path | Sequence[str | Path]) -> tuple[str | Path, ...]:
    return (given,) if isinstance(given, str | Path) else tuple(given)
