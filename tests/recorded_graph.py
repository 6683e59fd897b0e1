"""A stand-in for CUDA graphs on a CPU: it keeps a function's operations with the memory they used, and runs them again.

As with a graph, Python runs once: what a function took from Python stays as it was, what it took from memory is read
anew. Unlike a graph's capture, recording runs the operations too; `record` puts back whatever they changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from genrl.infra import captured


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple, dict, list[Tensor]]] = []
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        known = {x.untyped_storage().data_ptr() for x, _ in self.before}
        changed = function._schema.is_mutable
        # Only what existed before the recording needs to be put back; to copy all that is changed is simplest.
        if changed:
            for x in given:
                if x.untyped_storage().data_ptr() not in known:
                    self.before.append((x.detach(), x.detach().clone()))
        results = function(*args, **kwargs)
        places = {x.untyped_storage().data_ptr() for x in given}
        # Views, and what is changed in place, lie in memory that other operations fill.
        fresh = [x for x in _tensors(results) if x.untyped_storage().data_ptr() not in places]
        if fresh or changed:
            # Aliases, whose shapes stay when an operation later changes those of the tensors.
            args, kwargs, fresh = tree_map_only(Tensor, Tensor.detach, (args, kwargs, fresh))
            self.operations.append((function, args, kwargs, fresh))
        return results


def record(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
    """As `captured.capture`."""
    state = torch.get_rng_state()
    with _Recorder() as recorder:
        results = function()
    for place, value in reversed(recorder.before):
        place.copy_(value)
    torch.set_rng_state(state)

    def replay() -> None:
        with torch.no_grad():
            for function, args, kwargs, places in recorder.operations:
                again = function(*args, **kwargs)
                if places:
                    given = {x.untyped_storage().data_ptr() for x in _tensors((args, kwargs))}
                    fresh = [x for x in _tensors(again) if x.untyped_storage().data_ptr() not in given]
                    for place, value in zip(places, fresh, strict=True):
                        place.copy_(value)

    return results, replay


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@pytest.fixture
def recorded_graphs(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Functions are captured here too; one entry for each graph that was made."""
    made: list[None] = []

    def capture(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        made.append(None)
        return record(function)

    monkeypatch.setattr(captured, "can_capture", lambda device: True)
    monkeypatch.setattr(captured, "warm_up", lambda function: function())
    monkeypatch.setattr(captured, "capture", capture)
    return made
