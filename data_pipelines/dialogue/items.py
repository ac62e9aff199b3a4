"""The items of a conversation's text, and their token ids, learned places and places of visual tokens."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ivjax.data_pipelines.tokenizers.tokenizer import LanguageTokenizer
from ivjax.errors import UserError

_SHORT = 16  # characters of a text whose ids are remembered
NO_PLACE = -1  # stands where no visual token does


class Words(NamedTuple):
    """A stretch of text. `joined`: it is one text with the item before it, and cut from it afterwards."""

    text: str
    learned: bool = False
    joined: bool = False


class SpecialToken(NamedTuple):
    """A special token by its name."""

    name: str
    learned: bool = False


class Opening(NamedTuple):
    """What the tokenizer begins a text with: its start token, or nothing."""


class Ending(NamedTuple):
    """The end token that is written so or, where the tokenizer has no such token, its own."""

    written: str
    learned: bool = False


class Slots(NamedTuple):
    """Places of visual tokens: numbers (n,) among those of the conversation."""

    places: np.ndarray


# what a style writes: text, special tokens, places of visual tokens
StyleItem = Words | SpecialToken | Opening | Ending | Slots


class DialogueTokens(NamedTuple):
    """A conversation as arrays of its length L.

    Attributes:
        ids: token ids (L,) int32; 0 where a visual token stands.
        learned: whether a token is one that the model learns to say, (L,) bool.
        places: number of the visual token that stands here, (L,) int32; -1 for words.
    """

    ids: np.ndarray
    learned: np.ndarray
    places: np.ndarray

    def cut(self, length: int) -> "DialogueTokens":
        """Returns the first `length` tokens."""
        return DialogueTokens(*(array[:length] for array in self))


class _Run(NamedTuple):
    """A text with the ones that are joined to it, or another item alone; and the special tokens beside it."""

    items: Sequence[StyleItem]
    before: int | None
    behind: int | None

    @property
    def inside(self) -> bool:
        return self.before is not None


def encode(
    items: Iterable[StyleItem], tokenizer: LanguageTokenizer, always: Sequence[str] = ()
) -> DialogueTokens:
    """Returns the arrays of a conversation. Tokens of the texts `always` are learned wherever they stand."""
    ids: list[int] = []
    learned: list[bool] = []
    places: list[int] = []
    for run in _runs(items, tokenizer):
        found, says, stands = _run(run, tokenizer)
        ids += found
        learned += says
        places += stands
    whole = DialogueTokens(np.array(ids, np.int32), np.array(learned, bool), np.array(places, np.int32))
    everywhere = [number for text in always for number in _pieces(tokenizer, text)]
    return whole._replace(learned=whole.learned | (np.isin(whole.ids, everywhere) & (whole.places < 0)))


def count(items: Iterable[StyleItem], tokenizer: LanguageTokenizer) -> int:
    """Returns the number of tokens of a conversation, which `encode` would give it, without any arrays."""
    return sum(_length(run, tokenizer) for run in _runs(items, tokenizer))


def _length(run: _Run, tokenizer: Any) -> int:
    first = run.items[0]
    if isinstance(first, Slots):
        return len(first.places)
    if isinstance(first, Opening):
        return len(tokenizer.opening)
    if isinstance(first, SpecialToken | Ending):
        return 1
    texts = _texts(run, tokenizer)
    if sum(map(len, texts)) > _SHORT:
        return sum(_joined(texts, tokenizer, run.inside)[1])
    return _remembered_length(tokenizer, texts, run.inside)


# Frames have the same few words before them in every conversation.
@functools.lru_cache(maxsize=8192)
def _remembered_length(tokenizer: Any, texts: tuple[str, ...], inside: bool) -> int:
    return sum(_joined(texts, tokenizer, inside)[1])


def _runs(items: Iterable[StyleItem], tokenizer: Any) -> list[_Run]:
    """Returns items in runs: a text with the ones that are joined to it, anything else alone."""
    runs: list[list[StyleItem]] = []
    for item in items:
        if isinstance(item, Words) and item.joined and runs and isinstance(runs[-1][-1], Words):
            runs[-1].append(item)
        else:
            runs.append([item])
    specials = [_special_of(run[0], tokenizer) for run in runs]
    beside = zip(runs, [None, *specials], [*specials[1:], None], strict=False)  # as many as there are runs
    return [_Run(found, before, behind) for found, before, behind in beside]


def _special_of(item: StyleItem, tokenizer: Any) -> int | None:
    """Returns the id of an item that is a special token."""
    if isinstance(item, Ending):
        return _end(tokenizer, item.written)
    return _special(tokenizer, item.name) if isinstance(item, SpecialToken) else None


def _run(run: _Run, tokenizer: Any) -> tuple[list[int], list[bool], list[int]]:
    """Returns ids, what is learned and places of a run."""
    first = run.items[0]
    if isinstance(first, Slots):
        count = len(first.places)
        return [0] * count, [False] * count, first.places.tolist()
    if isinstance(first, Opening):
        opening = list(tokenizer.opening)
        return opening, [False] * len(opening), [NO_PLACE] * len(opening)
    if isinstance(first, SpecialToken | Ending):
        special = _special_of(first, tokenizer)
        assert special is not None
        return [special], [first.learned], [NO_PLACE]
    texts = [item for item in run.items if isinstance(item, Words)]
    ids, counts = _joined(_texts(run, tokenizer), tokenizer, run.inside)
    says = [item.learned for item, count in zip(texts, counts, strict=True) for _ in range(count)]
    return ids, says, [NO_PLACE] * len(ids)


def _texts(run: _Run, tokenizer: Any) -> tuple[str, ...]:
    """Returns the texts of a run, as they are in one text with the special tokens beside them written out."""
    words = [item.text for item in run.items if isinstance(item, Words)]
    # Some tokens take the blanks beside them: Phi-3's do.
    if run.before is not None and tokenizer.takes_blanks(run.before)[1]:
        words[0] = words[0].lstrip()
    if run.behind is not None and tokenizer.takes_blanks(run.behind)[0]:
        words[-1] = words[-1].rstrip()
    return tuple(words)


def _joined(texts: Sequence[str], tokenizer: LanguageTokenizer, inside: bool) -> tuple[list[int], list[int]]:
    """Returns the ids of texts that follow each other, and how many of them are each text's.

    inside: whether they stand behind a special token, where some tokenizers give no prefix.
    """
    whole = _pieces(tokenizer, "".join(texts), inside)
    if len(texts) == 1:
        return whole, [len(whole)]
    # SentencePiece puts a blank before every text, which stands for the one at the text's beginning here.
    alone = [
        # Where a text begins without a blank there is none to stand for.
        _pieces(tokenizer, text.removeprefix(" "), inside=text[:1] != " ")
        if number
        else _pieces(tokenizer, text, inside)
        for number, text in enumerate(texts)
    ]
    counts = [len(ids) for ids in alone]
    if sum(counts) == len(whole):
        return whole, counts
    # A token reaches over a border. The originals stop here with an error; the texts one by one are as good.
    return [number for ids in alone for number in ids], counts


# Templates write the same few words a thousand times, such as "Frame7: ".
@functools.lru_cache(maxsize=8192)
def _remembered(tokenizer: Any, text: str, inside: bool) -> tuple[int, ...]:
    return tuple(tokenizer.pieces(text, plain=True, inside=inside))


def _pieces(tokenizer: Any, text: str, inside: bool = False) -> list[int]:
    if len(text) > _SHORT:
        found: list[int] = tokenizer.pieces(text, plain=True, inside=inside)
        return found
    return list(_remembered(tokenizer, text, inside))


@functools.lru_cache(maxsize=256)
def _end(tokenizer: Any, written: str) -> int:
    try:
        return _special(tokenizer, written)
    except UserError:
        found: int = tokenizer.eos
        return found


@functools.lru_cache(maxsize=256)
def _special(tokenizer: Any, token: str) -> int:
    found: int = tokenizer.special(token)
    return found
