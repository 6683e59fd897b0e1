"""Snapshots of the original become models of ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from genrl.infra.errors import UserError
from genrl.interop.inert_pickle import Name, StandIn
from genrl.interop.snapshot import Snapshot, StoredTensor, find_module, setting, state_tensors
from genrl.interop.snapshot_import import find_agent, import_model, left_out
from genrl.models.foundation import ModelSpec
from genrl.models.rssm import RssmConfig
from tests.interop.pickles import RELEASE, SNAPSHOT

BOUNDS = ((-1.0,) * 3, (1.0,) * 3)
SPEC = ModelSpec("stickman", "paper", "side", 3, 2, 0.025, *BOUNDS, False, "internvideo2", "imported", 24, 8)


@pytest.fixture
def snapshot() -> Iterator[Snapshot]:
    """A training snapshot, whose agent a test may change."""
    with Snapshot(SNAPSHOT) as opened:
        yield opened


def part(snapshot: Snapshot, path: str) -> StandIn:
    """A module of the agent."""
    module = find_module(snapshot.root["agent"], path)
    assert module is not None
    return module


def settings(snapshot: Snapshot) -> dict:
    """The agent's configuration."""
    return snapshot.root["agent"].state["cfg"].state["_content"]


@pytest.mark.parametrize("file", [SNAPSHOT, RELEASE], ids=["training", "bare"])
def test_both_forms_give_the_same_model(file: Path) -> None:
    with Snapshot(file) as snapshot:
        agent = find_agent(snapshot)
        model = import_model(snapshot, agent)
        assert (agent.task, agent.step) == ("stickman_walk", 2 if file == SNAPSHOT else None)
        assert left_out(snapshot, agent, model) == {"_acting_behavior": 33, "optimisers and caches": 331}
    assert model.spec == SPEC
    sizes = model.config.world_model
    assert sizes.rssm == RssmConfig(32, 32, num_variables=4, num_classes=6) and sizes.cnn_depth == 4
    assert (sizes.kl_scale, sizes.kl_balance, sizes.free_nats) == (0.6, 0.85, 1.0)
    assert (sizes.reward_head, sizes.reward_head_layers, sizes.reward_head_units) == (True, 2, 32)
    assert (model.config.connector.kl_scale, model.config.connector.unused_inputs) == (0.8, 8)
    assert model.config.aligner.noise == 0.5
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())


def test_what_torch_saves_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    numbers = torch.randn(4, 6)
    dtypes = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool)
    values = {
        "whole": numbers,
        "transposed": numbers.T,
        "part": numbers[1:3, ::2],
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 5),
        "repeated": torch.tensor([2.0]).expand(3),
        **{str(dtype): numbers.to(dtype) for dtype in dtypes},
    }
    torch.save(values, tmp_path / "values.pt")
    with Snapshot(tmp_path / "values.pt") as snapshot:
        stored: dict[str, StoredTensor] = snapshot.root
        assert stored["whole"].storage is stored["transposed"].storage is stored["part"].storage
        with pytest.raises(UserError, match="larger than its storage"):
            snapshot.read(stored.pop("repeated"))
        for name, tensor in stored.items():
            read = snapshot.read(tensor)
            assert read.dtype == values[name].dtype and read.equal(values[name]), name


def test_a_state_dict_has_what_torch_puts_into_it(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False), torch.nn.BatchNorm1d(3), torch.nn.Flatten())
    module.register_buffer("passing", torch.ones(1), persistent=False)
    torch.save(module, tmp_path / "module.pt")
    with Snapshot(tmp_path / "module.pt") as snapshot:
        tensors = {name: snapshot.read(tensor) for name, tensor in state_tensors(snapshot.root).items()}
    expected = module.state_dict()
    assert list(tensors) == list(expected)
    assert all(tensors[name].equal(value) for name, value in expected.items())


def test_parts_of_a_trained_behaviour_are_left_out_by_name(snapshot: Snapshot) -> None:
    agent = snapshot.root["agent"]
    agent.state["_modules"]["_imag_behavior"] = part(snapshot, "_acting_behavior")
    heads = part(snapshot, "wm.heads").state["_modules"]
    heads["discount"] = heads["reward"]
    found = find_agent(snapshot)
    left = left_out(snapshot, found, import_model(snapshot, found))
    assert left == {"wm.heads.discount": 10, "_acting_behavior": 33, "_imag_behavior": 33, "optimisers and caches": 331}


def test_a_model_without_reward_head_is_a_model_without_reward_head(snapshot: Snapshot) -> None:
    del part(snapshot, "wm.heads").state["_modules"]["reward"]
    model = import_model(snapshot, find_agent(snapshot))
    assert model.world_model.reward_head is None


