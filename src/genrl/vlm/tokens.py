"""Frozen word knowledge: vectors of single tokens, distilled once from a sentence model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn

from genrl.infra.checkpoint import load_checkpoint
from genrl.infra.errors import UserError

TOKEN_VECTORS_DIRECTORY = Path(__file__).parent.parent / "assets" / "mini_vlm" / "tokens"
MAX_TOKENS = 32
"""Tokens read of one text; what follows is cut."""


class TokenVectors(nn.Module):
    """WordPiece tokens of a text, each as its frozen vector.

    The vectors come from `recipes/token_vectors.py`: every token alone through all-MiniLM-L6-v2, centred, reduced
    by PCA, stored as int8 with a scale per token. A token's weight grows with its rank in the vocabulary, which
    stands for rarity.

    Attributes:
        dim: Length of a vector.
    """

    vectors: Tensor
    scales: Tensor
    weights: Tensor

    def __init__(self, vocabulary: Sequence[str], vectors: Tensor, scales: Tensor, weights: Tensor) -> None:
        """Take (V, dim) int8 vectors with their (V,) scales and (V,) weights."""
        super().__init__()
        ids = {token: index for index, token in enumerate(vocabulary)}
        self.tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]"))
        self.tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        self.tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self.unknown = ids["[UNK]"]
        self.dim = vectors.shape[1]
        self.register_buffer("vectors", vectors, persistent=False)
        self.register_buffer("scales", scales.float(), persistent=False)
        self.register_buffer("weights", weights.float(), persistent=False)

    @classmethod
    def load(cls, directory: Path = TOKEN_VECTORS_DIRECTORY) -> TokenVectors:
        """Read what `recipes/token_vectors.py` wrote."""
        tensors, _ = load_checkpoint(directory)
        vocabulary = bytes(tensors["vocabulary"].tolist()).decode().split("\n")
        return cls(vocabulary, tensors["vectors"], tensors["scales"], tensors["weights"])

    def ids(self, text: str) -> list[int]:
        """Token numbers of a text, without the unknown ones.

        Raises:
            UserError: If nothing is left.
        """
        ids = [i for i in self.tokenizer.encode(text, add_special_tokens=False).ids if i != self.unknown]
        if not ids:
            raise UserError(f"the prompt {text!r} holds no word that the mini VLM can read: write it in English")
        return ids[:MAX_TOKENS]

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Look the tokens of some texts up.

        Returns:
            (N, M, dim) unit vectors in reading order, zero after the end, and their (N, M) weights, zero likewise.
        """
        rows = [torch.tensor(self.ids(text)) for text in texts]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1).to(self.vectors.device)
        present = (ids >= 0).float()
        ids = ids.clamp(min=0)
        vectors = self.vectors[ids].float() * (self.scales[ids] * present).unsqueeze(-1)
        return vectors, self.weights[ids] * present
