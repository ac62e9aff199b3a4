"""Multiple choice: a question with lettered options, and the one that is right."""

import re
import string
from collections.abc import Mapping
from typing import Any, NamedTuple

from ivjax.data_pipelines.sources.row import RowError

_COLUMNS = ("options", "candidates", "choices")
_LETTERED = re.compile(r"^\(?([A-Z])[).:]\s*(.+)$", re.DOTALL)  # (A) red, A. red, A) red, A: red
_CAUSE = "choices without letters"


class Choice(NamedTuple):
    """A question with its options below it, and the right one, with its letter."""

    question: str
    answer: str


def options_column(record: Mapping[str, Any]) -> str | None:
    """Returns the name of a row's column of options; None if it has none."""
    return next((name for name in _COLUMNS if record.get(name)), None)


def lettered(question: str, options: Any, answer: Any) -> Choice:
    """Returns a multiple-choice question as `(A) ...` lines; RowError if its answer is none of them.

    The options are a list of texts, with letters or without; the answer is one of the texts, its letter or
    its number, from 0.
    """
    if not isinstance(options, list) or not all(isinstance(option, str) and option for option in options):
        raise RowError(f"its choices {str(options)[:80]!r} have no letters; write a list of texts", _CAUSE)
    if not 2 <= len(options) <= len(string.ascii_uppercase):
        raise RowError(f"it has {len(options)} choices, not 2 to {len(string.ascii_uppercase)}", _CAUSE)
    texts = [option.strip() for option in options]
    found = [_LETTERED.match(text) for text in texts]
    # Some of them without the first are words, such as the name J. K. Rowling.
    if found[0] or all(found):
        letters = [match and match[1] for match in found]
        if letters != list(string.ascii_uppercase[: len(options)]):
            raise RowError(f"the letters of its choices are {letters}, not A, B, C in order", _CAUSE)
        texts = [match[2].strip() for match in found if match]
    lines = [f"({letter}) {text}" for letter, text in zip(string.ascii_uppercase, texts, strict=False)]
    return Choice("\n".join([question, *lines]), lines[_right(answer, texts)])


def parted(text: str) -> tuple[str, tuple[str, ...]]:
    """Returns a question without the lettered lines below it, and the options that stand there.

    The counterpart of `lettered`; a question without such lines has no options. If the question has a list
    with letters of its own, the last one is that of the options.
    """
    lines = text.splitlines()
    options: list[str] = []
    first = len(lines)
    for number, line in enumerate(lines):
        found = _LETTERED.match(line.strip())
        if found and found[1] == "A":
            first, options = number, [found[2].strip()]
        elif found and options and found[1] == string.ascii_uppercase[len(options)]:
            options.append(found[2].strip())
        elif options:
            options[-1] += f"\n{line}"  # an option of several lines
    if len(options) < 2:
        return text, ()
    return "\n".join(lines[:first]).strip(), tuple(option.strip() for option in options)


def _right(answer: Any, texts: list[str]) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(texts):
        return answer
    said = str(answer).strip()
    if said in texts:
        return texts.index(said)
    letter = _LETTERED.match(said) or re.match(r"^\(?([A-Z])\)?$", said)
    place = string.ascii_uppercase.index(letter[1]) if letter else -1
    if 0 <= place < len(texts):
        return place
    raise RowError(f"its answer {said!r} is none of its choices", "no answer")
