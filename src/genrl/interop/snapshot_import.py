"""The model in a snapshot of the original becomes ours: sizes from its tensors, the rest from its configuration."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

from genrl.infra.errors import UserError, did_you_mean
from genrl.infra.progress import ProgressReport
from genrl.interop.inert_pickle import SCALARS, StandIn
from genrl.interop.original import EMBEDDING
from genrl.interop.original_import import DOMAINS, FRAMES_PER_CLIP, IMPORTED_CHECKSUM
from genrl.interop.original_parameters import model_parameter_names
from genrl.interop.snapshot import MAX_NUMBER, Snapshot, StoredTensor, find_module, setting, state_tensors
from genrl.models.aligner import AlignerConfig
from genrl.models.connector import ConnectorConfig
from genrl.models.foundation import FoundationConfig, FoundationModel, ModelSpec
from genrl.models.rssm import RssmConfig
from genrl.models.world_model import WorldModelConfig

LOOK = "paper"
"""Look of the original's frames."""
UNKNOWN_DOMAIN = "unknown"
UNKNOWN_CLOCK = ("", 2, 0.025)
"""Camera, action repeat and control step that are assumed where the domain is none of `DOMAINS`."""

FIXED: dict[str, dict[str, Any]] = {
    "wm.encoder": {"_norm": "layer", "_symlog_inputs": False},
    "wm.rssm": {"_norm": "layer", "_cell_type": "gru", "cell_input": "stoch", "single_obs_posterior": True},
    "wm.rssm._cell": {"_update_bias": -1},
    "wm.connector": {
        "_norm": "layer",
        "_cell_type": "gru",
        "cell_input": "stoch",
        "temporal_embeds": False,
        "rescale_embeds": True,
        "denoising_ae": True,
        "learn_initial": True,
    },
    "wm.connector._cell": {"_update_bias": -1},
}
"""Variants of the original's modules: the released ones, which are all that ours can be."""

MISMATCHES_SHOWN = 3


@dataclass(frozen=True)
class Agent:
    """What a snapshot holds.

    Attributes:
        module: The agent.
        tensors: Its parameters and buffers, by the names of the original's state dict.
        task: Task of its training, where its configuration says so.
        step: Environment step of the training, where the snapshot says so.
    """

    module: StandIn
    tensors: dict[str, StoredTensor]
    task: str | None
    step: int | None


def find_agent(snapshot: Snapshot) -> Agent:
    """The agent, bare or in the dict of a training snapshot.

    Raises:
        UserError: If the file holds something else.
    """
    root = snapshot.root
    module = root.get("agent") if isinstance(root, dict) else root
    if not isinstance(module, StandIn) or find_module(module, "wm") is None:
        kind = f"a {module.name}" if isinstance(module, StandIn) else "something else"
        raise UserError(f"{snapshot.file} holds no agent with world model, but {kind}; name a snapshot of the original")
    step = root.get("_global_step") if isinstance(root, dict) else None
    task = setting(module.attribute("cfg"), "task")
    return Agent(
        module,
        state_tensors(module),
        task=task if isinstance(task, str) and task.isprintable() else None,
        step=step if type(step) is int and 0 <= step < MAX_NUMBER else None,
    )


def import_model(snapshot: Snapshot, agent: Agent, domain: str | None = None) -> FoundationModel:
    """World model, connector and aligner of an agent, under a progress bar.

    Args:
        snapshot: The file.
        agent: What is in it.
        domain: Body it was trained for, where the snapshot does not say so, or not rightly.

    Raises:
        UserError: If the agent is a variant that ours cannot be, or `domain` is unknown.
    """
    _check_variant(snapshot, agent)
    try:
        config, spec = _model_config(agent), _model_spec(agent, domain)
    except UserError:
        raise
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise UserError(f"{snapshot.file}: the agent's sizes or settings do not fit together ({error})") from error
    sources = _sources(snapshot, agent, config, spec)
    model = FoundationModel(config, spec)
    state = {}
    with ProgressReport(len(sources), description="import", unit="tensor") as progress:
        for number, (name, tensor) in enumerate(sources.items(), start=1):
            state[name] = snapshot.read(tensor).float()
            if not state[name].isfinite().all():
                raise UserError(f"{snapshot.file}: {name} holds NaN or infinity; use a snapshot of an earlier step")
            progress.advance(number)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def left_out(snapshot: Snapshot, agent: Agent, model: FoundationModel) -> dict[str, int]:
    """Parts of a snapshot that its import leaves, with the number of their tensors."""
    names = _original_names(model.config)
    parts = Counter(_part(name) for name in agent.tensors if name not in names)
    idle = set(snapshot.storages.values()) - {tensor.storage for tensor in agent.tensors.values()}
    return dict(parts) | ({"optimisers and caches": len(idle)} if idle else {})


