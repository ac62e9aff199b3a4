"""BERT's WordPiece, for the text encoder of InternVideo2 stage 2 (bert-large-uncased)."""

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ivjax.data_pipelines.tokenizers.tokenizer import fit, vocabulary_file
from ivjax.errors import UserError
from ivjax.experiment.ranges import Count

PUBLIC_NAME = "vocab.txt of bert-large-uncased (or bert-base-uncased, the same file)"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_LONGEST_WORD = 100  # characters; longer ones are unknown
_KEPT_WORDS = 1 << 16
_IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


@dataclass(frozen=True)
class BertWordPiece:
    """[CLS], word pieces of lower-cased text without accents, [SEP], and [PAD] up to `length`.

    Special tokens written out inside a caption are read as plain text.

    Attributes:
        path: the vocabulary file.
        length: ids of one text.
        vocabulary_size: pieces that the text encoder was built for.
    """

    path: str = ""
    # As the 1B model of stage 2 was trained; the 6B model took 40.
    length: Count = 32
    vocabulary_size: Count = 30522

    FILE: ClassVar[str] = "vocab.txt"  # what it is called beside weights

    def encode(self, text: str) -> np.ndarray:
        """Returns [CLS], the pieces that fit, [SEP] and padding: (length,) int32."""
        vocabulary = self._vocabulary()
        start, end = [vocabulary.special["[CLS]"]], [vocabulary.special["[SEP]"]]
        return fit(start, list(vocabulary.ids(text)), end, self.length, vocabulary.special["[PAD]"])

    @property
    def mask(self) -> int:
        """The id of [MASK], for masked language modelling."""
        return self._vocabulary().special["[MASK]"]

    def _vocabulary(self) -> "_Vocabulary":
        return _load(self.path, self.vocabulary_size)


class _Vocabulary:
    """Ids of pieces; a piece that continues a word starts with ##."""

    def __init__(self, pieces: list[str]):
        self._ids = {piece: number for number, piece in enumerate(pieces)}
        self.special = {name: self._ids[name] for name in _SPECIAL}
        self.word_ids = functools.lru_cache(_KEPT_WORDS)(self._word_ids)

    def ids(self, text: str) -> Iterator[int]:
        """Yields the ids of all words of a text."""
        for word in _words(text):
            yield from self.word_ids(word)

    def _word_ids(self, word: str) -> tuple[int, ...]:
        """Splits a word greedily into its longest pieces; the word is unknown if no piece fits somewhere."""
        unknown = (self.special["[UNK]"],)
        if len(word) > _LONGEST_WORD:  # as BERT does; longer ones would also cost quadratic time
            return unknown
        ids: list[int] = []
        start = 0
        while start < len(word):
            mark = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if mark + word[start:end] in self._ids), None)
            if end is None:
                return unknown
            ids.append(self._ids[mark + word[start:end]])
            start = end
        return tuple(ids)


@functools.cache
def _load(path: str, size: int) -> _Vocabulary:
    file = vocabulary_file(path, "BERT WordPiece", PUBLIC_NAME)
    pieces = _read_pieces(file)
    missing = [name for name in _SPECIAL if name not in pieces]
    if missing:
        raise UserError(f"{file} is not {PUBLIC_NAME}: it has no line {missing[0]}")
    if len(pieces) != size:
        raise UserError(
            f"{file} has {len(pieces)} pieces and the tokenizer's vocabulary_size is {size}; "
            f"take the vocabulary of the text encoder, or set vocabulary_size for both"
        )
    return _Vocabulary(pieces)


def _read_pieces(file: Path) -> list[str]:
    try:
        lines = file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not {PUBLIC_NAME}: it is not UTF-8 text ({error.reason})") from None
    # Not splitlines, which also splits at rarer characters, and would shift all later ids.
    return lines.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _words(text: str) -> list[str]:
    """Returns words, single ideographs and single punctuation marks of the normalised text."""
    decomposed = unicodedata.normalize("NFD", _ideograph_pattern().sub(r" \g<0> ", _visible(text)))
    bare = "".join(char for char in decomposed if unicodedata.category(char) != "Mn").lower()
    return "".join(f" {char} " if _is_punctuation(char) else char for char in bare).split()


def _visible(text: str) -> str:
    """Removes control and format characters, except those that separate words."""
    return "".join(char for char in text if char in "\t\n\r" or not _is_control(char))


def _is_control(char: str) -> bool:
    return char == "\ufffd" or unicodedata.category(char).startswith("C")


def _is_punctuation(char: str) -> bool:
    """Whether BERT splits at a character: all ASCII signs, also those that Unicode calls symbols."""
    # $, + and ^ are symbols for Unicode and punctuation for BERT.
    if char.isascii():
        return char.isprintable() and not char.isalnum() and char != " "
    return unicodedata.category(char).startswith("P")


@functools.cache
def _ideograph_pattern() -> re.Pattern[str]:
    return re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _IDEOGRAPHS) + "]")
