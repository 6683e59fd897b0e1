"""Snapshots that would run programs when they are loaded, and run none here; snapshots that would fill the memory."""

from __future__ import annotations

import ast
import contextlib
import copyreg
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from genrl.infra.errors import UserError
from genrl.interop import inert_pickle
from genrl.interop.inert_pickle import InertPickleError, Name, RefusedNamesError, StandIn, read_pickle
from genrl.interop.snapshot import Snapshot, state_tensors
from genrl.interop.snapshot_import import find_agent, import_model
from genrl.run.snapshot import SnapshotConfig, import_snapshot
from tests.interop.pickles import (
    FOLDER,
    RELEASE,
    SNAPSHOT,
    call,
    changed,
    infected,
    items,
    name,
    number,
    stack_name,
    text,
    whole,
)

PACKAGE = Path(__file__).parents[2] / "src" / "genrl"
Attack = Callable[[Path], bytes]
"""From the file that would show that it ran, to its instructions."""


def touch(mark: Path) -> bytes:
    return text(f"touch {mark}")


def python(mark: Path) -> bytes:
    return text(f"open({str(mark)!r}, 'w').close()")


def hub(mark: Path) -> bytes:
    """A directory as torch.hub runs it."""
    (mark.parent / "hubconf.py").write_text(f"def entry():\n    open({str(mark)!r}, 'w').close()\n")
    return call(name("torch.hub", "_load_local"), text(str(mark.parent)), text("entry"))


def nested(mark: Path) -> bytes:
    """Bytes that torch loads in turn, as a pickle of their own."""
    inner = whole(call(name("posix", "system"), touch(mark)), protocol=2)
    return call(name("torch.storage", "_load_from_bytes"), b"B" + struct.pack("<I", len(inner)) + inner)


def set_state(mark: Path) -> bytes:
    """An object whose attribute `__setstate__` is a function, which the second state is then handed to."""
    state = b"}" + text("__setstate__") + name("posix", "system") + b"s"
    return name("torch.nn.modules.linear", "Identity") + b")\x81" + state + b"b" + touch(mark) + b"b"


REFUSED: dict[str, Attack] = {
    "os.system by reduce": lambda mark: call(name("posix", "system"), touch(mark)),
    "os.system by the new instruction": lambda mark: call(stack_name("os", "system"), touch(mark)),
    "os.system by inst": lambda mark: b"(" + touch(mark) + b"iposix\nsystem\n",
    "os.system by obj": lambda mark: b"(" + name("posix", "system") + touch(mark) + b"o",
    "eval": lambda mark: call(name("builtins", "eval"), python(mark)),
    "exec under its old name": lambda mark: call(name("__builtin__", "exec"), python(mark)),
    "a class that runs programs": lambda mark: call(name("subprocess", "Popen"), items(text("touch"), text(str(mark)))),
    "import and getattr": lambda mark: call(
        call(name("builtins", "getattr"), call(name("builtins", "__import__"), text("os")), text("system")), touch(mark)
    ),
    "a module of a module": lambda mark: call(stack_name("pathlib", "os.system"), touch(mark)),
    "set state": set_state,
}
"""Attacks that name something outside the packages of a snapshot."""

INERT: dict[str, Attack] = {
    "a module of a module of torch": lambda mark: call(stack_name("torch.serialization", "os.system"), touch(mark)),
    "torch.hub": hub,
    "torch.load": nested,
    "torch.utils": lambda mark: call(name("torch.utils.collect_env", "run"), touch(mark)),
    "numpy.exec": lambda mark: call(name("numpy.testing._private.utils", "runstring"), python(mark), b"}"),
    "numpy.memmap": lambda mark: call(
        name("numpy", "memmap"), text(str(mark)), text("uint8"), text("w+"), number(0), items(number(1))
    ),
}
"""Attacks that keep to names of the packages of a snapshot."""


