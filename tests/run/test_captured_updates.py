"""Whole updates, compiled and captured: the same numbers as one operation after another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genrl.behavior.actor_critic import ActorCritic, ActorCriticConfig
from genrl.behavior.general import GeneralLearner, GeneralPolicy
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.stacked import StackedLearner
from genrl.behavior.start_states import StartConfig, data_free_starts
from genrl.infra.captured import WARM_UP, Captured, Compilation, Compiled
from genrl.models.latents import LatentBatch
from genrl.models.learner import FoundationLearner, FoundationLearnerConfig, FrameLearner, LatentLearner
from tests.models.tiny import tiny_batch, tiny_model
from tests.recorded_graph import recorded_graphs  # noqa: F401

SMALL = ActorCriticConfig(num_layers=1, hidden_dim=8, horizon=6, target_update_every=2)
STARTS = StartConfig(num_starts=8)
UPDATES = WARM_UP + 4
Update = Callable[[int], dict[str, Tensor]]


def joint(compilation: Compilation) -> tuple[nn.Module, Update]:
    learner = FoundationLearner(tiny_model(), FoundationLearnerConfig(compile=compilation))
    # The rate falls while the graph stays.
    return learner.model, lambda number: learner.update(tiny_batch(), 1.0 if number < UPDATES - 2 else 0.1)


def frame(compilation: Compilation) -> tuple[nn.Module, Update]:
    learner = FrameLearner(tiny_model(), FoundationLearnerConfig(compile=compilation))
    return learner.model, lambda number: learner.update_frames(tiny_batch().frames, 1.0, fixed_code=number % 2 == 0)


def latent(compilation: Compilation) -> tuple[nn.Module, Update]:
    learner = LatentLearner(tiny_model(), FoundationLearnerConfig(compile=compilation))

    def update(number: int) -> dict[str, Tensor]:
        batch = tiny_batch()
        latents = LatentBatch(torch.randn(2, 8, 3, 4), batch.action, batch.is_first, batch.embedding)
        return learner.update_latents(latents)

    return learner.model, update


def behavior(compilation: Compilation) -> tuple[nn.Module, Update]:
    model = tiny_model()
    config = BehaviorConfig(SMALL, window=3, average=0.9, compile=compilation)
    learner = BehaviorLearner(model, model.target(goals(1), SMALL.horizon + 1, align=True), config)
    draw = Captured(
        lambda: data_free_starts(model, learner.actor_critic.actor, STARTS), model.device, wanted=learner.captures
    )
    return learner.actor_critic, lambda number: learner.update(draw())


def stacked(compilation: Compilation) -> tuple[nn.Module, Update]:
    model = tiny_model()
    config = BehaviorConfig(SMALL, window=3, compile=compilation)
    networks = [ActorCritic(SMALL, model.config.world_model.rssm.feature_dim, 3) for _ in range(2)]
    learner = StackedLearner(model, model.target(goals(2), SMALL.horizon + 1, align=True), config, networks)
    draw = Captured(
        lambda: data_free_starts(model, learner.actor_critic.actor, STARTS, 2), model.device, wanted=learner.captures
    )
    return learner.actor_critic, lambda number: learner.update(draw())


def general(compilation: Compilation) -> tuple[nn.Module, Update]:
    model = tiny_model()
    policy = GeneralPolicy.for_model(model, SMALL)
    learner = GeneralLearner(model, policy, BehaviorConfig(SMALL, window=3, compile=compilation))

    def update(number: int) -> dict[str, Tensor]:
        actor = policy.actor(goals(STARTS.num_starts // 2))
        # As practice has them: the last of each window, which do not lie side by side.
        towards = goals(STARTS.num_starts)[:, None].expand(-1, 2, -1).contiguous()[:, -1]
        return learner.update_towards(data_free_starts(model, actor, STARTS), towards)

    return policy, update


KINDS = [joint, frame, latent, behavior, stacked, general]


def goals(count: int) -> Tensor:
    return F.normalize(torch.randn(count, 10), dim=-1)


def run(kind: Callable[[Compilation], tuple[nn.Module, Update]], compilation: Compilation, updates: int):
    """What was trained, and the metrics of all updates."""
    torch.manual_seed(0)
    trained, update = kind(compilation)
    metrics = []
    for number in range(updates):
        torch.manual_seed(number)
        metrics.append(update(number))
    return trained, metrics


def assert_same(ours, theirs, **tolerance: float) -> None:
    for own, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(own, other, **tolerance)
    torch.testing.assert_close(dict(ours[0].state_dict()), dict(theirs[0].state_dict()), **tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_replayed_updates_give_the_same_numbers(kind, recorded_graphs: list[None], monkeypatch) -> None:  # noqa: F811
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    # Two kinds of updates by frames: each is captured once.
    count = 2 * UPDATES if kind is frame else UPDATES
    captured_run = run(kind, "on", count)
    assert len(recorded_graphs) == (2 if kind in (frame, behavior, stacked) else 1)
    assert_same(run(kind, "off", count), captured_run, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_compiler_takes_an_update_whole_and_changes_no_number(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the code generator, which takes a minute.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, fullgraph=True, backend="aot_eager"))
    assert_same(run(kind, "on", 3), run(kind, "off", 3), rtol=1e-5, atol=1e-7)


def test_without_a_graph_nothing_is_captured(recorded_graphs: list[None]) -> None:  # noqa: F811
    assert_same(run(behavior, "off", UPDATES), run(behavior, "no-graph", UPDATES), rtol=0, atol=0)
    assert not recorded_graphs


def test_what_is_float32_under_autocast_has_float32_gradients_from_the_compiler_too() -> None:
    def cube(x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return (x @ x @ x).sum()

    x = torch.randn(32, 32, requires_grad=True)
    (exact,) = torch.autograd.grad(cube(x), x)
    compiled = Compiled(partial(cube), wanted=True)
    compiled.compiled = torch.compile(cube, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = compiled(x)
    torch.testing.assert_close(torch.autograd.grad(value, x)[0], exact)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [joint, behavior])
def test_generated_code_gives_the_same_numbers(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config, "fallback_random", True)
    assert_same(run(kind, "on", 4), run(kind, "off", 4), rtol=1e-3, atol=1e-3)


class _NoHost(TorchDispatchMode):
    """No operation on memory of the host."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # The optimiser's kernel alone has no version without memory.
        results = None if "fused_adam" in str(function) else function(*args, **kwargs)
        found = [x for x in tree_leaves((args, kwargs, results)) if isinstance(x, Tensor)]
        assert all(x.device.type == "meta" for x in found), f"{function} touches the host"
        return results


class _NoCopies(TorchFunctionMode):
    """No tensor is made of the host's numbers."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function not in (torch.tensor, torch.as_tensor, torch.from_numpy), f"{function} copies from the host"
        return function(*args, **(kwargs or {}))


@pytest.fixture
def only_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets updates run on the device `meta`, which has no memory: whoever asks it for a number fails."""
    monkeypatch.setattr(sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda *args, **kwargs: None)
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())


def test_an_update_asks_the_device_for_nothing_and_copies_nothing_to_it(only_shapes: None) -> None:
    learner, batch = FoundationLearner(tiny_model().to("meta"), FoundationLearnerConfig()), tiny_batch().to("meta")
    model = tiny_model().to("meta")
    target = model.target(torch.empty(1, 10, device="meta"), SMALL.horizon + 1, align=True)
    policies = BehaviorLearner(model, target, BehaviorConfig(SMALL, window=3))
    with _NoHost(), _NoCopies():
        assert {value.device.type for value in learner._work(batch).values()} == {"meta"}
        starts = data_free_starts(model, policies.actor_critic.actor, STARTS)
        assert {value.device.type for value in policies._work(starts).values()} == {"meta"}