def known_domain(task: str | None) -> str | None:
    """Body of a task, if it is one of the original's."""
    domain = (task or "").split("_")[0]
    return domain if domain in DOMAINS else None


def _original_names(config: FoundationConfig) -> dict[str, str]:
    """Original name -> ours, of every parameter that a model may have."""
    head = config.world_model
    return model_parameter_names(head.reward_head_layers if head.reward_head else 0)


def _part(name: str) -> str:
    """`wm.heads.discount` of `wm.heads.discount._out.weight`, `_acting_behavior` of what is in it."""
    parts = name.split(".")
    return ".".join(parts[:3] if parts[:2] == ["wm", "heads"] else parts[:1])


def _shape(agent: Agent, name: str, axes: int) -> tuple[int, ...]:
    if name not in agent.tensors:
        raise UserError(f"the snapshot's agent has no {name}; name one of the original with world model and connector")
    tensor = agent.tensors[name]
    if len(tensor.shape) != axes or not 0 < tensor.size <= tensor.storage.size:
        raise ValueError(f"{name} has shape {tensor.shape}")
    return tensor.shape


def _attribute(agent: Agent, path: str, name: str) -> Any:
    module = find_module(agent.module, path)
    return None if module is None else module.attribute(name)


def _check_variant(snapshot: Snapshot, agent: Agent) -> None:
    """Settings that change what a module computes; those that a file does not mention were not yet there."""
    for path, expected in FIXED.items():
        for name, value in expected.items():
            found = _attribute(agent, path, name)
            if found is not None and found != value:
                shown = repr(found) if isinstance(found, SCALARS) else f"a {type(found).__name__}"
                raise UserError(
                    f"{snapshot.file}: {path} was made with {name} = {shown}; only the released variant, {value!r}, "
                    "can be imported"
                )


