"""Files of InternVideo2's weights: the published layout is known in whole, and whatever differs is said in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genrl.infra.checkpoint import save_checkpoint
from genrl.infra.errors import UserError
from genrl.vlm.internvideo2 import load_internvideo2, model_shapes
from genrl.vlm.internvideo2_config import InternVideo2Config
from genrl.vlm.internvideo2_weights import CLIP_TABLE, fit_tables, is_surplus, read_official, write_converted
from tests.vlm.internvideo2_tiny import TINY, VOCABULARY, published_layout, tiny_tensors, write_published

pytest.importorskip("transformers", reason="the text tower needs the extra vlm")

GAMMA = "vision_encoder.blocks.1.ls2.gamma"


@pytest.fixture(scope="module")
def tiny_shapes() -> dict[str, tuple[int, ...]]:
    return model_shapes(TINY)


@pytest.fixture
def complaint(tmp_path: Path, tiny_shapes: dict[str, tuple[int, ...]]) -> Callable[[Path], str]:
    """The one line that reading a file is refused with; it begins with the file."""

    def read(file: Path) -> str:
        with pytest.raises(UserError) as caught:
            read_official(file, TINY, tiny_shapes)
        line = str(caught.value)
        assert line.startswith(str(file.parent)) and "\n" not in line and len(line) < 500
        return line

    return read


def test_the_real_model_has_the_names_and_shapes_of_the_published_file() -> None:
    config = InternVideo2Config()
    layout = published_layout(config, stored_frames=4, all_text_layers=24, decoders=6, decoder_dim=3200)
    assert sum(name.startswith("vision_encoder.") for name in layout) == 569
    assert sum(name.startswith("text_encoder.") for name in layout) == 447
    assert len(layout) == 569 + 447 + 4 + 3
    shapes = model_shapes(config)
    assert shapes == {**{name: layout[name] for name in shapes}, CLIP_TABLE: (1, 1 + 8 * 256, 1408)}
    assert all(is_surplus(name, config) for name in layout.keys() - shapes.keys())
    assert not any(is_surplus(name, config) for name in shapes)
    assert len(layout) - len(shapes) == 2 + 24 + 4 + 1 + 130 + 7 + 3
    used = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert used == 1_293_100_160 == 1_021_070_464 + 271_111_168 + 918_528


def test_the_published_layout_loads_whatever_it_is_wrapped_in(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    for number, content in enumerate(({"module": tensors}, {"model": tensors, "module": {"x": 0}}, tensors)):
        torch.save(content, write_published(tmp_path))
        model = load_internvideo2(tmp_path / "published.pt", config=TINY)
        gamma = model.get_parameter(GAMMA)
        assert gamma.dtype == torch.float32 and torch.equal(gamma, tensors[GAMMA].float()), number


def test_parts_that_training_alone_used_may_be_absent(tmp_path: Path, tiny_shapes: dict[str, tuple[int, ...]]) -> None:
    tensors = {name: tensor for name, tensor in tiny_tensors().items() if name in tiny_shapes}
    weights = read_official(write_published(tmp_path, tensors), TINY, tiny_shapes)
    whole = read_official(write_published(tmp_path), TINY, tiny_shapes)
    assert weights.digest == whole.digest and weights.tensors.keys() == tiny_shapes.keys()


def test_a_conversion_keeps_sixteen_bits(tmp_path: Path, tiny_shapes: dict[str, tuple[int, ...]]) -> None:
    weights = read_official(write_published(tmp_path), TINY, tiny_shapes)
    assert {tensor.dtype for tensor in weights.tensors.values()} == {torch.bfloat16}
    write_converted(weights, tmp_path / "converted", "published.pt")
    size = (tmp_path / "converted" / "tensors.safetensors").stat().st_size
    assert size < 2.5 * sum(tensor.numel() for tensor in weights.tensors.values()) + 20_000


def test_position_tables_fit_other_clips_and_sizes() -> None:
    tensors = {name: tensor.float() for name, tensor in tiny_tensors().items()}
    config = InternVideo2Config(image_size=42, frames_per_clip=6, vision_dim=32, vision_heads=2, pool_heads=2)
    tables = fit_tables(tensors, config, "")
    assert [tuple(table.shape) for table in tables.values()] == [(1, 1 + 6 * 9, 32), (1, 10, 32)]
    assert torch.equal(tables[CLIP_TABLE][:, 0], tensors[CLIP_TABLE][:, 0])


def test_four_stored_frames_become_eight_between_neighbours() -> None:
    stored = torch.zeros(1, 1 + 4, 16)
    stored[0, 1:, 0] = torch.tensor([0.0, 4.0, 8.0, 12.0])
    tables = {CLIP_TABLE: stored, "vision_encoder.img_pos_embed": torch.zeros(1, 2, 16)}
    config = InternVideo2Config(image_size=14, vision_dim=16)
    assert fit_tables(tables, config, "")[CLIP_TABLE][0, 1:, 0].tolist() == [0, 1, 3, 5, 7, 9, 11, 12]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop(GAMMA), f"{GAMMA} is missing"),
        (lambda t: t.pop("text_encoder.bert.embeddings.LayerNorm.bias"), "bert.embeddings.LayerNorm.bias is missing"),
        (lambda t: t.update(new=torch.zeros(1)), "new is unknown"),
        (lambda t: t.update({"vision_encoder.clip_decoder.0.head.scale": torch.zeros(1)}), "head.scale is unknown"),
        (lambda t: t.update({"text_encoder.bert.pooler.dense.bias": torch.zeros(1)}), "pooler.dense.bias is unknown"),
        (lambda t: t.update({GAMMA: torch.zeros(33)}), f"{GAMMA} has shape (33,), not (32,)"),
        (lambda t: t.update({GAMMA: torch.zeros(32, dtype=torch.long)}), f"{GAMMA} has numbers of type torch.int64"),
        (lambda t: t.update({CLIP_TABLE: torch.zeros(1, 10, 32)}), "are no position tables"),
        (lambda t: t.update({CLIP_TABLE: torch.zeros(9, 32)}), "are no position tables"),
        (lambda t: t.update({GAMMA: 3.0}), f"its entry '{GAMMA}' is no tensor"),
    ],
)
def test_what_does_not_fit_is_named(
    change: Callable[[dict], Any], said: str, tmp_path: Path, complaint: Callable[[Path], str]
) -> None:
    tensors = tiny_tensors()
    change(tensors)
    file = write_published(tmp_path)
    torch.save({"module": tensors}, file)
    assert said in complaint(file)


def test_unprefixed_weights_are_refused_with_a_count(tmp_path: Path, complaint: Callable[[Path], str]) -> None:
    """The mistake that a lenient reader hides: the text tower without its `bert.` level."""
    tensors = {name.replace("text_encoder.bert.", "text_encoder."): tensor for name, tensor in tiny_tensors().items()}
    line = complaint(write_published(tmp_path, tensors))
    assert "word_embeddings.weight is missing" in line and "more" in line


class Runs:
    """Unpickled as usual, it would make a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.file),)


