"""Training that goes on from another model: its world model, all of it, or what fits another body."""

from __future__ import annotations

import sys
from dataclasses import replace

from genrl.behavior.general import GeneralPolicy
from genrl.infra.errors import UserError
from genrl.models.foundation import FoundationModel
from genrl.run.prompting import load_model


def adopt(model: FoundationModel, start: str | None, world_model: str | None) -> GeneralPolicy | None:
    """Copies what `--start` or `--world-model` names into a model.

    Args:
        model: Takes the weights.
        start: All of this model is taken.
        world_model: Otherwise the world model of this one.

    Returns:
        The general policy that comes along with `start`, if it has one.

    Raises:
        UserError: If it was made for something else, or has other sizes.
    """
    if start is None and world_model is None:
        return None
    option = f"--start {start}" if start else f"--world-model {world_model}"
    loaded = load_model(start or str(world_model))
    _adopt_world_model(model, loaded.model, option)
    if start is None:
        return None
    theirs, ours = loaded.model, model
    if (theirs.config.connector, theirs.config.aligner, theirs.spec.embed_dim) != (
        ours.config.connector,
        ours.config.aligner,
        ours.spec.embed_dim,
    ):
        raise UserError(f"{option} has another connector, aligner or length of embeddings; use --world-model")
    model.connector.load_state_dict(theirs.connector.state_dict())
    model.aligner.load_state_dict(theirs.aligner.state_dict())
    return loaded.general


def _adopt_world_model(model: FoundationModel, source: FoundationModel, option: str) -> None:
    own = model.spec
    source.check_spec("--data", domain=own.domain, look=own.look, camera=own.camera, action_dim=own.action_dim)
    theirs, ours = source.config.world_model, model.config.world_model
    if not theirs.rssm.ensemble:  # A fresh ensemble is as good as any before its training.
        ours = replace(ours, rssm=replace(ours.rssm, ensemble=0))
    # No size: the weights fit, and the latent stage teaches the dynamics to read another code.
    ours = replace(ours, rssm=replace(ours.rssm, code=theirs.rssm.code))
    if theirs != ours:
        raise UserError(f"{option} has other sizes or losses than --model.world-model; choose its preset")
    model.world_model.load_state_dict(model.world_model.state_dict() | source.world_model.state_dict())


def transfer(model: FoundationModel, name: str) -> int:
    """Copies every tensor of another model that has the same name and shape, whatever body that one was made for.

    Returns:
        Weights copied.

    Raises:
        UserError: If none fits.
    """
    own, theirs = model.state_dict(), load_model(name).model.state_dict()
    fitting = {key: value for key, value in theirs.items() if key in own and own[key].shape == value.shape}
    copied = sum(value.numel() for value in fitting.values())
    if not copied:
        raise UserError(f"--transfer {name} has no tensor of the sizes of --model; choose its preset")
    model.load_state_dict(own | fitting)
    print(f"--transfer {name}: {copied:,} of {sum(value.numel() for value in own.values()):,} weights", file=sys.stderr)
    return copied