@pytest.mark.parametrize("attack", REFUSED)
def test_a_snapshot_that_names_anything_else_is_refused_by_name(attack: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    instructions = REFUSED[attack](mark)
    file = infected(tmp_path / "hostile.pt", instructions)
    with pytest.raises(UserError, match="names what no snapshot of the original needs: .*; nothing was run"):
        import_snapshot(SnapshotConfig(file, tmp_path / "model"))
    assert not mark.exists() and not (tmp_path / "model").exists()
    load_with_python(instructions)
    assert wait_for(mark)


@pytest.mark.parametrize("attack", INERT)
def test_functions_of_known_packages_are_not_called(attack: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    instructions = INERT[attack](mark)
    result = import_snapshot(SnapshotConfig(infected(tmp_path / "hostile.pt", instructions), tmp_path / "model"))
    assert result.agent.task == "stickman_walk"  # All the rest of it came through.
    assert not mark.exists()
    load_with_python(instructions)
    assert wait_for(mark)


def test_what_a_function_of_a_known_package_gives_is_not_called_either(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    found = call(name("builtins", "getattr"), name("torch.serialization", "os"), text("system"))
    with pytest.raises(UserError, match="it calls a StandIn"):
        Snapshot(infected(tmp_path / "hostile.pt", call(found, touch(mark))))
    assert not mark.exists()
    load_with_python(call(found, touch(mark)))
    assert wait_for(mark)


@pytest.mark.parametrize("source", [SNAPSHOT, RELEASE], ids=["training", "bare"])
def test_reading_asks_python_for_nothing_that_a_pickle_could_want(source: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from genrl.interop.snapshot import Snapshot
from genrl.interop.snapshot_import import find_agent, import_model
seen, watching = [], False
sys.addaudithook(lambda event, args: watching and seen.append((event, args[0] if args else None)))
for watching in (False, True):  # The first time torch imports what it needs.
    with Snapshot(Path({str(source)!r})) as snapshot:
        import_model(snapshot, find_agent(snapshot))
watching = False
print(seen)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    events = ast.literal_eval(done.stdout)
    assert {argument for event, argument in events if event == "open"} == {str(source)}
    assert {event for event, _ in events} <= {"open", "builtins.id"}


def test_an_extension_code_is_no_way_around_the_names(tmp_path: Path) -> None:
    copyreg.add_extension("posix", "system", 240)
    try:
        mark = tmp_path / "ran"
        instructions = call(b"\x82\xf0", touch(mark))
        with pytest.raises(InertPickleError, match="EXT1"):
            read_pickle(whole(instructions), ["torch"])
        assert not mark.exists()
        load_with_python(instructions)
        assert wait_for(mark)
    finally:
        copyreg.remove_extension("posix", "system", 240)


@pytest.mark.parametrize(
    "instructions",
    [
        name("torch", "Tensor") + b"}" + text("__init__") + name("torch", "load") + b"sb",
        name("torch._utils", "_rebuild_tensor_v2") + b"N}" + text("__defaults__") + b"Ns\x86b",
        name("collections", "OrderedDict") + b"N}" + text("update") + b"Ns\x86b",
        b"]" + b"}" + text("__class__") + name("torch", "Tensor") + b"sb",
        b")" + b"}b",
    ],
    ids=["class", "function of ours", "container of ours", "list", "tuple"],
)
def test_only_stand_ins_are_given_attributes(instructions: bytes) -> None:
    before = {key: dict(vars(value)) for key, value in vars(inert_pickle).items() if isinstance(value, type)}
    with pytest.raises(InertPickleError, match="gives attributes to a"):
        read_pickle(whole(instructions), ["torch", "collections"])
    after = {key: dict(vars(value)) for key, value in vars(inert_pickle).items() if isinstance(value, type)}
    assert after == before


def test_tricks_with_attributes_stay_in_the_state_of_a_stand_in() -> None:
    state = b"}(" + b"".join(text(key) + name("torch", "load") for key in ("__class__", "__dict__", "state")) + b"u"
    found = read_pickle(whole(name("torch", "Tensor") + b")\x81" + state + b"b"), ["torch"])
    assert type(found) is StandIn and found.name == Name("torch", "Tensor")
    assert set(found.state) == {"__class__", "__dict__", "state"} and found.attribute("name") is None
    assert found.attribute("__class__") == Name("torch", "load")


@pytest.mark.parametrize(
    ("instructions", "said"),
    [
        (call(call(name("torch", "load"), text("x")), text("y")), "calls a StandIn"),
        (name("torch", "load") + b"]R", "calls a Name"),
        (b"N)R", "calls a NoneType"),
        (b"Pposix.system\n", "refers to something outside itself"),
        (text("x") + b"Q", "refers to something outside itself"),
        (b"\x97", "NEXT_BUFFER"),
        (b"N" + text("x") + b"a", "appends to a NoneType"),
        (b"N" + text("x") + b"Ns", "sets items of a NoneType"),
        (b"}]Ns", "a list as a key"),
        (text("a") + b"N\x93", "a name is no text"),
        (stack_name("torch", "load\x1b[2J"), "characters that names have not"),
        (b"h\x05", "damaged"),
        (b"0", "damaged"),
        (b"t", "damaged"),
        (b"\x87", "damaged"),
        (b"}(Nu", "damaged"),
        (b"X\xff\xff\xff\x7fabc", "damaged"),
        (b"\xfe", "damaged"),
        (b"N", "damaged"),
    ],
)
def test_what_data_do_not_need_is_refused(instructions: bytes, said: str) -> None:
    pickle_bytes = whole(instructions) if instructions != b"N" else b"\x80\x04N"
    with pytest.raises(InertPickleError, match=said):
        read_pickle(pickle_bytes, ["torch"])


def test_all_names_that_are_refused_are_listed_even_where_the_pickle_fails_later() -> None:
    instructions = name("posix", "system") + stack_name("torchvision", "models") + name("torch", "load") + b"\x97"
    with pytest.raises(RefusedNamesError) as error:
        read_pickle(whole(instructions), ["torch"])
    assert error.value.names == ["posix.system", "torchvision.models"]


def test_every_kind_of_value_comes_through() -> None:
    values = [None, True, 3, 2**70, -1.5, "ü", b"b", bytearray(b"c"), (1,), [1, [2]], {"a": {1: 2}}, {1, 2}]
    assert read_pickle(pickle.dumps(values, 5), []) == values
    plain = [value for value in values if not isinstance(value, bytes | bytearray)]
    for protocol in range(5):  # The older ones have no bytes.
        assert read_pickle(pickle.dumps(plain, protocol), []) == plain
    assert read_pickle(pickle.dumps(frozenset({1}), 4), []) == {1}


def test_nested_keys_do_not_crash_the_interpreter() -> None:
    # Python hashes a tuple in a tuple by recursion without end.
    deep = b"}" + b")" + b"\x85" * 300_000 + b"Ns"
    with pytest.raises(InertPickleError, match="as a key"):
        read_pickle(whole(deep), [])


# -- tensors --------------------------------------------------------------------------------------------------------


def storage(key: str, kind: str = "FloatStorage", size: int = 192) -> bytes:
    return items(text("storage"), name("torch", kind), text(key), text("cpu"), number(size)) + b"Q"


def tensor(storage: bytes, offset: int = 0, shape: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,)) -> bytes:
    sizes = [items(*map(number, values)) for values in (shape, stride)]
    return call(name("torch._utils", "_rebuild_tensor_v2"), storage, number(offset), *sizes, b"\x89", b"}")


@pytest.mark.parametrize(
    ("instructions", "said"),
    [
        (tensor(storage("../../../../etc/passwd")), "lacks its part 'data/../../../../etc/passwd'"),
        (tensor(storage("/etc/passwd")), "lacks its part 'data//etc/passwd'"),
        (tensor(storage("../data.pkl", "ByteStorage", 120663)), "lacks its part"),
        (tensor(items(text("file"), text("/etc/passwd")) + b"Q"), "refers to something that is no storage"),
        (tensor(text("/etc/passwd") + b"Q"), "refers to something that is no storage"),
        (tensor(b"P/etc/passwd\n"), "refers to something that is no storage"),
        (tensor(storage("0", "QUInt8Storage")), "a kind not known here, torch.QUInt8Storage"),
        (tensor(storage("0", size=10**15)), "not as large as it says"),
        (tensor(storage("0", "DoubleStorage")), "not as large as it says"),
        (tensor(storage("0", size=-1)), "not as large as it says"),
        (tensor(storage("0")) + b"0" + tensor(storage("0", "IntStorage")), "described in two ways"),
        (tensor(storage("0"), shape=(193,)), "goes beyond its storage"),
        (tensor(storage("0"), offset=190), "goes beyond its storage"),
        (tensor(storage("0"), stride=(100,)), "goes beyond its storage"),
        (tensor(storage("0"), offset=-1), "of impossible shape"),
        (tensor(storage("0"), stride=(-1,)), "of impossible shape"),
        (tensor(storage("0"), shape=(0, 2**63), stride=(1, 1)), "of impossible shape"),
        (tensor(storage("0"), shape=(2, 2)), "without numbers"),
        (tensor(text("x")), "without numbers"),
        (call(name("torch._utils", "_rebuild_tensor_v2"), b"N"), "damaged"),
        (call(name("torch._utils", "_rebuild_parameter"), b"N", b"\x88", b"}"), "without numbers"),
    ],
)
def test_a_tensor_is_within_a_storage_that_is_within_the_file(instructions: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        Snapshot(infected(tmp_path / "hostile.pt", instructions))


def test_a_tensor_that_repeats_one_number_a_billion_times_is_never_made(tmp_path: Path) -> None:
    huge = tensor(storage("0"), shape=(10**12, 10**12), stride=(0, 0))
    file = changed(tmp_path / "huge.pt", {"data.pkl": whole(huge)})
    with Snapshot(file) as snapshot, pytest.raises(UserError, match="larger than its storage"):
        snapshot.read(snapshot.root)


def test_modules_that_hold_themselves_come_to_an_end() -> None:
    loop = StandIn(Name("torch", "Module"), state={"_modules": {}})
    loop.state["_modules"] |= {"a": loop, "b": loop}
    with pytest.raises(UserError, match="parts without end"):
        state_tensors(loop)
    loop.state["_modules"] = {"a" * 500: loop}
    with pytest.raises(UserError, match="parts without end"):
        state_tensors(loop)


# -- archives -------------------------------------------------------------------------------------------------------


def test_a_compressed_part_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = changed(tmp_path / "bomb.pt", {"data/0": bytes(100_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2_000_000
    began = time.process_time()
    with pytest.raises(UserError, match="is compressed or has a false size"):
        Snapshot(bomb)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("field", [20, 24], ids=["in the archive", "unpacked"])
def test_a_size_that_the_file_cannot_hold_is_refused(field: int, tmp_path: Path) -> None:
    data = bytearray(SNAPSHOT.read_bytes())
    entry = data.rindex(f"{FOLDER}/data/0".encode()) - 46  # In the archive's directory.
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + field : entry + field + 4] = struct.pack("<I", 2_000_000_000)
    (tmp_path / "false.pt").write_bytes(data)
    with pytest.raises(UserError, match="false size"):
        Snapshot(tmp_path / "false.pt")


@pytest.mark.parametrize("folder", ["../up", "/absolute", "a/b", ""])
def test_names_in_the_archive_are_no_paths(folder: str, tmp_path: Path) -> None:
    folder = folder.replace("/absolute", str(tmp_path / "absolute"))
    inside = tmp_path / "inside"
    inside.mkdir()
    file = changed(inside / "paths.pt", {}, folder=folder)
    with pytest.raises(UserError, match="none that torch.save wrote"):
        import_snapshot(SnapshotConfig(file, inside / "model"))
    assert [path.name for path in tmp_path.rglob("*")] == ["inside", "paths.pt"]


def test_a_model_whose_parameters_share_numbers_to_be_huge_is_refused(tmp_path: Path) -> None:
    with Snapshot(SNAPSHOT) as snapshot:
        agent = find_agent(snapshot)
        snapshot.num_bytes = 100_000
        with pytest.raises(UserError, match="its model is larger than the file"):
            import_model(snapshot, agent)


# -- the package ----------------------------------------------------------------------------------------------------


def test_nothing_in_the_package_unpickles() -> None:
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "copyreg"}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert not forbidden & {alias.name.split(".")[0] for alias in node.names}, file
            elif isinstance(node, ast.ImportFrom):
                harmless = {alias.name for alias in node.names} == {"UnpicklingError"}
                assert harmless or (node.module or "").split(".")[0] not in forbidden, file
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                options = {ast.unparse(word) for word in node.keywords}
                # torch's own restricted reader knows tensors and nothing else.
                assert called != "torch.load" or "weights_only=True" in options, file
                assert called not in {"torch.hub.load", "torch.jit.load"}, file
                assert "allow_pickle=True" not in options, file


def load_with_python(instructions: bytes) -> None:
    """Python's own unpickler runs an attack: proof that it would have worked."""
    for protocol in (2, 4):  # Old names are known to old protocols only, names with dots to new ones.
        with contextlib.suppress(Exception):  # Some fail after they have done their deed.
            pickle.loads(whole(instructions, protocol))


def wait_for(mark: Path) -> bool:
    """Programs that were started take a moment."""
    for _ in range(100):
        if mark.exists():
            return True
        time.sleep(0.05)
    return False
