"""Where each parameter of the original GenRL stands in our modules."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

NUM_CONVOLUTIONS = 4


def model_parameter_names(reward_head_layers: int) -> dict[str, str]:
    """Original name under `wm.` -> name in `FoundationModel`.

    Args:
        reward_head_layers: Hidden layers of the reward head, 0 for a model without one.
    """
    names: dict[str, str] = {}
    for index in range(NUM_CONVOLUTIONS):
        # Original: convolution, norm, activation in one list; the decoder's last has neither norm nor activation.
        for ours, original in (("encoder", "encoder"), ("decoder", "heads.decoder")):
            _add(names, f"wm.{original}._conv_model.{3 * index}", f"world_model.{ours}.layers.{3 * index}")
            if ours == "encoder" or index < NUM_CONVOLUTIONS - 1:
                norm = 3 * index + 1
                _add(names, f"wm.{original}._conv_model.{norm}.norm", f"world_model.{ours}.layers.{norm}")
    _add(names, "wm.heads.decoder._conv_in.0", "world_model.decoder.input")
    if reward_head_layers:
        names |= mlp_names("wm.heads.reward", "world_model.reward_head", reward_head_layers)
        _add(names, "wm.heads.reward._out._out", "world_model.reward_head.output")
    _add_sequence_model(names, "wm.rssm", "world_model.rssm.dynamics")
    _add(names, "wm.rssm._obs_out.0", "world_model.rssm.posterior_head.hidden.0")
    _add(names, "wm.rssm._obs_out.1._layer", "world_model.rssm.posterior_head.hidden.1")
    _add(names, "wm.rssm._obs_dist", "world_model.rssm.posterior_head.output")
    _add_sequence_model(names, "wm.connector", "connector.dynamics")
    for index, layer in ((0, "0"), (1, "1._layer"), (3, "3"), (4, "4._layer"), (6, "6")):
        _add(names, f"wm.connector.initial_state_pred.{layer}", f"connector.initial_deter.{index}")
    for stage, ours in (("down", "down"), ("mid", "middle"), ("up", "up")):
        for index in (0, 1):
            original = f"wm.connector.aligner.{stage}.{index}"
            _add(names, f"{original}.layer", f"aligner.{ours}.{index}.linear")
            _add(names, f"{original}.norm_layer._layer", f"aligner.{ours}.{index}.norm")
            _add(names, f"{original}.res_proj", f"aligner.{ours}.{index}.skip")
    return names


def mlp_names(original: str, ours: str, num_layers: int) -> dict[str, str]:
    """Hidden layers of an original MLP -> those of ours; outputs differ between heads."""
    names: dict[str, str] = {}
    for index in range(num_layers):
        _add(names, f"{original}.dense{index}", f"{ours}.hidden.{3 * index}")
        _add(names, f"{original}.norm{index}._layer", f"{ours}.hidden.{3 * index + 1}")
    return names


def critic_names(original: str, ours: str, num_layers: int) -> dict[str, str]:
    """Parameters of a critic."""
    names = mlp_names(original, ours, num_layers)
    _add(names, f"{original}._out._out", f"{ours}.output")
    return names


def split_actor_output(name: str, value: Tensor) -> dict[str, Tensor]:
    """Our actor's output layer as the original's two: mean, then standard deviation. `name` is weight or bias."""
    mean, std = value.chunk(2)
    return {f"_out._out.{name}": mean, f"_out._std.{name}": std}


def join_actor_output(mean: Tensor, std: Tensor) -> Tensor:
    """The original's two output layers as our one."""
    return torch.cat([mean, std])


def rename(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors that have a new name, under it."""
    return {names[name]: value for name, value in tensors.items() if name in names}


def _add(names: dict[str, str], original: str, ours: str) -> None:
    for parameter in ("weight", "bias"):
        names[f"{original}.{parameter}"] = f"{ours}.{parameter}"


def _add_sequence_model(names: dict[str, str], original: str, ours: str) -> None:
    names[f"{original}._cell._layer.weight"] = f"{ours}.cell.gates.weight"
    _add(names, f"{original}._cell._norm", f"{ours}.cell.norm")
    _add(names, f"{original}._img_in.0", f"{ours}.input.0")
    _add(names, f"{original}._img_in.1._layer", f"{ours}.input.1")
    _add(names, f"{original}._ensemble_img_out.0.0", f"{ours}.head.hidden.0")
    _add(names, f"{original}._ensemble_img_out.0.1._layer", f"{ours}.head.hidden.1")
    _add(names, f"{original}._ensemble_img_dist.0", f"{ours}.head.output")
