"""Texts as the models of the `transformers` library were trained on them."""

from __future__ import annotations

import string
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrl.infra.errors import UserError

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SPACE_FOR_PUNCTUATION = str.maketrans(string.punctuation, " " * len(string.punctuation))


def _bare_words(text: str) -> str:
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


def _bare_sentence(text: str) -> str:
    words = " ".join(text.lower().translate(_SPACE_FOR_PUNCTUATION).split())
    return f"{words}." if words else ""


@dataclass(frozen=True)
class TextStyle:
    """How a family of models writes a text as token ids.

    Attributes:
        clean: Brings the text to the form of the training's texts.
        begin: Token before it, or none.
        end: Token after it, kept where the text is too long, or none.
        pad: Token that fills up.
        whole: Fill up to the model's length and let the padding be read, as in training; else no further than the
            longest text, and masked.
    """

    clean: Callable[[str], str]
    begin: str
    end: str
    pad: str
    whole: bool


STYLES = {
    "clip": TextStyle(str.strip, "<|startoftext|>", "<|endoftext|>", "<|endoftext|>", whole=False),
    # Its own library does this (SiglipTokenizer.canonicalize_text), the file tokenizer.json need not.
    "siglip": TextStyle(_bare_words, "", "</s>", "</s>", whole=True),
    "siglip2": TextStyle(str.lower, "", "<eos>", "<pad>", whole=True),
    # As google-deepmind/videoprism does before its tokenizer; the processor of transformers leaves it out.
    "videoprism": TextStyle(_bare_sentence, "", "", "<pad>", whole=False),
}


class TextTokens:
    """Turns texts into token ids."""

    def __init__(self, directory: Path, style: TextStyle, max_length: int) -> None:
        """Reads the tokenizer in a model's directory.

        Args:
            directory: Holds `tokenizer.json`, or other files that `transformers` makes a tokenizer of.
            style: How the model wants its texts.
            max_length: Most tokens of a text.

        Raises:
            UserError: If there is no tokenizer, or not one of this style.
        """
        self.style = style
        self.max_length = max_length
        self._split, find = _read_tokenizer(directory)

        def special(token: str) -> list[int]:
            number = find(token) if token else None
            if token and number is None:
                raise UserError(f"{directory}: its tokenizer has no {token!r}; it belongs to another family of models")
            return [] if number is None else [number]

        self._begin, self._end, self._pad = special(style.begin), special(style.end), special(style.pad)
        self._unknown = {find(token) for token in ("<unk>", "▁", ".")}

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without padding.

        Raises:
            UserError: If nothing of the text is known to the tokenizer.
        """
        words = self._split(self.style.clean(text))
        if not set(words) - self._unknown:
            raise UserError(f"the prompt {text!r} holds no word that the model can read; use plain words")
        room = self.max_length - len(self._begin) - len(self._end)
        if len(words) > room:
            warnings.warn(f"the model reads the first {room} of {len(words)} tokens of {text[:40]!r}...", stacklevel=3)
        return [*self._begin, *words[:room], *self._end]

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """(N, S) ids and, where padding is not to be read, the (N, S) mask that is 1 for tokens."""
        rows = [self.ids(text) for text in texts]
        length = self.max_length if self.style.whole else max(map(len, rows))
        ids = torch.tensor([row + self._pad * (length - len(row)) for row in rows])
        if self.style.whole:
            return ids, None
        return ids, torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])


def _read_tokenizer(directory: Path) -> tuple[Callable[[str], list[int]], Callable[[str], int | None]]:
    """Functions from a text to ids, without special tokens, and from a token to its id."""
    file = directory / "tokenizer.json"
    if file.is_file():
        from tokenizers import Tokenizer

        fast = Tokenizer.from_file(str(file))
        fast.no_truncation()
        fast.no_padding()
        return lambda text: fast.encode(text, add_special_tokens=False).ids, fast.token_to_id

    from transformers import AutoTokenizer

    try:
        slow: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (ImportError, OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{directory} has no tokenizer.json, and no other tokenizer can be read ({_line(error)}); "
            "copy all files of the model there, and `pip install sentencepiece` where it has a spiece.model"
        ) from error
    vocabulary = slow.get_vocab()
    return lambda text: slow.encode(text, add_special_tokens=False), vocabulary.get


def _line(error: Exception) -> str:
    return next(iter(str(error).split("\n")), "")[:120]
