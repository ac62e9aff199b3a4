"""The tokenizer of a dialogue or language model, from the files that lie beside its weights."""

import functools
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ivjax.data_pipelines.tokenizers.json_vocabulary import JsonVocabulary
from ivjax.data_pipelines.tokenizers.model_files import (
    TOKENIZER_FILES,
    SpecialTokens,
    special_tokens_beside,
    vocabulary_in,
)
from ivjax.data_pipelines.tokenizers.spm_vocabulary import SpmVocabulary
from ivjax.data_pipelines.tokenizers.tokenizer import TextStream, fit
from ivjax.errors import UserError
from ivjax.experiment.ranges import Count


@dataclass(frozen=True)
class ChatTokenizer:
    """A `tokenizer.model` (SentencePiece) or a `tokenizer.json`, with its added tokens: a LanguageTokenizer.

    Attributes:
        path: the folder with the files, or the vocabulary file, beside which the others lie. Of a folder with
            both kinds the SentencePiece model is read.
        length: ids of one text of `encode`.
        added: special tokens with their ids, for files that do not list them; those that do must agree.
        ends: tokens after which an answer ends, beside the end token; those that the files have count.
        visual: the id at whose places visual tokens stand (None: the model sees nothing).
        published: where the files usually come from, for messages.
    """

    path: str = ""
    length: Count = 512
    added: tuple[tuple[str, int], ...] = ()
    ends: tuple[str, ...] = ("<|im_end|>", "<|endoftext|>", "<|end|>")
    visual: int | None = None
    published: str = "the repository of the language model on the Hub"

    BESIDE: ClassVar[tuple[str, ...]] = TOKENIZER_FILES  # the files that are read of a folder

    @property
    def vocabulary_size(self) -> int:
        """The number of ids, with added tokens. The table of a model may have more rows."""
        return self._opened().vocabulary.size

    @property
    def readable(self) -> bool:
        """Whether the package that reads the files is installed."""
        json_file = vocabulary_in(self.path, self.published).suffix == ".json"
        return not json_file or importlib.util.find_spec("tokenizers") is not None

    @property
    def opening(self) -> tuple[int, ...]:
        """The ids that a text begins with: the start token, or nothing for models without one."""
        opened = self._opened()
        if opened.told.opens is None:
            return opened.vocabulary.opening
        return (self.bos,) if opened.told.opens and self.bos is not None else ()

    @property
    def bos(self) -> int | None:
        """The start token, also where texts need not begin with it; None: the model has none."""
        opened = self._opened()
        return self._named(opened.told.bos, opened.vocabulary.own_bos)

    @property
    def eos(self) -> int:
        """The end token."""
        opened = self._opened()
        found = self._named(opened.told.eos, opened.vocabulary.own_eos)
        if found is None:
            found = next(
                filter(lambda number: number is not None, map(opened.vocabulary.find, self.ends)), None
            )
        if found is None:
            raise UserError(
                f"{self.path} does not say which token ends a text: put its tokenizer_config.json there, "
                f"from {self.published}"
            )
        return found

    @property
    def pad(self) -> int:
        """The id that fills up rows: the padding token, or the end token of models without one."""
        opened = self._opened()
        found = self._named(opened.told.pad, opened.vocabulary.own_pad)
        return self.eos if found is None else found

    @property
    def stops(self) -> tuple[int, ...]:
        """The ids after which an answer ends, `eos` among them."""
        found = map(self._opened().vocabulary.find, self.ends)
        return tuple(dict.fromkeys([self.eos, *(number for number in found if number is not None)]))

    def pieces(self, text: str, plain: bool = False, inside: bool = False) -> list[int]:
        """Returns the ids of a part of a text; see LanguageTokenizer."""
        return self._opened().vocabulary.pieces(text, plain, inside)

    def takes_blanks(self, number: int) -> tuple[bool, bool]:
        """Whether a special token takes the blanks before and behind it; see LanguageTokenizer."""
        return self._opened().vocabulary.takes_blanks(number)

    def special(self, token: str) -> int:
        """Returns the id of a token by its text, such as `<|im_start|>`."""
        found = self._opened().vocabulary.find(token)
        if found is None:
            raise UserError(
                f"{self.path} has no token {token!r}; take the files of the model that was trained with it, "
                f"from {self.published}, or add it by the tokenizer's added"
            )
        return found

    def decode(self, ids: Iterable[int], specials: bool = False) -> str:
        """Returns the text of ids, without special tokens unless `specials`."""
        stream = self.stream(specials)
        return stream.add(*ids) + stream.end()

    def stream(self, specials: bool = False) -> TextStream:
        """Returns what makes text of ids as they come."""
        vocabulary = self._opened().vocabulary
        return TextStream(lambda number: vocabulary.bytes_of(number, specials), vocabulary.drops_blank)

    def encode(self, text: str) -> np.ndarray:
        """Returns `opening`, ids, `eos` and padding: (length,) int32; special tokens are plain text."""
        return fit(self.opening, self.pieces(text, plain=True), [self.eos], self.length, self.pad)

    def _named(self, token: str | None, own: int | None) -> int | None:
        found = None if token is None else self._opened().vocabulary.find(token)
        return own if found is None else found

    def _opened(self) -> "_Opened":
        return _load(self.path, self.added, self.published)


@dataclass(frozen=True)
class _Opened:
    vocabulary: SpmVocabulary | JsonVocabulary
    told: SpecialTokens


@functools.cache
def _load(path: str, added: tuple[tuple[str, int], ...], published: str) -> _Opened:
    file = vocabulary_in(path, published)
    told = special_tokens_beside(file)
    with file.open("rb") as stream:
        kind = JsonVocabulary if stream.read(64).lstrip()[:1] == b"{" else SpmVocabulary
    vocabulary = kind(file, told, dict(added))
    for text, number in added:
        there = vocabulary.bytes_of(number, specials=True).decode("utf-8", "replace")
        if vocabulary.find(text) != number or there != text:
            raise UserError(
                f"{file} gives {text} the id {vocabulary.find(text)} and {number} is {there!r}, where the "
                f"model has {text}; take the tokenizer from {published}"
            )
    return _Opened(vocabulary, told)
