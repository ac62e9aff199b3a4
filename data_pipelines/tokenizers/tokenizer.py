"""The protocols of tokenizers, token ids of a fixed length, and text out of ids."""

import codecs
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ivjax.errors import UserError


class Tokenizer(Protocol):
    """Options that name a vocabulary. Each process loads the vocabulary when it first uses it."""

    @property
    def length(self) -> int:
        """The number of ids of one text, padding included."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """The number of ids; every id is below it."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of a text, cut or padded as the original does: (length,) int32."""
        ...


class TextStream:
    """Makes text of ids. Bytes of a character that is not whole yet are held back until it is."""

    def __init__(self, bytes_of: Callable[[int], bytes], drops_blank: bool):
        """Starts a text.

        Args:
            bytes_of: the UTF-8 bytes of an id, those of a part of a character included.
            drops_blank: whether a blank at the start is left out: that of the model's dummy prefix.
        """
        self._bytes_of, self._drops_blank = bytes_of, drops_blank
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, *ids: int) -> str:
        """Returns the text that is certain after these ids too; "" if all of it is held back."""
        return self._shown(self._decoder.decode(b"".join(self._bytes_of(int(number)) for number in ids)))

    def end(self) -> str:
        """Returns what was held back, with a replacement character for bytes that never became one."""
        return self._shown(self._decoder.decode(b"", final=True))

    def _shown(self, text: str) -> str:
        if text and self._drops_blank:
            self._drops_blank = False
            return text.removeprefix(" ")
        return text


class LanguageTokenizer(Tokenizer, Protocol):
    """A tokenizer of a language model: parts of a text to ids, and ids back to text.

    A prompt or a conversation is put together from parts, each tokenised by itself as the originals do. No
    start or end token is added to a part; those written out in it, such as `<|im_end|>`, become their ids.

        ids = [*tokenizer.opening, *tokenizer.pieces("[INST] <Video>")]
        ids += [tokenizer.visual] * size.visual_tokens(frames)
        ids += tokenizer.pieces("</Video> What happens? [/INST]")

    An answer is read whole by `decode(ids)`, or token by token:

        text = tokenizer.stream()
        for token in tokens:
            print(text.add(token), end="")
        print(text.end())
    """

    @property
    def opening(self) -> tuple[int, ...]:
        """The ids that a text begins with: the start token, or nothing for models without one."""
        ...

    @property
    def bos(self) -> int | None:
        """The start token, also where texts need not begin with it; None: the model has none."""
        ...

    @property
    def eos(self) -> int:
        """The end token."""
        ...

    @property
    def pad(self) -> int:
        """The id that fills up rows: the padding token, or the end token of models without one."""
        ...

    @property
    def stops(self) -> tuple[int, ...]:
        """The ids after which an answer ends, `eos` among them; the stops of a generation."""
        ...

    @property
    def visual(self) -> int | None:
        """The id at whose places visual tokens stand. It need not be a word. None: the model sees nothing."""
        ...

    def pieces(self, text: str, plain: bool = False, inside: bool = False) -> list[int]:
        """Returns the ids of a part of a text, its dummy prefix included where the model has one.

        Args:
            text: the part.
            plain: whether special tokens written out in it are read as plain text: so nothing that a
                stranger writes can end a turn.
            inside: whether the part stands behind a special token that the caller has put there by its id.
                Some tokenizers (Phi-3's) give a prefix to the start of a text alone.
        """
        ...

    def takes_blanks(self, number: int) -> tuple[bool, bool]:
        """Whether the special token of this id takes the blanks before it, and those behind it, in a text."""
        ...

    def special(self, token: str) -> int:
        """Returns the id of a token by its text, such as `<|im_start|>`; UserError if there is none."""
        ...

    def decode(self, ids: Iterable[int], specials: bool = False) -> str:
        """Returns the text of ids, without special tokens unless `specials`."""
        ...

    def stream(self, specials: bool = False) -> TextStream:
        """Returns what makes text of ids as they come."""
        ...


def fit(start: Sequence[int], ids: Sequence[int], end: Sequence[int], length: int, pad: int) -> np.ndarray:
    """Returns `start`, as many ids as fit, `end`, and padding: (length,) int32."""
    room = length - len(start) - len(end)
    if room < 0:
        raise UserError(f"a tokenizer of length {length} has no room for its special tokens; make it longer")
    row = np.full(length, pad, np.int32)
    # The end token always stays: CLIP's text encoder pools there.
    kept = [*start, *ids[:room], *end]
    row[: len(kept)] = kept
    return row


def vocabulary_file(
    path: str,
    kind: str,
    public_name: str,
    otherwise: str = "or train a SentencePiece model with `ivjax data tokenizer train` and use that",
) -> Path:
    """Returns the path of a vocabulary; raises if no file is there.

    `public_name` is what the file is called where it is published; `otherwise` is what else a user can do.
    """
    if not path:
        raise UserError(
            f"the {kind} tokenizer has no vocabulary file: set its path to {public_name}, {otherwise}"
        )
    found = Path(path).expanduser()
    if not found.is_file():
        raise UserError(
            f"the {kind} vocabulary {found} is missing: it is published as {public_name}; {otherwise}"
        )
    return found


def without_surrogates(text: str) -> str:
    """Replaces halves of characters, which UTF-8 cannot hold and packages refuse."""
    return text.encode("utf-8", "replace").decode()
