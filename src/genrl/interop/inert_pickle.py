"""Reads a pickle as data: whatever it names, or asks to be called, becomes an inert stand-in.

Python's unpickler is not used at all. This is a small machine for the language of pickles that can make plain values
(numbers, texts, lists, dicts ...) and stand-ins, and nothing else: it imports nothing, calls nothing that a file names,
sets no attribute. Names outside the packages it is told of are refused even so.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from genrl.infra.errors import UserError

BUILTINS = (
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "getattr", "int", "list", "long"),
    *("object", "range", "set", "slice", "str", "tuple", "unicode", "xrange"),
)
"""Built-in names that data need; protocol 2 spells their module `__builtin__`."""
ENCODE = "_codecs.encode"
"""The one other name that data need: protocol 2 has no bytes, and asks for a text to be encoded instead."""

SCALARS = (str, bytes, bool, int, float, type(None))


class InertPickleError(ValueError):
    """A pickle that is damaged, or that wants what data do not need."""


class RefusedNamesError(InertPickleError):
    """A pickle that names what it has no business with.

    Attributes:
        names: All such names, `module.name`, in the order of their appearance.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(f"it names {', '.join(names)}")
        self.names = list(names)


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; nobody has looked it up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class StandIn:
    """What a pickle asked to be made of a class, or to be given by a function; nothing was called.

    Attributes:
        name: The class or function.
        args: Arguments.
        state: What its attributes were to be.
        elements: What was to be appended.
        items: What was to be set by key.
    """

    name: Name
    args: tuple[Any, ...] = ()
    state: Any = None
    elements: list[Any] = field(default_factory=list)
    items: dict[Any, Any] = field(default_factory=dict)

    def attribute(self, name: str) -> Any:
        """An attribute by name, None where the state has none."""
        return self.state.get(name) if isinstance(self.state, dict) else None


Constructor = Callable[..., Any]


