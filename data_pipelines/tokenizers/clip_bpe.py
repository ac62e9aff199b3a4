"""CLIP's byte-pair encoding, for ViCLIP (32 tokens) and the small InternVideo2-CLIP (77 tokens)."""

import functools
import gzip
import html
import itertools
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ivjax.data_pipelines.tokenizers.tokenizer import fit, vocabulary_file
from ivjax.errors import UserError
from ivjax.experiment.ranges import Count

PUBLIC_NAME = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 48894  # of the many more that the published file lists
_SIZE = 2 * 256 + MERGES + 2
_WORD_END = "</w>"
_KEPT_WORDS = 1 << 16  # cached words; the commonest ones make up nearly all of a corpus
_SINGLE_QUOTES, _DOUBLE_QUOTES = "‘’ʼ‚‛", "“”„‟"
_INVISIBLE = [(0x00, 0x08), (0x0E, 0x1F), (0x7F, 0x7F), (0x206A, 0x206F), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFC)]
_LIGATURES = "ĲĳǄǅǆǇǈǉǊǋǌǱǲǳﬀﬁﬂﬃﬄﬅﬆ"


@dataclass(frozen=True)
class ClipBpe:
    """CLIP's tokens of lower-cased text: start, tokens, end, zeros.

    A text that is too long is cut before its end token. Special tokens written out inside a caption are read
    as plain text.

    Attributes:
        path: the vocabulary file.
        length: ids of one text.
    """

    path: str = ""
    length: Count = 77

    FILE: ClassVar[str] = PUBLIC_NAME  # what it is called beside weights

    @property
    def vocabulary_size(self) -> int:
        """The number of ids, the same for every CLIP text encoder."""
        return _SIZE

    def encode(self, text: str) -> np.ndarray:
        """Returns the start token, the tokens that fit, the end token and zeros: (length,) int32."""
        # The published code writes the end token over the last one; the end token is also the largest id,
        # which is how the text encoder finds it.
        return fit([_SIZE - 2], list(_load(self.path).ids(text)), [_SIZE - 1], self.length, 0)


class _Vocabulary:
    """Ranked merges of symbols, and the ids of the symbols."""

    def __init__(self, merges: list[tuple[str, str]]):
        letters = list(byte_letters().values())
        symbols = itertools.chain(letters, (letter + _WORD_END for letter in letters), map("".join, merges))
        self._ids = {symbol: number for number, symbol in enumerate(symbols)}
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        # A cache of each vocabulary's own: one on the method would keep dead vocabularies alive.
        self.word_ids = functools.lru_cache(_KEPT_WORDS)(self._word_ids)

    def ids(self, text: str) -> Iterator[int]:
        """Yields the ids of all words of a text."""
        for word in _word_pattern().findall(_plain(text)):
            yield from self.word_ids(word)

    def _word_ids(self, word: str) -> tuple[int, ...]:
        letters = byte_letters()
        symbols = [letters[byte] for byte in word.encode("utf-8", "replace")]
        symbols[-1] += _WORD_END  # CLIP has other symbols for the end of a word than for its inside
        while len(symbols) > 1:
            pair = min(itertools.pairwise(symbols), key=lambda pair: self._ranks.get(pair, MERGES))
            if pair not in self._ranks:
                break
            symbols = _merged(symbols, pair)
        return tuple(self._ids[symbol] for symbol in symbols)


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """Joins every occurrence of a pair into one symbol, from the left."""
    result: list[str] = []
    rest = iter(range(len(symbols)))
    for place in rest:
        if tuple(symbols[place : place + 2]) == pair:
            result.append("".join(pair))
            next(rest)
        else:
            result.append(symbols[place])
    return result


@functools.cache
def _load(path: str) -> _Vocabulary:
    return _Vocabulary(_read_merges(vocabulary_file(path, "CLIP BPE", PUBLIC_NAME)))


def _read_merges(path: Path) -> list[tuple[str, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            heading = file.readline()
            lines = [line.rstrip("\n") for line in itertools.islice(file, MERGES)]
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} cannot be read as {PUBLIC_NAME}: {error}; get the file again") from None
    pairs = [(first, second) for first, _, second in (line.partition(" ") for line in lines) if second]
    if "#version" not in heading or len(pairs) < MERGES or any(" " in second for _, second in pairs):
        raise UserError(
            f"{path} is not {PUBLIC_NAME}: that has a #version line and {MERGES} or more lines of two symbols"
        )
    return pairs


@functools.cache
def byte_letters() -> Mapping[int, str]:
    """Returns a visible character for each byte, in the order of the vocabulary."""
    # The order gives the first 256 ids, so it must be CLIP's: visible bytes first.
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    letters = {byte: chr(byte) for byte in visible}
    return letters | {byte: chr(256 + number) for number, byte in enumerate(hidden)}


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    """Matches clitics, runs of letters, single numerals, and runs of anything else that is not blank."""
    # Python's re knows no \p{N}, which the original's regex module has.
    # The planes above hold ideographs and no numerals; looking through them takes each worker 0.2 s.
    numerals = "".join(chr(c) for c in range(0x20000) if unicodedata.category(chr(c)).startswith("N"))
    # U+0345, the iota below Greek vowels, is dropped: ignoring case, the original's classes of letters and of
    # all the rest both leave it out.
    return re.compile(rf"(?i:'(?:s|t|re|ve|m|ll|d))|[^\W_{numerals}]+|[{numerals}]|(?:[^\s\w\u0345]|_)+")


@functools.cache
def _substitutes() -> Mapping[int, str]:
    """Returns plain characters for quotes, ligatures and wide forms, and nothing for control characters."""
    table = dict.fromkeys(map(ord, _SINGLE_QUOTES), "'") | dict.fromkeys(map(ord, _DOUBLE_QUOTES), '"')
    table[ord("ŉ")] = "'n"
    wide = map(chr, [0x3000, *range(0xFF01, 0xFFF0)])
    table |= {ord(c): unicodedata.normalize("NFKC", c) for c in itertools.chain(_LIGATURES, wide)}
    return table | {code: "" for first, last in _INVISIBLE for code in range(first, last + 1)}


def _plain(text: str) -> str:
    """Cleans a text as CLIP does, except that wrongly decoded text is not repaired by guessing."""
    # Captions from the web are often escaped twice.
    text = unicodedata.normalize("NFC", html.unescape(html.unescape(text)).translate(_substitutes()))
    return " ".join(text.split()).lower()
