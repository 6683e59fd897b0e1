"""Captured functions: what is replayed is what would have been called."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from genrl.infra import captured
from genrl.infra.captured import WARM_UP, Captured, Compiled
from tests.recorded_graph import recorded_graphs  # noqa: F401

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Pair:
    left: Tensor
    right: Tensor | None = None


def test_a_replay_reads_its_inputs_and_memory_anew_but_not_python(recorded_graphs: list[None]) -> None:  # noqa: F811
    total, called = torch.zeros(2), []

    def add(pair: Pair, sign: int) -> dict[str, Tensor]:
        called.append(sign)
        total.add_(sign * pair.left)
        return {"total": total.clone(), "noise": torch.rand(2)}

    function, results, drawn = Captured(add, CPU), [], []
    torch.manual_seed(0)
    for number in range(WARM_UP + 3):
        results.append(function(Pair(torch.full((2,), float(number))), 1))
    torch.manual_seed(0)
    drawn = [torch.rand(2) for _ in results]
    # 0 + 1 + ... of the inputs, though Python ran no more often than to warm up and to capture.
    assert [result["total"][0].item() for result in results] == [0, 1, 3, 6, 10, 15]
    assert all(result["noise"].equal(noise) for result, noise in zip(results, drawn, strict=True))
    assert called == [1] * (WARM_UP + 1) and len(recorded_graphs) == 1


def test_other_shapes_structures_and_plain_values_have_graphs_of_their_own(recorded_graphs: list[None]) -> None:  # noqa: F811
    function = Captured(lambda pair, sign: sign * pair.left.sum(), CPU)
    for _ in range(WARM_UP + 2):
        assert function(Pair(torch.ones(2)), 1) == 2
        assert function(Pair(torch.ones(3)), 1) == 3
        assert function(Pair(torch.ones(2)), -1) == -2
        assert function(Pair(torch.ones(2), torch.ones(1)), 1) == 2
    assert len(recorded_graphs) == 4


def test_where_capturing_fails_the_function_is_called_which_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recorded_graphs: list[None],  # noqa: F811
) -> None:
    def refuse(function):
        raise RuntimeError("operation not permitted\nwith many lines more")

    monkeypatch.setattr(captured, "capture", refuse)
    cleaned = []
    function = Captured(lambda x: 2 * x, CPU, clean=lambda: cleaned.append(True))
    assert [function(torch.tensor(i)).item() for i in range(6)] == [0, 2, 4, 6, 8, 10]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "capturing an update" in said and "operation not permitted" in said
    assert cleaned == [True]


def test_inputs_that_do_not_lie_side_by_side_are_seen_alike_by_every_call(recorded_graphs: list[None]) -> None:  # noqa: F811
    seen = []

    def double(x: Tensor) -> Tensor:
        seen.append(x.stride())
        return 2 * x

    function = Captured(double, CPU)
    for number in range(WARM_UP + 2):
        rows = torch.full((4, 3, 2), float(number))[:, -1]
        assert function(rows).equal(2 * rows)
    # What is compiled in the first call is what is captured.
    assert seen == [(2, 1)] * (WARM_UP + 1)


def test_nothing_is_captured_on_a_cpu_or_where_it_is_not_wanted() -> None:
    assert not Captured(lambda: 1, CPU).captures
    assert not Captured(lambda: 1, torch.device("cuda"), wanted=False).captures


def test_where_the_compiler_fails_the_function_is_called_which_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(function, **options):
        def call(*inputs):
            raise torch._dynamo.exc.TorchDynamoException("no compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    function = Compiled(lambda x: x + 1, wanted=True)
    assert function(1) == 2 and function(2) == 3
    assert capsys.readouterr().err.count("no compiler") == 1


def test_an_error_of_the_function_itself_is_not_taken_for_the_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)

    def wrong(x):
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        Compiled(wrong, wanted=True)(1)
