"""Functions of tensors that run again and again: compiled, and on a GPU replayed as one captured graph.

An update launches hundreds of small kernels; from Python each costs more than it runs. A CUDA graph holds all of them
and starts with one call. What a captured function does must depend on its inputs and on memory alone: Python runs once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Compilation = Literal["auto", "on", "off"]
"""auto: on GPUs; on: on CPUs too, where it takes minutes and gains little; off: one operation after another."""
WARM_UP = 3
"""Calls of each kind before the capture: they compile, choose algorithms, and make the optimiser's moments."""

Replay = Callable[[], None]


def compiles(device: torch.device, compilation: Compilation) -> bool:
    """Whether functions are to be compiled there."""
    return compilation == "on" or (compilation == "auto" and device.type == "cuda")


def tell(what: str, error: Exception) -> None:
    """One line for the user, who goes on without."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    print(f"{what} is not possible here and left out, which is slower: {reason}", file=sys.stderr)


class Compiled:
    """A function through `torch.compile`, or as it is where that fails, which is said once.

    Args:
        function: Of tensors, and of what holds them.
        wanted: Compile at all.
    """

    def __init__(self, function: Callable[..., Any], wanted: bool) -> None:
        self.function = function
        self.compiled = torch.compile(function, dynamic=False) if wanted else None

    def __call__(self, *inputs: Any) -> Any:
        """What the function gives."""
        if self.compiled is None:
            return self.function(*inputs)
        try:
            return self.compiled(*inputs)
        except Exception as error:
            if not _is_compilers(error):
                raise
            tell("compiling", error)
            self.compiled = None
            return self.function(*inputs)


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
        self._calls: dict[object, int] = {}
        self._programs: dict[object, tuple[list[Tensor], Any, Replay]] = {}

    def __call__(self, *inputs: Any) -> Any:
        """What the function gives."""
        if not self.captures:
            return self.function(*inputs)
        kind = _kind(inputs)
        if kind not in self._programs:
            self._calls[kind] = self._calls.get(kind, 0) + 1
            if self._calls[kind] <= WARM_UP:
                return warm_up(self.function, inputs)
            try:
                self._programs[kind] = self._capture(inputs)
            except RuntimeError as error:
                tell("capturing an update as one graph", error)
                self.captures = False
                self._clean()
                return self.function(*inputs)
        places, results, replay = self._programs[kind]
        if places:
            torch._foreach_copy_(places, list(_tensors(inputs)))
        replay()
        # The next replay writes to the same memory.
        return _rebuilt(results, (x.clone() for x in _tensors(results)))

    def _capture(self, inputs: tuple[Any, ...]) -> tuple[list[Tensor], Any, Replay]:
        """Places of the inputs, results, and what fills these from those."""
        places = [x.detach().clone(memory_format=torch.preserve_format) for x in _tensors(inputs)]
        held = _rebuilt(inputs, iter(places))
        results, replay = capture(lambda: self.function(*held))
        return places, results, replay


def can_capture(device: torch.device) -> bool:
    """Whether there are graphs."""
    return device.type == "cuda"


def warm_up(function: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """A call on a stream of its own, as those before a capture must be."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results = function(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    return results


def capture(function: Callable[[], Any]) -> tuple[Any, Replay]:
    """The results' memory, and what fills it anew."""
    graph = torch.cuda.CUDAGraph()
    # Other threads, which read ahead, may allocate meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        results = function()
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