def read_pickle(
    data: bytes,
    packages: Collection[str],
    constructors: Mapping[str, Constructor] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value a pickle describes, of plain values and stand-ins.

    Args:
        data: The pickle, of any protocol.
        packages: Top-level packages whose names become stand-ins.
        constructors: Functions of ours in the place of some names, `module.name`. They get what the file says, so they
            are to check it; a ValueError or TypeError of theirs is a complaint about the file.
        persistent: Gives the value of a persistent id, in the same way; without it there may be none.

    Raises:
        RefusedNamesError: If it names anything else; lists all of it.
        InertPickleError: If it is damaged, or wants what data do not need.
    """
    machine = _Machine(packages, {**CONTAINERS, **(constructors or {})}, persistent)
    try:
        value = machine.run(data)
    except (ValueError, TypeError, LookupError) as error:
        if machine.refused:
            raise RefusedNamesError(machine.refused) from error
        if isinstance(error, InertPickleError | UserError):
            raise
        # What an empty stack, the decoders of pickletools and constructors say to what cannot be.
        raise InertPickleError(f"the pickle is damaged ({error})") from error
    if machine.refused:
        raise RefusedNamesError(machine.refused)
    return value


class _Machine:
    """Stack and memo of one pickle."""

    def __init__(
        self,
        packages: Collection[str],
        constructors: Mapping[str, Constructor],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        self.packages, self.constructors, self.persistent = packages, constructors, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.refused: dict[str, None] = {}

    def run(self, data: bytes) -> Any:
        """Every instruction in turn; the value that stands on the stack at the end."""
        for opcode, argument, _ in pickletools.genops(data):
            self.do(opcode.name, argument)
        return self.stack.pop()

    def do(self, opcode: str, argument: Any) -> None:
        """One instruction; `argument` is what follows it in the file, decoded."""
        stack = self.stack
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_SET":
                stack.append(set())
            case "MARK":
                self.marks.append(len(stack))
            case "LIST":
                stack.append(self.since_mark())
            case "TUPLE":
                stack.append(tuple(self.since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.stack[-int(opcode[-1]) :] = [tuple(self.last(int(opcode[-1])))]
            case "DICT":
                stack.append({})
                self.set_items(stack[-1], self.since_mark(above=1))
            case "FROZENSET":
                stack.append(frozenset(map(key, self.since_mark())))
            case "APPEND":
                self.append(stack[-2], [stack.pop()])
            case "APPENDS" | "ADDITEMS":
                values = self.since_mark()
                self.append(stack[-1], values)
            case "SETITEM":
                value, name = stack.pop(), stack.pop()
                self.set_items(stack[-1], [name, value])
            case "SETITEMS":
                values = self.since_mark()
                self.set_items(stack[-1], values)
            case "POP":
                if self.marks and self.marks[-1] == len(stack):
                    self.marks.pop()
                else:
                    stack.pop()
            case "POP_MARK":
                self.since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GLOBAL":
                stack.append(self.name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(self.name(module, name))
            case "REDUCE" | "NEWOBJ":
                args, called = stack.pop(), stack.pop()
                stack.append(self.make(called, args))
            case "NEWOBJ_EX":
                keywords, args, called = stack.pop(), stack.pop(), stack.pop()
                stack.append(self.make(called, (*args, keywords)))
            case "INST":
                stack.append(self.make(self.name(*argument.split(" ", 1)), tuple(self.since_mark())))
            case "OBJ":
                called, *args = self.since_mark()
                stack.append(self.make(called, tuple(args)))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], StandIn):
                    stack[-1].state = state
                elif not isinstance(stack[-1], dict):  # An ordered dict's own attributes are let go.
                    raise InertPickleError(f"it gives attributes to a {type(stack[-1]).__name__}")
            case "PERSID" | "BINPERSID":
                if self.persistent is None:
                    raise InertPickleError("it refers to something outside itself")
                stack.append(self.persistent(argument if opcode == "PERSID" else stack.pop()))
            case "EXT1" | "EXT2" | "EXT4" | "NEXT_BUFFER" | "READONLY_BUFFER":
                raise InertPickleError(f"it uses the instruction {opcode}, which data do not need")
            case _:
                # All that is left are numbers, texts and bytes.
                assert isinstance(argument, (*SCALARS, bytearray)), opcode
                stack.append(argument)

    def since_mark(self, above: int = 0) -> list[Any]:
        """Takes what was put on the stack since the last mark, but for the `above` topmost values."""
        mark, end = self.marks.pop(), len(self.stack) - above
        values = self.stack[mark:end]
        del self.stack[mark:end]
        return values

    def last(self, count: int) -> list[Any]:
        """The topmost values."""
        if len(self.stack) < count:
            raise InertPickleError("the pickle is damaged (values are missing)")
        return self.stack[-count:]

    def name(self, module: Any, name: Any) -> Name:
        """A name, noted down where it is none that data need."""
        if type(module) is not str or type(name) is not str:
            raise InertPickleError("the pickle is damaged (a name is no text)")
        if not all(part.isidentifier() for part in f"{module}.{name}".split(".")):  # It may come to be printed.
            raise InertPickleError("the pickle is damaged (a name has characters that names have not)")
        module = "builtins" if module == "__builtin__" else module
        found = Name(module, name)
        plain = name in BUILTINS if module == "builtins" else str(found) == ENCODE
        if not plain and module.split(".")[0] not in self.packages:
            self.refused[str(found)] = None
        return found

    def make(self, called: Any, args: Any) -> Any:
        """What comes of calling a name."""
        if not isinstance(called, Name) or not isinstance(args, tuple):
            raise InertPickleError(f"it calls a {type(called).__name__}")
        constructor = self.constructors.get(str(called))
        return StandIn(called, args) if constructor is None else constructor(*args)

    @staticmethod
    def append(container: Any, values: list[Any]) -> None:
        """To a list, a set or a stand-in."""
        if isinstance(container, set):
            container.update(map(key, values))
        elif isinstance(container, list | StandIn):
            (container if isinstance(container, list) else container.elements).extend(values)
        else:
            raise InertPickleError(f"it appends to a {type(container).__name__}")

    @staticmethod
    def set_items(container: Any, values: list[Any]) -> None:
        """Keys and values in turn, to a dict or a stand-in."""
        if not isinstance(container, dict | StandIn):
            raise InertPickleError(f"it sets items of a {type(container).__name__}")
        items = container if isinstance(container, dict) else container.items
        for name, value in zip(values[::2], values[1::2], strict=True):
            items[key(name)] = value


def key(value: Any) -> Any:
    """The value, if it may be a key: Python hashes nested tuples by recursion, which a file could use to crash it."""
    if isinstance(value, (list, dict, set, bytearray)):
        raise InertPickleError(f"it has a {type(value).__name__} as a key")
    if isinstance(value, tuple) and not all(isinstance(part, SCALARS) for part in value):
        raise InertPickleError("it has a tuple of other things than numbers and texts as a key")
    return value


def _make_dict(pairs: Any = ()) -> dict[Any, Any]:
    return {key(name): value for name, value in pairs}


def _make_default_dict(factory: Any = None, pairs: Any = ()) -> dict[Any, Any]:
    return _make_dict(pairs)


def _make_set(values: Any = ()) -> set[Any]:
    return set(map(key, values))


CONTAINERS: dict[str, Constructor] = {
    "collections.OrderedDict": _make_dict,
    "collections.defaultdict": _make_default_dict,
    "builtins.dict": _make_dict,
    "builtins.set": _make_set,
    "builtins.frozenset": _make_set,
}
"""Containers that are made for what they are."""
