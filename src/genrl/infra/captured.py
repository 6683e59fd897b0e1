"""Functions of tensors that run again and again: compiled, and on a GPU replayed as one captured graph.

An update launches hundreds of small kernels; from Python each costs more than it runs. A CUDA graph holds all of them
and starts with one call. What a captured function does must depend on its inputs and on memory alone: Python runs once.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from genrl.infra.errors import UserError, first_line

Compilation = Literal["auto", "on", "no-graph", "off"]
"""auto: on GPUs; on: on CPUs too, where it takes minutes and gains little; no-graph: compiled as auto, but launched
kernel by kernel; off: one operation after another."""
WARM_UP = 3
"""Calls of each kind before the capture: they compile, choose algorithms, and make the optimiser's moments."""

RECOMPILE_LIMIT = 64

Replay = Callable[[], None]


def compiles(device: torch.device, compilation: Compilation) -> bool:
    """Whether functions are to be compiled there."""
    return compilation == "on" or (compilation in ("auto", "no-graph") and device.type == "cuda")


def captures(compilation: Compilation) -> bool:
    """Whether whole updates are to be captured, where there are graphs."""
    return compilation in ("auto", "on")


def tell(what: str, error: Exception) -> None:
    """One line for the user, who goes on without."""
    print(f"{what} is not possible here and left out, which is slower: {first_line(error)}", file=sys.stderr)


class Compiled:
    """A function through `torch.compile`, or as it is where that fails, which is said once.

    Args:
        function: Of tensors, and of what holds them.
        wanted: Compile at all.
    """

    def __init__(self, function: Callable[..., Any], wanted: bool) -> None:
        self.function = function
        self.compiled = compile_function(function) if wanted else None

    def __call__(self, *inputs: Any) -> Any:
        """What the function gives."""
        if self.compiled is None:
            return self.function(*inputs)
        try:
            with torch._functorch.config.patch(BACKWARD):
                return self.compiled(*inputs)
        except Exception as error:
            if not _is_compilers(error):
                raise
            tell("compiling", error)
            self.compiled = None
            return self.function(*inputs)


