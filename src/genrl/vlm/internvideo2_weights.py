"""Files of InternVideo2's weights: the published one, and the directory that `genrl vlm convert` makes of it.

Both hold the same tensors under the same names. The published file also has parts that training alone used; they are
known by name and left out. Whatever else is missing, unknown or of another shape is an error.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # what torch's restricted reader raises
from typing import Any

import torch
from torch import Tensor

from genrl.infra.checkpoint import load_checkpoint, save_checkpoint
from genrl.infra.config import config_hash, from_dict, to_dict
from genrl.infra.errors import UserError
from genrl.vlm.internvideo2_config import InternVideo2Config
from genrl.vlm.internvideo2_positions import interpolate_positions
from genrl.vlm.internvideo2_tokenizer import check_vocabulary, read_vocabulary

KIND = "internvideo2"
WRAPPERS = ("model", "module")
"""Keys under which the published file may hold its tensors, in the order they are tried."""
VOCABULARY_FILE, VOCABULARY = "vocab.txt", "vocabulary"

CLIP_TABLE, IMAGE_TABLE = "vision_encoder.pos_embed", "vision_encoder.img_pos_embed"
TEXT_LAYER = r"text_encoder\.bert\.encoder\.layer\.(\d+)\."
TEXT_LAYER_PARTS = (
    r"((cross)?attention\.(self\.(query|key|value)|output\.(dense|LayerNorm))|intermediate\.dense"
    r"|output\.(dense|LayerNorm))\.(weight|bias)"
)
SURPLUS = re.compile(
    r"vision_encoder\.clip(_img)?_pos_embed"
    r"|vision_encoder\.(clip_decoder\.\d+|final_clip_decoder)\.(head|norm)\.(weight|bias)"
    r"|text_encoder\.bert\.embeddings\.position_ids"
    r"|text_encoder\.cls\.predictions\.(bias|(transform\.(dense|LayerNorm)|decoder)\.(weight|bias))"
    r"|temp|itm_head\.(weight|bias)"
)
"""What only training used: distillation, word prediction, matching. Upper text layers are told by their number."""
FAULTS_SHOWN = 3

ZIP_START, PICKLE_START = b"PK\x03\x04", b"\x80"
DAMAGED = "damaged or not all there; get it again"
READ_ERRORS = (UnpicklingError, struct.error, RuntimeError, EOFError, OSError, ValueError, LookupError)
"""What torch's restricted reader says to what it cannot read."""
UNSUPPORTED = re.compile(r"(?:Unsupported global: GLOBAL|unsupported GLOBAL|Unsupported class) ([\w.]+)")


@dataclass(frozen=True)
class StoredWeights:
    """What a file or directory holds, checked.

    Attributes:
        config: Sizes, with the clip and image size that embeddings are to be made at.
        vocabulary: Tokens in the order of their numbers.
        tensors: What the model needs, as stored: position tables are not interpolated, numbers have the file's type.
        digest: sha256 over tensors and vocabulary, the same for a published file and its conversion.
    """

    config: InternVideo2Config
    vocabulary: list[str]
    tensors: dict[str, Tensor]
    digest: str

    @property
    def checksum(self) -> str:
        """First 12 hexadecimal digits of a sha256 over tensors, vocabulary and sizes: all that embeddings depend on.

        The type of numbers that the model computes with is left out: embeddings of float32 and bfloat16 go together.
        """
        return hashlib.sha256(f"{config_hash(self.config, 64)} {self.digest}".encode()).hexdigest()[:12]


def read_official(file: Path, config: InternVideo2Config, shapes: Mapping[str, Sequence[int]]) -> StoredWeights:
    """Read the published file and `vocab.txt` beside it; nothing in it is run.

    Args:
        file: The `.pt` file.
        config: Its sizes.
        shapes: Names and shapes of what the model needs.

    Raises:
        UserError: If it is damaged, something else, or does not fit; names what.
    """
    if not file.is_file():
        raise UserError(f"{file} is no file; name the published weights (.pt) or a directory that was made of them")
    vocabulary = read_vocabulary(file.with_name(VOCABULARY_FILE), config.vocabulary_size)
    tensors = select_tensors(read_pickled_tensors(file), config, shapes, str(file))
    return StoredWeights(config, vocabulary, tensors, digest_weights(tensors, vocabulary))


def write_converted(weights: StoredWeights, directory: Path, source: str) -> None:
    """Write a directory that `read_converted` reads; whole or not at all.

    Args:
        weights: What to write.
        directory: Where.
        source: Name of the file that it came from, to be kept beside it.
    """
    text = torch.frombuffer(bytearray("\n".join(weights.vocabulary).encode()), dtype=torch.uint8)
    meta = {"kind": KIND, "config": to_dict(weights.config), "digest": weights.digest, "source": source}
    save_checkpoint(directory, {**weights.tensors, VOCABULARY: text}, meta)


