"""`genrl vlm convert`: the published weights of InternVideo2 become a directory that loads fast and runs nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from genrl.infra.checkpoint import check_replaceable
from genrl.infra.errors import UserError
from genrl.vlm.internvideo2 import model_shapes
from genrl.vlm.internvideo2_config import PAGE, PUBLISHED_FILE, InternVideo2Config
from genrl.vlm.internvideo2_weights import KIND, read_official, write_converted


@dataclass(frozen=True)
class ConvertConfig:
    """Turn the published weights of InternVideo2 Stage2 1B (`.pt`) into a directory of safetensors.

    `vocab.txt` of BERT-large uncased must lie beside the file. What embeddings need is kept, with its 16-bit numbers;
    what only training used is left out. Nothing in the file is run.

    Example: genrl vlm convert InternVideo2-stage2_1b-224p-f4.pt --out internvideo2
    """

    official: tyro.conf.Positional[Path]
    """The file."""
    out: Path
    """Directory to write."""
    fresh: bool = False
    """Replace a conversion that is there."""
    model: InternVideo2Config = field(default_factory=InternVideo2Config)


def convert(config: ConvertConfig) -> Path:
    """Convert the file; returns the directory.

    Raises:
        UserError: If the file is damaged, incomplete or of another model, or the directory holds something.
    """
    check_replaceable(config.out, config.fresh, "InternVideo2", kind=KIND)
    # A file that is missing is refused before the seconds that its counterpart takes.
    if not config.official.is_file():
        raise UserError(f"{config.official} is no file; get {PUBLISHED_FILE} from {PAGE}")
    weights = read_official(config.official, config.model, model_shapes(config.model))
    write_converted(weights, config.out, config.official.name)
    numbers = sum(tensor.numel() for tensor in weights.tensors.values())
    size = sum(tensor.nbytes for tensor in weights.tensors.values())
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.tensors.values()})
    print(f"weights:   {numbers} numbers in {len(weights.tensors)} tensors, {' and '.join(types)}, {size / 1e9:.2f} GB")
    print(f"model:     {config.out} (checksum {weights.checksum})")
    return config.out