BACKWARD = {
    # With the forward pass, so that it fails here where it fails.
    "force_non_lazy_backward_lowering": True,
    # As without a compiler: what is in float32 forwards is in float32 backwards.
    "backward_pass_autocast": "off",
}


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile` for inputs of several shapes (numbers of prompts), each compiled on its own."""
    import torch._dynamo.config
    import torch._functorch.config

    # Beyond its limit of shapes the compiler gives up without a word.
    torch._dynamo.config.recompile_limit = max(RECOMPILE_LIMIT, torch._dynamo.config.recompile_limit)
    return torch.compile(function, dynamic=False)


def _is_compilers(error: Exception) -> bool:
    """Whether the compiler failed, not what it compiled."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton"))


class Captured:
    """A function that is captured after a few calls with inputs of the same shapes, and then replayed.

    Elsewhere than on a GPU it is called as it is.

    Args:
        function: Of tensors, and of dataclasses, tuples and dicts of them; other inputs choose among several graphs.
            Its results are such a structure too. It works in place on whatever else it changes.
        device: Where the tensors are.
        clean: Called after a capture that failed, to drop what it left half made (gradients).
        wanted: Capture at all.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        device: torch.device,
        clean: Callable[[], None] = lambda: None,
        wanted: bool = True,
    ) -> None:
        self.function, self.device, self._clean = function, device, clean
        self.captures = wanted and can_capture(device)
        self._programs: dict[object, _Program] = {}

    def __call__(self, *inputs: Any) -> Any:
        """What the function gives.

        Raises:
            UserError: If a capture failed so that torch can not go on in this process.
        """
        if not self.captures:
            return self.function(*inputs)
        kind = _kind(inputs)
        if kind not in self._programs:
            self._programs[kind] = _Program(inputs)
        program = self._programs[kind]
        program.fill(inputs)
        if program.replay is None:
            if program.calls < WARM_UP:
                program.calls += 1
                return warm_up(lambda: self.function(*program.inputs))
            try:
                program.results, program.replay = capture(lambda: self.function(*program.inputs))
            except RuntimeError as error:
                tell("capturing an update as one graph", error)
                self.captures = False
                self._programs.clear()
                self._clean()
                return self.function(*inputs)
        program.replay()
        # The next replay writes to the same memory.
        return _rebuilt(program.results, (x.clone() for x in _tensors(program.results)))


class _Program:
    """A graph of one kind of inputs, with the memory that it reads them from.

    The calls before the capture read them from there too: strides and alignment are what is compiled for.
    """

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self._places = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in _tensors(inputs)]
        self.inputs: tuple[Any, ...] = _rebuilt(inputs, iter(self._places))
        self.calls = 0
        self.results: Any = None
        self.replay: Replay | None = None

    def fill(self, inputs: tuple[Any, ...]) -> None:
        """Copies the values of a call."""
        if self._places:
            torch._foreach_copy_(self._places, list(_tensors(inputs)))


def can_capture(device: torch.device) -> bool:
    """Whether there are graphs."""
    return device.type == "cuda"


@cache
def _stream_and_pool() -> tuple[torch.cuda.Stream, Any]:
    """Shared by all: replays follow one another, and what one needs beyond its end it keeps."""
    return torch.cuda.Stream(), torch.cuda.graph_pool_handle()


def warm_up(function: Callable[[], Any]) -> Any:
    """A call on a stream of its own, as those before a capture must be."""
    stream, _ = _stream_and_pool()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results = function()
    torch.cuda.current_stream().wait_stream(stream)
    return results


def capture(function: Callable[[], Any]) -> tuple[Any, Replay]:
    """The results' memory, and what fills it anew.

    Raises:
        UserError: If the capture could not even be ended: torch's random numbers are of no use then.
    """
    # Learners that are gone, and their graphs, wait for the collector.
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    stream, pool = _stream_and_pool()
    with torch.cuda.stream(stream):
        # Other threads, which read ahead, may allocate meanwhile.
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            results = function()
        except Exception as error:
            try:
                graph.capture_end()
            except RuntimeError:
                raise UserError(
                    f"an update could not be captured as one CUDA graph ({first_line(error)}); the same command with "
                    "--behavior.compile no-graph (of pretraining --joint.learner.compile no-graph, or that of the "
                    "stage) goes on"
                ) from error
            raise
        graph.capture_end()
    return results, graph.replay


def _kind(tree: Any) -> object:
    """What a graph is made for: structure, shapes and kinds of the tensors, values of all else."""
    if isinstance(tree, Tensor):
        return tree.shape, tree.dtype
    if _has_parts(tree):
        return type(tree), tuple((key, _kind(value)) for key, value in _items(tree))
    return tree


def _has_parts(tree: Any) -> bool:
    return isinstance(tree, tuple | dict) or (is_dataclass(tree) and not isinstance(tree, type))


def _items(tree: Any) -> list[tuple[Any, Any]]:
    if isinstance(tree, dict):
        return list(tree.items())
    if isinstance(tree, tuple):
        return list(enumerate(tree))
    return [(field.name, getattr(tree, field.name)) for field in fields(tree)]


def _tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors of a structure, in its order."""
    if isinstance(tree, Tensor):
        yield tree
    elif _has_parts(tree):
        for _, value in _items(tree):
            yield from _tensors(value)


def _rebuilt(tree: Any, tensors: Iterator[Tensor]) -> Any:
    """The same structure with other tensors."""
    if isinstance(tree, Tensor):
        return next(tensors)
    if isinstance(tree, tuple):
        return tuple(_rebuilt(value, tensors) for value in tree)
    if isinstance(tree, dict):
        return {key: _rebuilt(value, tensors) for key, value in tree.items()}
    if _has_parts(tree):
        return type(tree)(**{key: _rebuilt(value, tensors) for key, value in _items(tree)})
    return tree