def _model_config(agent: Agent) -> FoundationConfig:
    """Sizes from the tensors' shapes; loss weights from the configuration, for whoever trains on."""
    settings = agent.module.attribute("cfg")
    gates, gate_inputs = _shape(agent, "wm.rssm._cell._layer.weight", 2)
    logits, _ = _shape(agent, "wm.rssm._ensemble_img_dist.0.weight", 2)
    variables = _attribute(agent, "wm.rssm", "_stoch") or setting(settings, "rssm.stoch")
    if type(variables) is not int or variables < 1 or logits % variables:
        raise ValueError(f"{logits} logits for {variables} variables")
    rssm = RssmConfig(gates // 3, gate_inputs - gates // 3, variables, logits // variables)
    head_layers = sum(name.startswith("wm.heads.reward.dense") for name in agent.tensors) // 2
    head: dict[str, Any] = {}
    if head_layers:
        units = _shape(agent, "wm.heads.reward.dense0.weight", 2)[0]
        head = {"reward_head": True, "reward_head_layers": head_layers, "reward_head_units": units}
    world_model = WorldModelConfig(
        rssm=rssm,
        cnn_depth=_shape(agent, "wm.encoder._conv_model.0.weight", 4)[0],
        kl_scale=_number(setting(settings, "loss_scales.kl"), WorldModelConfig.kl_scale),
        kl_balance=_number(setting(settings, "kl.balance"), WorldModelConfig.kl_balance),
        free_nats=_number(setting(settings, "kl.free"), WorldModelConfig.free_nats),
        **head,
    )
    inputs = _shape(agent, "wm.connector._img_in.0.weight", 2)[1]
    connector_kl = _attribute(agent, "wm.connector", "connector_kl")
    connector = ConnectorConfig(
        kl_scale=_number(setting(connector_kl, "balance"), ConnectorConfig.kl_scale),
        unused_inputs=inputs - rssm.stoch_dim - _embed_dim(agent),
    )
    noise = _number(_attribute(agent, "wm.connector", "clip_lafite_noise"), AlignerConfig.noise)
    if connector.unused_inputs < 0 or rssm.hidden_dim < 1:
        raise ValueError(f"inputs of {inputs}, gates of {gates} and {gate_inputs}")
    return FoundationConfig(world_model, connector, AlignerConfig(noise))


def _model_spec(agent: Agent, domain: str | None) -> ModelSpec:
    """What the model was made for, from configuration and shapes."""
    if domain is not None and domain not in DOMAINS:
        raise UserError(f"unknown --domain {domain!r}; {did_you_mean(domain, DOMAINS)}")
    settings = agent.module.attribute("cfg")
    domain = domain or known_domain(agent.task) or UNKNOWN_DOMAIN
    camera, action_repeat, control_timestep = DOMAINS.get(domain, UNKNOWN_CLOCK)
    stoch_dim = _shape(agent, "wm.rssm._ensemble_img_dist.0.weight", 2)[0]
    action_dim = _shape(agent, "wm.rssm._img_in.0.weight", 2)[1] - stoch_dim
    if action_dim < 1:
        raise ValueError(f"actions of {action_dim} numbers")
    vlm = setting(settings, "viclip_model")
    frames_per_clip = _attribute(agent, "wm.connector", "n_frames")
    return ModelSpec(
        domain=domain,
        look=LOOK,
        camera=camera,
        action_dim=action_dim,
        action_repeat=_count(setting(settings, "action_repeat"), action_repeat),
        control_timestep=control_timestep,
        action_low=(-1.0,) * action_dim,
        action_high=(1.0,) * action_dim,
        discrete=setting(settings, "actor.dist") == "onehot",
        vlm=vlm if isinstance(vlm, str) and vlm.isidentifier() else EMBEDDING,
        vlm_checksum=IMPORTED_CHECKSUM,
        embed_dim=_embed_dim(agent),
        frames_per_clip=_count(frames_per_clip, FRAMES_PER_CLIP),
    )


def _embed_dim(agent: Agent) -> int:
    return _shape(agent, "wm.connector.aligner.down.0.layer.weight", 2)[1]


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


def _count(value: Any, default: int) -> int:
    return value if type(value) is int and value > 0 else default


def _sources(snapshot: Snapshot, agent: Agent, config: FoundationConfig, spec: ModelSpec) -> dict[str, StoredTensor]:
    """Name of a parameter of ours -> the original's tensor; every one is there, fits, and none is left of the model."""
    names = _original_names(config)
    # Shapes without memory: what a file claims is checked before anything of that size is made.
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in FoundationModel(config, spec).state_dict().items()}
    sources = {names[name]: tensor for name, tensor in agent.tensors.items() if names.get(name) in wanted}
    faults = [f"{name} is missing" for name, ours in names.items() if ours in wanted and ours not in sources]
    faults += [
        f"{name} has shape {sources[ours].shape}, not {wanted[ours]}"
        for name, ours in names.items()
        if ours in sources and sources[ours].shape != wanted[ours]
    ]
    faults += [
        f"{name} is unknown"
        for name in agent.tensors
        if name.startswith("wm.") and not name.startswith("wm.heads.") and names.get(name) not in sources
    ]
    if faults:
        more = f" and {len(faults) - MISMATCHES_SHOWN} more" if len(faults) > MISMATCHES_SHOWN else ""
        raise UserError(
            f"{snapshot.file}: the agent is another variant than the released one, which alone can be imported: "
            f"{'; '.join(faults[:MISMATCHES_SHOWN])}{more}"
        )
    num_bytes = sum(tensor.size * tensor.storage.dtype.itemsize for tensor in sources.values())
    if num_bytes > snapshot.num_bytes:
        raise UserError(f"{snapshot.file}: its model is larger than the file; several parameters share their numbers")
    return sources