def read_converted(directory: Path) -> StoredWeights:
    """Read what `write_converted` wrote.

    Raises:
        UserError: If the directory is damaged or holds something else.
    """
    tensors, meta = load_checkpoint(directory)
    if meta.get("kind") != KIND or VOCABULARY not in tensors or not isinstance(meta.get("config"), dict):
        raise UserError(f"{directory} holds no InternVideo2: give a directory that `genrl vlm convert` wrote")
    config = from_dict(InternVideo2Config, meta["config"], str(directory))
    vocabulary = bytes(tensors.pop(VOCABULARY).tolist()).decode().split("\n")
    check_vocabulary(vocabulary, config.vocabulary_size, str(directory))
    return StoredWeights(config, vocabulary, tensors, str(meta.get("digest")))


def read_pickled_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a file that torch.save wrote, by torch's restricted reader.

    Raises:
        UserError: If it is damaged, or no such file, or names what weights do not need.
    """
    with file.open("rb") as stream:
        start = stream.read(4)
    if start == ZIP_START and not _is_whole(file):
        raise UserError(f"{file} is {DAMAGED}")
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except READ_ERRORS as error:
        if named := UNSUPPORTED.search(str(error)):
            raise UserError(f"{file} names {named[1]}, which weights do not need; nothing of it was run") from error
        if start == ZIP_START or start[:1] == PICKLE_START:
            raise UserError(f"{file} is damaged or not of torch.save; get the published weights again") from error
        raise UserError(f"{file} is no file of torch.save; name the published weights (.pt)") from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{file} holds no named tensors; name the published weights of InternVideo2 Stage2 1B")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{file}: its entry {str(name)[:80]!r} is no tensor; name the weights of Stage2 1B")
    return dict(content)


def select_tensors(
    tensors: Mapping[str, Tensor], config: InternVideo2Config, shapes: Mapping[str, Sequence[int]], where: str
) -> dict[str, Tensor]:
    """What the model needs of a file's tensors; strict but for the known surplus.

    Args:
        tensors: All of the file's.
        config: Sizes of the model.
        shapes: Names and shapes of what it needs; the position tables' are free in frames and grid.
        where: The file, for complaints.

    Raises:
        UserError: Naming what is missing, unknown or of another shape.
    """
    faults = [f"{name} is missing" for name in shapes if name not in tensors]
    faults += [f"{name} is unknown" for name in tensors if name not in shapes and not is_surplus(name, config)]
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None:
            continue
        if not tensor.is_floating_point():
            faults.append(f"{name} has numbers of type {tensor.dtype}")
        elif name not in (CLIP_TABLE, IMAGE_TABLE) and tuple(tensor.shape) != tuple(shape):
            faults.append(f"{name} has shape {tuple(tensor.shape)}, not {tuple(shape)}")
    if faults:
        more = f" and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise UserError(
            f"{where} is another model than InternVideo2 Stage2 1B, or not all of it: "
            f"{'; '.join(faults[:FAULTS_SHOWN])}{more}"
        )
    table_size(tensors, config.vision_dim, where)
    return {name: tensors[name].detach() for name in shapes}


def is_surplus(name: str, config: InternVideo2Config) -> bool:
    """Whether a tensor of the published file is one of those that embeddings do not need."""
    if layer := re.match(TEXT_LAYER, name):
        return int(layer[1]) >= config.text_depth and bool(re.fullmatch(TEXT_LAYER_PARTS, name[layer.end() :]))
    return SURPLUS.fullmatch(name) is not None


def table_size(tensors: Mapping[str, Tensor], dim: int, where: str) -> tuple[int, int]:
    """Frames and grid of the stored position tables.

    Raises:
        UserError: If they are no tables of one grid.
    """
    clip, image = tuple(tensors[CLIP_TABLE].shape), tuple(tensors[IMAGE_TABLE].shape)
    if len(image) == len(clip) == 3 and image[0] == clip[0] == 1 and image[2] == clip[2] == dim and image[1] > 1:
        patches = image[1] - 1
        grid = math.isqrt(patches)
        frames, rest = divmod(clip[1] - 1, patches)
        if grid * grid == patches and frames > 0 and rest == 0:
            return frames, grid
    raise UserError(f"{where}: {CLIP_TABLE} {clip} and {IMAGE_TABLE} {image} are no position tables of {dim} channels")


def fit_tables(tensors: Mapping[str, Tensor], config: InternVideo2Config, where: str) -> dict[str, Tensor]:
    """The two position tables at the model's frames and grid, in float32."""
    frames, grid = table_size(tensors, config.vision_dim, where)
    clip = interpolate_positions(tensors[CLIP_TABLE], (frames, grid), (config.frames_per_clip, config.grid))
    return {
        CLIP_TABLE: clip,
        IMAGE_TABLE: interpolate_positions(tensors[IMAGE_TABLE], (1, grid), (1, config.grid)),
    }


def digest_weights(tensors: Mapping[str, Tensor], vocabulary: Sequence[str]) -> str:
    """sha256 of names, types, shapes and numbers as they are stored, and of the vocabulary."""
    digest = hashlib.sha256("\n".join(vocabulary).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # numpy has no bfloat16, and hashlib takes what numpy gives without a copy.
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_whole(file: Path) -> bool:
    """Whether every part of an archive has its checksum; torch's reader does not look."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, zlib.error):
        return False
