"""Doubles the units of a model's dynamics without changing what the model computes: more room to go on learning in.

    python recipes/widen_model.py --model stickman-mini --out wider

Every unit becomes two alike whose outgoing weights share the former one's, unevenly, so that they part when training
goes on: with `genrl practice`, or before it in the latent stage, which wants to be told the sizes (here of a mini one):

    genrl pretrain mini --start wider --data DATA --joint.updates 0 --model.world-model.rssm.deter-dim 512
        --model.world-model.rssm.hidden-dim 512 --model.connector.units 256

The connector keeps its size, the general policy reads both halves.
Source: Net2WiderNet, arXiv 1511.05641, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn

from genrl.behavior.general import GeneralPolicy
from genrl.infra.checkpoint import load_checkpoint
from genrl.models.foundation import FoundationModel
from genrl.models.sequence_model import SequenceModel
from genrl.run.prompting import GENERAL, model_directory


@dataclass(frozen=True)
class WidenConfig:
    """What to widen."""

    model: str = "stickman-mini"
    out: Path = Path("wider")
    unevenness: float = 0.5
    """Standard deviation of what one half has more than the other, in those of the weights."""
    seed: int = 0


def main(config: WidenConfig) -> None:
    """Writes OUT."""
    torch.manual_seed(config.seed)
    directory = model_directory(config.model)
    model, facts = FoundationModel.load(directory), load_checkpoint(directory)[1]
    wider = widened(model, config.unevenness)
    wider.save(config.out, updates=facts.get("updates", {}), measured=facts.get("measured", {}))
    if (directory / GENERAL).is_dir():
        widened_policy(GeneralPolicy.load(directory / GENERAL, model), model, wider, config.unevenness).save(
            config.out / GENERAL
        )
    print(f"{config.out}: {wider.config.world_model.rssm.deter_dim} units")


def widened(model: FoundationModel, unevenness: float) -> FoundationModel:
    """The model with twice the units in GRU and layers of its dynamics."""
    config, rssm = model.config, model.config.world_model.rssm
    if rssm.ensemble or config.world_model.reward_head:
        raise ValueError("models with an ensemble or a reward head are not widened; both read the recurrent state")
    if rssm.deter_dim != rssm.hidden_dim and config.connector.units is None:
        raise ValueError("the connector of a model with deter-dim unlike hidden-dim cannot keep its size")
    wide = replace(rssm, deter_dim=2 * rssm.deter_dim, hidden_dim=2 * rssm.hidden_dim)
    connector = replace(config.connector, units=config.connector.units or rssm.deter_dim)
    wider = FoundationModel(
        replace(config, world_model=replace(config.world_model, rssm=wide), connector=connector), model.spec
    )
    own = model.state_dict()
    widen_dynamics(model.world_model.rssm.dynamics, wider.world_model.rssm.dynamics, unevenness)
    widen_head(model.world_model.rssm.posterior_head, wider.world_model.rssm.posterior_head, unevenness)
    parts = ("world_model.encoder.", "world_model.decoder.", "connector.", "aligner.")
    kept = {name: value for name, value in own.items() if name.startswith(parts)}
    wider.load_state_dict(wider.state_dict() | kept)
    return wider


@torch.no_grad()
def widen_dynamics(source: SequenceModel, target: SequenceModel, unevenness: float) -> None:
    """Copies a sequence model into one of twice its units."""
    widen_layers(source.input, target.input)
    hidden = source.cell.input_dim
    weight = source.cell.gates.weight
    columns = [split(part, unevenness) for part in (weight[:, :hidden], weight[:, hidden:])]
    target.cell.gates.weight.copy_(twice_each_gate(torch.cat(columns, dim=1)))
    target.cell.norm.weight.copy_(twice_each_gate(source.cell.norm.weight))
    target.cell.norm.bias.copy_(twice_each_gate(source.cell.norm.bias))
    widen_head(source.head, target.head, unevenness)


@torch.no_grad()
def widen_head(source: nn.Module, target: nn.Module, unevenness: float) -> None:
    """Copies a head into one of twice its width; of its inputs too, where the target has twice as many."""
    widen_layers(source.hidden, target.hidden, unevenness)
    target.output.weight.copy_(split(source.output.weight, unevenness))
    target.output.bias.copy_(source.output.bias)


@torch.no_grad()
def widen_layers(source: nn.Module, target: nn.Module, unevenness: float = 0.0) -> None:
    """Copies a linear layer and its norm, every output twice."""
    for name, value in source.state_dict().items():
        wide = target.state_dict()[name]
        if value.ndim == 2 and wide.shape[1] != value.shape[1]:
            value = split(value, unevenness)
        wide.copy_(torch.cat([value, value]))


@torch.no_grad()
def widened_policy(
    policy: GeneralPolicy, model: FoundationModel, wider: FoundationModel, unevenness: float
) -> GeneralPolicy:
    """The general policy over the wider model's features: (S*K code, D units, E goal)."""
    wide = GeneralPolicy.for_model(wider, policy.config)
    tensors = policy.networks.state_dict()
    code = model.config.world_model.rssm.stoch_dim
    units = slice(code, code + model.config.world_model.rssm.deter_dim)
    for name in (name for name in tensors if name.endswith("hidden.0.weight")):
        weight = tensors[name]
        tensors[name] = torch.cat(
            [weight[:, : units.start], split(weight[:, units], unevenness), weight[:, units.stop :]], dim=1
        )
    wide.networks.load_state_dict(tensors)
    return wide


def split(weight: Tensor, unevenness: float) -> Tensor:
    """(O, I) -> (O, 2I) whose halves add up to the weight."""
    more = unevenness * weight.std() * torch.randn_like(weight)
    return torch.cat([weight / 2 + more, weight / 2 - more], dim=1)


def twice_each_gate(x: Tensor) -> Tensor:
    """(3D, ...) of a GRU's three gates -> (6D, ...)."""
    return torch.cat([torch.cat([gate, gate]) for gate in x.chunk(3)])


if __name__ == "__main__":
    main(tyro.cli(WidenConfig))
