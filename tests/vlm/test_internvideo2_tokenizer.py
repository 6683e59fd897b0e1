"""Texts become the numbers that the original's tokenizer gave."""

from __future__ import annotations

from pathlib import Path

from genrl.vlm.internvideo2_tokenizer import WordPieceTokenizer, read_vocabulary
from tests.vlm.internvideo2_tiny import VOCABULARY, fixture_arrays


def words(tokenizer: WordPieceTokenizer, text: str) -> list[str]:
    """Tokens of a text, padding left out."""
    ids, mask = tokenizer([text])
    assert ids.shape == mask.shape == (1, tokenizer.max_tokens)
    return [tokenizer.vocabulary[number] for number in ids[0, : int(mask.sum())].tolist()]


def test_the_originals_numbers_come_out() -> None:
    arrays = fixture_arrays()
    tokenizer = WordPieceTokenizer([str(token) for token in arrays["in/vocab"]], 12)
    ids, mask = tokenizer([str(text) for text in arrays["in/texts"]])
    assert ids.tolist() == arrays["in/input_ids"].tolist()
    assert mask.tolist() == arrays["in/attention_mask"].tolist()


def test_a_text_begins_with_cls_and_ends_without_sep() -> None:
    tokenizer = WordPieceTokenizer(VOCABULARY, 8)
    assert words(tokenizer, "a person WALKING") == ["[CLS]", "a", "person", "walk", "##ing"]
    assert words(tokenizer, "lunge_pose!") == ["[CLS]", "lunge", "_", "pose", "!"]


def test_a_long_text_is_cut_after_its_first_tokens() -> None:
    tokenizer = WordPieceTokenizer(VOCABULARY, 4)
    assert words(tokenizer, "walk run walk run walk") == ["[CLS]", "walk", "run", "walk"]


def test_tokens_that_look_like_ends_of_lines_stay_whole(tmp_path: Path) -> None:
    """BERT's vocabulary has such characters; reading by lines in Python's sense would shift all that follow."""
    vocabulary = [*VOCABULARY, "\u2028", "\x85", "last"]
    file = tmp_path / "vocab.txt"
    for end in ("\n", "\r\n"):
        file.write_bytes("".join(f"{token}{end}" for token in vocabulary).encode())
        assert read_vocabulary(file, len(vocabulary)) == vocabulary
    file.write_bytes("\n".join(vocabulary).encode())
    assert read_vocabulary(file, len(vocabulary)) == vocabulary
