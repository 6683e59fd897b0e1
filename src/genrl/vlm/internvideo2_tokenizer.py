"""Texts as InternVideo2 reads them: WordPieces of BERT's lower-case vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from genrl.infra.errors import UserError

PAD, UNKNOWN, CLS = "[PAD]", "[UNK]", "[CLS]"
VOCABULARY_PAGE = "https://huggingface.co/google-bert/bert-large-uncased"


class WordPieceTokenizer:
    """`[CLS]`, the text's WordPieces, padding; and no `[SEP]`, unlike BERT's own: the model was trained so.

    Args:
        vocabulary: Tokens in the order of their numbers.
        max_tokens: Length that texts are cut or padded to, `[CLS]` included.
    """

    def __init__(self, vocabulary: Sequence[str], max_tokens: int) -> None:
        ids = {token: number for number, token in enumerate(vocabulary)}
        self.vocabulary = list(vocabulary)
        self.max_tokens = max_tokens
        self.pad, self.unknown, self.cls = ids[PAD], ids[UNKNOWN], ids[CLS]
        self.tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token=UNKNOWN))
        self.tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        self.tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token numbers of N texts.

        Returns:
            (N, max_tokens) int64 numbers, and their mask: 1 for a token, 0 for padding.
        """
        rows = torch.full((len(texts), self.max_tokens), self.pad)
        mask = torch.zeros_like(rows)
        for row, encoding in enumerate(self.tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            ids = [self.cls, *encoding.ids][: self.max_tokens]
            rows[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
        return rows, mask

    def check(self, texts: Sequence[str]) -> None:
        """Refuse texts of which nothing is known.

        Raises:
            UserError: Naming the first one.
        """
        for text, encoding in zip(
            texts, self.tokenizer.encode_batch(list(texts), add_special_tokens=False), strict=True
        ):
            if all(number == self.unknown for number in encoding.ids):
                raise UserError(f"the prompt {text!r} holds no word that InternVideo2 can read: write it in English")


def read_vocabulary(file: Path, size: int) -> list[str]:
    """Tokens of a `vocab.txt`, one a line.

    Args:
        file: That of BERT-large, uncased.
        size: How many the model knows.

    Raises:
        UserError: If it is missing or another vocabulary.
    """
    if not file.is_file():
        raise UserError(f"{file} is missing: put vocab.txt of BERT-large uncased there, from {VOCABULARY_PAGE}")
    try:
        # Not splitlines: some tokens are characters that it takes for ends of lines.
        vocabulary = file.read_bytes().decode().replace("\r\n", "\n").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no vocabulary: it is not text ({error.reason})") from error
    check_vocabulary(vocabulary, size, str(file))
    return vocabulary


def check_vocabulary(vocabulary: Sequence[str], size: int, where: str) -> None:
    """Refuse a vocabulary that cannot be the model's.

    Raises:
        UserError: Naming `where`.
    """
    if len(vocabulary) != size or len(set(vocabulary)) != size:
        raise UserError(f"{where} has {len(set(vocabulary))} tokens, the model {size}: take it from {VOCABULARY_PAGE}")
    if vocabulary[0] != PAD or not {UNKNOWN, CLS} <= set(vocabulary):
        raise UserError(f"{where} does not begin with {PAD}, or lacks {UNKNOWN} or {CLS}: it is not BERT's vocabulary")
