"""The protocol of conversation styles, and what they know of the media of a conversation."""

import abc
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ivjax.data_pipelines.dialogue.items import DialogueTokens, StyleItem, Words, count, encode
from ivjax.data_pipelines.store.dialogues import MEDIA_MARK
from ivjax.data_pipelines.store.records import MediaKind, Turn
from ivjax.data_pipelines.tokenizers.tokenizer import LanguageTokenizer


class SeenMedia(NamedTuple):
    """What the model sees of one video or image of a conversation.

    Attributes:
        kind: what it is.
        places: numbers of its visual tokens among those of the conversation, in the order of reading (n,).
        frames: how many frames of it are seen.
        times: seconds of the frames.
        seconds: how long it lasts.
    """

    kind: MediaKind
    places: np.ndarray
    frames: int = 1
    times: tuple[float, ...] = ()
    seconds: float = 0.0

    def groups(self) -> list[np.ndarray]:
        """Returns the places frame by frame."""
        return np.split(self.places, self.frames)


Content = str | SeenMedia  # a stretch of a turn: words, or a video or image that stands among them


class Style(Protocol):
    """How a conversation is written for a language model, and what of it the model learns to say.

    A frozen dataclass, so that configs can hold it.
    """

    @abc.abstractmethod
    def items(self, turns: Sequence[Turn], media: Sequence[SeenMedia]) -> list[StyleItem]:
        """Returns the text of a conversation. One that ends with a user's turn is left open for an answer."""

    def question(self, turns: Sequence[Turn]) -> str:
        """Returns the words that a bridge reads: the instruction."""
        return instruction_of(turns)

    @property
    def always(self) -> tuple[str, ...]:
        """Texts whose tokens are learned wherever they stand."""
        return ()

    @property
    def ends(self) -> tuple[str, ...]:
        """Words that end an answer, beside the tokenizer's end tokens."""
        return ()

    @property
    def writes_times(self) -> bool:
        """Whether the text names the times of frames, so that its length depends on which are read."""
        return False

    @property
    def writes_frames(self) -> bool:
        """Whether the text has a place for each frame, which then needs visual tokens of its own."""
        return False

    def open_items(
        self, turns: Sequence[Turn], media: Sequence[SeenMedia], begin: str = ""
    ) -> list[StyleItem]:
        """Returns the text up to where an answer goes on behind the words `begin`, as training writes it."""
        if not begin:
            return self.items(turns, media)
        items = self.items([*turns, Turn("assistant", begin)], media)
        place, words = [
            (place, item)
            for place, item in enumerate(items)
            if isinstance(item, Words) and begin in item.text
        ][-1]
        # Without what ends the answer.
        return [*items[:place], words._replace(text=words.text[: words.text.rindex(begin) + len(begin)])]

    def encode(
        self, turns: Sequence[Turn], media: Sequence[SeenMedia], tokenizer: LanguageTokenizer
    ) -> DialogueTokens:
        """Returns the arrays of a conversation."""
        return encode(self.items(turns, media), tokenizer, self.always)

    def count(self, turns: Sequence[Turn], media: Sequence[SeenMedia], tokenizer: LanguageTokenizer) -> int:
        """Returns how many tokens `encode` makes of a conversation."""
        return count(self.items(turns, media), tokenizer)


def instruction_of(turns: Sequence[Turn]) -> str:
    """Returns the text of the system's turn; empty if there is none."""
    return next((turn.text for turn in turns if turn.role == "system"), "")


def spoken(turns: Sequence[Turn]) -> list[Turn]:
    """Returns the turns of user and assistant."""
    return [turn for turn in turns if turn.role != "system"]


def words_of(turn: Turn) -> str:
    """Returns the words of a turn without marks of media."""
    return turn.text.replace(MEDIA_MARK, "").strip()


def contents(turns: Sequence[Turn], media: Sequence[SeenMedia]) -> Iterator[tuple[Turn, list[Content]]]:
    """Yields the turns of user and assistant with their contents.

    Each mark in a user's turn stands for the next of `media`; those without a mark come first of all.
    """
    talk = spoken(turns)
    marks = sum(turn.text.count(MEDIA_MARK) for turn in talk if turn.role == "user")
    unmarked = len(media) - marks
    if unmarked < 0:
        raise ValueError(f"the conversation has {marks} marks of media and {len(media)} media")
    coming = iter(media)
    leading: list[Content] = [next(coming) for _ in range(unmarked)]
    for turn in talk:
        if turn.role != "user":
            yield turn, [turn.text]
            continue
        words, *rest = turn.text.split(MEDIA_MARK)
        found: list[Content] = [*leading, words]
        for text in rest:
            found += [next(coming), text]
        yield turn, found
        leading = []
