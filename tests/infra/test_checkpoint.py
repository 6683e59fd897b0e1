"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from genrl.infra import checkpoint
from genrl.infra.checkpoint import (
    atomic_path,
    atomic_write,
    check_file,
    load_checkpoint,
    recorded_checksum,
    remove_leftovers,
    save_checkpoint,
)
from genrl.infra.errors import UserError

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "half": torch.ones(4, dtype=torch.float16)}


def listing(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_tensors_and_facts_come_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", TENSORS, {"step": 3, "nested": {"a": [1, None]}})
    tensors, meta = load_checkpoint(tmp_path / "c")
    assert meta == {"step": 3, "nested": {"a": [1, None]}}
    assert tensors.keys() == TENSORS.keys()
    assert all(tensors[name].equal(tensor) and tensors[name].dtype == tensor.dtype for name, tensor in TENSORS.items())
    assert listing(tmp_path) == ["c"] and listing(tmp_path / "c") == ["meta.json", "tensors.safetensors"]


def test_tied_and_strided_tensors_are_stored_whole(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path / "c", {"a": base, "b": base, "c": base.T, "d": base[:, 1:]}, {})
    tensors, _ = load_checkpoint(tmp_path / "c")
    assert tensors["b"].equal(base) and tensors["c"].equal(base.T) and tensors["d"].equal(base[:, 1:])


def test_saving_again_replaces_the_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path / "c", {"w": torch.full((2,), float(step))}, {"step": step})
    tensors, meta = load_checkpoint(tmp_path / "c")
    assert meta == {"step": 2} and tensors["w"].tolist() == [2.0, 2.0]
    assert listing(tmp_path) == ["c"]


def test_a_replacement_killed_between_its_renames_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", TENSORS, {"step": 1})
    (tmp_path / "c").rename(tmp_path / ".c.previous")
    assert load_checkpoint(tmp_path / "c")[1] == {"step": 1}


@pytest.mark.parametrize("position", [20, -1])
def test_a_flipped_bit_is_noticed(tmp_path: Path, position: int) -> None:
    save_checkpoint(tmp_path / "c", TENSORS, {})
    file = tmp_path / "c" / "tensors.safetensors"
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match="/c: tensors.safetensors is damaged"):
        load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize("name", ["meta.json", "tensors.safetensors"])
def test_a_missing_or_truncated_part_is_noticed(tmp_path: Path, name: str) -> None:
    save_checkpoint(tmp_path / "c", TENSORS, {"step": 1})
    file = tmp_path / "c" / name
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(tmp_path / "c")
    file.unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        load_checkpoint(tmp_path / "c")


def test_an_absent_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such checkpoint"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_reported_and_the_old_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    save_checkpoint(tmp_path / "c", TENSORS, {"step": 1})

    def fail(tensors: object, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise failure

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(UserError, match="cannot write .*/c: the disk is full"):
        save_checkpoint(tmp_path / "c", TENSORS, {"step": 2})
    assert load_checkpoint(tmp_path / "c")[1] == {"step": 1}
    assert listing(tmp_path) == ["c"]


def test_an_error_while_writing_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.txt"
    atomic_write(file, "old")
    with pytest.raises(RuntimeError), atomic_path(file) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".txt" and temporary.parent == file.parent
        raise RuntimeError
    assert file.read_text() == "old" and listing(file.parent) == ["file.txt"]


def test_text_and_bytes_are_written(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", "ä")
    atomic_write(tmp_path / "b", b"\x00\x01")
    assert (tmp_path / "a").read_text() == "ä" and (tmp_path / "b").read_bytes() == b"\x00\x01"


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".step.tmp-123").mkdir()
    (tmp_path / ".file.tmp-5.json").write_text("")
    (tmp_path / "notes.txt").write_text("")
    remove_leftovers(tmp_path)
    assert listing(tmp_path) == ["notes.txt"]


def test_a_file_never_takes_the_place_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "precious").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "models")
    for name in ("models", "link"):
        with pytest.raises(UserError, match=f"cannot write .*/{name}: it is a directory; name a file"):
            atomic_write(tmp_path / name, "numbers")
    assert (tmp_path / "models" / "precious").read_text() == "kept"
    assert listing(tmp_path) == ["link", "models"]


@pytest.mark.parametrize("name", ["file/x", "file/y/x"])
def test_what_lies_below_a_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("notes")
    with pytest.raises(UserError, match=f"cannot write .*/{name}: a file is in the way"):
        atomic_write(tmp_path / name, "numbers")
    with pytest.raises(UserError, match=f"cannot write .*/{name}: a file is in the way"):
        save_checkpoint(tmp_path / name, TENSORS, {})
    with pytest.raises(UserError, match=f"--out .*/{name} lies below .*/file, which is a file"):
        check_file(tmp_path / name)


def test_the_noted_checksum_tells_tensors_apart(tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        save_checkpoint(tmp_path / name, {"w": torch.full((2,), value)}, {"name": name})
    a, b, c = (recorded_checksum(tmp_path / name) for name in "abc")
    assert a == b != c and len(a) == 8
    with pytest.raises(UserError, match="nowhere: no such checkpoint"):
        recorded_checksum(tmp_path / "nowhere")