def test_the_domain_comes_from_the_task_or_the_option(snapshot: Snapshot) -> None:
    settings(snapshot)["task"].state["_val"] = "kitchen_microwave"
    agent = find_agent(snapshot)
    spec = import_model(snapshot, agent).spec
    assert (spec.domain, spec.camera, spec.action_repeat, spec.control_timestep) == ("kitchen", "free", 2, 0.08)
    spec = import_model(snapshot, agent, domain="quadruped").spec
    assert (spec.domain, spec.camera, spec.control_timestep) == ("quadruped", "y", 0.02)
    with pytest.raises(UserError, match="unknown --domain 'stckman'; did you mean 'stickman'"):
        import_model(snapshot, agent, domain="stckman")
    settings(snapshot)["task"].state["_val"] = "minecraft_dig"
    assert import_model(snapshot, find_agent(snapshot)).spec.domain == "unknown"


def test_a_snapshot_without_configuration_gets_what_the_released_code_has(snapshot: Snapshot) -> None:
    snapshot.root["agent"].state["cfg"] = None
    agent = find_agent(snapshot)
    model = import_model(snapshot, agent)
    assert agent.task is None and model.spec == dataclasses.replace(SPEC, domain="unknown", camera="")
    assert model.config.world_model.kl_scale == 0.6


def test_settings_are_found_by_their_path(snapshot: Snapshot) -> None:
    configuration = snapshot.root["agent"].state["cfg"]
    assert setting(configuration, "rssm.discrete") == 6 and setting(configuration, "viclip_model") == "internvideo2"
    assert setting(configuration, "rssm.discreet") is None and setting(configuration, "task.walk") is None
    assert setting(None, "rssm") is None and setting(StandIn(Name("x", "y")), "rssm") is None


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("wm.connector", "rescale_embeds", False),
        ("wm.connector", "temporal_embeds", True),
        ("wm.connector", "denoising_ae", False),
        ("wm.rssm", "single_obs_posterior", False),
        ("wm.rssm._cell", "_update_bias", 0),
    ],
)
def test_a_variant_that_computes_something_else_is_refused(
    snapshot: Snapshot, path: str, name: str, value: object
) -> None:
    part(snapshot, path).state[name] = value
    with pytest.raises(UserError, match=f"{path} was made with {name} = {value}; only the released variant"):
        import_model(snapshot, find_agent(snapshot))
    del part(snapshot, path).state[name]  # As in a file from before there was the choice.
    import_model(snapshot, find_agent(snapshot))


def test_missing_unknown_and_ill_fitting_parameters_are_named(snapshot: Snapshot) -> None:
    aligner = part(snapshot, "wm.connector.aligner.down").state["_modules"]
    aligner["2"] = aligner["1"]
    parameters = part(snapshot, "wm.rssm._obs_dist").state["_parameters"]
    parameters["bias"] = parameters["weight"]
    del part(snapshot, "wm.encoder._conv_model.3").state["_parameters"]["weight"]
    with pytest.raises(UserError) as error:
        import_model(snapshot, find_agent(snapshot))
    said = str(error.value)
    assert "wm.encoder._conv_model.3.weight is missing" in said
    assert "wm.rssm._obs_dist.bias has shape (24, 32), not (24,)" in said
    assert "wm.connector.aligner.down.2.norm_layer._layer.weight is unknown and 5 more" in said


@pytest.mark.parametrize(
    ("path", "name", "value", "said"),
    [
        ("wm.rssm", "_stoch", 5, "24 logits for 5 variables"),
        ("wm.rssm", "_stoch", -4, "24 logits for -4 variables"),
        ("wm.connector", "clip_lafite_noise", 3, "noise must lie in"),
    ],
)
def test_sizes_and_settings_that_do_not_fit_are_named(
    snapshot: Snapshot, path: str, name: str, value: object, said: str
) -> None:
    part(snapshot, path).state[name] = value
    with pytest.raises(UserError, match=said):
        import_model(snapshot, find_agent(snapshot))


def test_an_agent_without_connector_is_refused(snapshot: Snapshot) -> None:
    del part(snapshot, "wm").state["_modules"]["connector"]
    with pytest.raises(UserError, match=r"has no wm\.connector\._img_in"):
        import_model(snapshot, find_agent(snapshot))


def test_numbers_that_are_not_finite_are_refused(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Snapshot.read
    monkeypatch.setattr(Snapshot, "read", lambda self, tensor: read(self, tensor) / 0)
    with pytest.raises(UserError, match=r"holds NaN or infinity; use a snapshot of an earlier step"):
        import_model(snapshot, find_agent(snapshot))


@pytest.mark.parametrize("value", [{"agent": {}}, {"model": 1}, [1], {"agent": torch.ones(1)}, torch.nn.Linear(1, 1)])
def test_other_things_that_torch_saves_are_no_snapshot(value: object, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "other.pt")
    with Snapshot(tmp_path / "other.pt") as snapshot, pytest.raises(UserError, match="holds no agent with world model"):
        find_agent(snapshot)