def test_a_file_that_wants_to_run_something_is_refused(tmp_path: Path, complaint: Callable[[Path], str]) -> None:
    file, trace = write_published(tmp_path), tmp_path / "trace"
    for zipped in (True, False):
        content = {"module": tiny_tensors(), "more": Runs(trace)}
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        assert "posix.mkdir, which weights do not need; nothing of it was run" in complaint(file)
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists()


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (halved, "is damaged or not all there; get it again"),
        (flipped, "is damaged or not all there; get it again"),
        (lambda data: data[:3], "is no file of torch.save"),
        (lambda data: b"", "is no file of torch.save"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "is no file of torch.save"),
    ],
)
def test_damage_is_found(
    spoil: Callable[[bytes], bytes], said: str, tmp_path: Path, complaint: Callable[[Path], str]
) -> None:
    file = write_published(tmp_path)
    file.write_bytes(spoil(file.read_bytes()))
    assert said in complaint(file)


@pytest.mark.parametrize("content", [[1, 2], {}, torch.zeros(3), None])
def test_a_file_without_named_tensors_is_refused(
    content: Any, tmp_path: Path, complaint: Callable[[Path], str]
) -> None:
    file = write_published(tmp_path)
    torch.save(content, file)
    assert "holds no named tensors" in complaint(file)


@pytest.mark.parametrize(
    ("vocabulary", "said"),
    [
        (VOCABULARY[:-1], "has 12 tokens, the model 13"),
        ([*VOCABULARY[:-1], "walk"], "has 12 tokens, the model 13"),
        ([*VOCABULARY[1:], "[PAD]"], "does not begin with [PAD]"),
        (["cls" if token == "[CLS]" else token for token in VOCABULARY], "lacks [UNK] or [CLS]"),
    ],
)
def test_another_vocabulary_is_refused(
    vocabulary: list[str], said: str, tmp_path: Path, complaint: Callable[[Path], str]
) -> None:
    line = complaint(write_published(tmp_path, vocabulary=vocabulary))
    assert said in line and "vocab.txt" in line


def test_a_missing_vocabulary_is_named_with_its_source(tmp_path: Path, complaint: Callable[[Path], str]) -> None:
    file = write_published(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    assert "vocab.txt is missing" in (line := complaint(file)) and "bert-large-uncased" in line
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    assert "is not text" in complaint(file)


def test_a_missing_file_and_a_directory_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent.pt is no file"):
        load_internvideo2(tmp_path / "absent.pt", config=TINY)
    save_checkpoint(tmp_path / "other", {"x": torch.zeros(1)}, {"kind": "mini_vlm"})
    with pytest.raises(UserError, match="holds no InternVideo2"):
        load_internvideo2(tmp_path / "other")
