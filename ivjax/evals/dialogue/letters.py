"""Reads the chosen option out of a reply: strictly, or as the originals do, quirks included."""

import re
import string
from collections.abc import Sequence
from typing import Literal

ReplyRule = Literal["first_word", "lone_letter", "any_letter"]  # the originals' lenient rules

_STRICT = re.compile(r"^\(?([A-Z])\)?[.:]?(?:\s+(.*))?$", re.DOTALL)
_LETTER_AND_DOT = re.compile(r"^([A-E])\.\s*(.+)$", re.IGNORECASE)
_DIGITS_AROUND_COMMA = re.compile(r"\d,\d")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_MOST_DOTS = 32  # the original passes a flag where the number of replacements stands
# What Video-MME's script takes away. Missing commas there join two of them into one.
_PREFIXES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
)


def letter_of(number: int) -> str:
    """Returns the letter of an option by its number, from 0."""
    return string.ascii_uppercase[number]


def strict_choice(reply: str, options: Sequence[str]) -> int | None:
    """Returns the number of the option that a reply names and nothing else; None if it names none.

    Allowed are the letter (`B`, `(B)`, `B.`, `B:`), the letter and its option's words, and these words alone.
    """
    said = reply.strip()
    found = _STRICT.match(said)
    place = string.ascii_uppercase.index(found[1]) if found else len(options)
    if found and place < len(options) and (not found[2] or _same(found[2], options[place])):
        return place
    return next((number for number, option in enumerate(options) if _same(said, option)), None)


def is_right(rule: ReplyRule, reply: str, options: Sequence[str], answer: int) -> bool:
    """Whether an original would count a reply as the option number `answer`."""
    if rule == "first_word":
        return right_by_first_word(reply, f"({letter_of(answer)}) {options[answer]}")
    if rule == "lone_letter":
        return right_by_lone_letter(reply, letter_of(answer))
    return first_letter(reply) == letter_of(answer)


def right_by_first_word(reply: str, answer: str) -> bool:
    """Whether VideoChat2's script for MVBench counts a reply as `answer`, such as `(A) red`.

    It compares the first words, and one need only be a part of the other: nothing, or `(`, is always right.
    """
    said, wanted = (text.lower().split(" ")[0] for text in (reply, answer))
    return said.replace(".", "") in wanted or wanted in said


def right_by_lone_letter(reply: str, answer: str) -> bool:
    """Whether VideoChat-Flash's form of lmms-eval counts a reply as `answer`.

    The first letter from A to E that stands alone is the reply's, so that the word "a" is answer A.
    """
    return _lone_letter(reply) == _lone_letter(answer)


def first_letter(reply: str) -> str:
    """Returns the first capital letter from A to D behind Video-MME's known prefixes, or ""."""
    said = reply.strip()
    for prefix in _PREFIXES:
        said = said.replace(prefix, "")
    found = re.search("[ABCD]", said)
    return found[0] if found else ""


def _lone_letter(text: str) -> str:
    found = _LETTER_AND_DOT.match(text.strip())
    if found:
        return found[1].upper()
    plain = _without_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    plain = plain.strip("'").strip('"').strip(")").strip("(").strip().lower()
    alone = re.search(r"\b([a-e])\b", plain)
    return alone[1].upper() if alone else plain


def _without_punctuation(text: str) -> str:
    """Returns text with signs deleted where they touch a blank, and replaced by blanks elsewhere."""
    everywhere = _DIGITS_AROUND_COMMA.search(text) is not None
    found = text
    for sign in _PUNCTUATION:
        deleted = everywhere or f"{sign} " in text or f" {sign}" in text
        found = found.replace(sign, "" if deleted else " ")
    return re.sub(r"\.(?!\d)", "", found, count=_MOST_DOTS)


def _same(one: str, other: str) -> bool:
    return plain_words(one) == plain_words(other)


def plain_words(text: str) -> str:
    """Returns a text in lower case without blanks around it and without its last dot."""
    return " ".join(text.lower().split()).removesuffix(".")
