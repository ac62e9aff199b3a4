"""Conversion of records to rows. A record with an error becomes a BadRow and stops nothing."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from ivjax.data_pipelines.sources.row import BAD, BadRow, RowError, SourceRow

T = TypeVar("T")

# What odd records provoke; anything else is a fault of this program and must be seen.
_FAULTS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError)


def convert(
    found: Iterable[tuple[str, T] | BadRow], make: Callable[[T], Iterable[SourceRow]]
) -> Iterator[SourceRow | BadRow]:
    """Yields the rows that `make` reads from each (where, record), with ids that are all different."""
    ids: Counter[str] = Counter()
    for item in found:
        if isinstance(item, BadRow):
            yield item
            continue
        where, record = item
        try:
            rows = [_storable(row) for row in make(record)]
        except _FAULTS as error:
            cause = error.cause if isinstance(error, RowError) else BAD
            yield BadRow(_plain_text(where), _plain_text(_reason(error)), cause)
            continue
        for row in rows:
            yield _distinct(row, ids)


def _reason(error: Exception) -> str:
    """Returns the reason of a BadRow."""
    # Our own checks raise ValueError with a sentence; other errors come from records of an odd shape.
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if isinstance(error, ValueError | OSError):
        return str(error)
    return f"its fields are not of the expected shape ({type(error).__name__}: {error})"


def _storable(row: SourceRow) -> SourceRow:
    """Returns the row; ValueError if a text of it is not UTF-8, which every later step writes."""
    texts = [row.id, row.path, row.video, row.class_name, *row.captions, *row.more]
    texts += [*(turn.text for turn in row.conversation), *row.scores]
    texts += [*row.texts, *(text for found in row.texts.values() for text in found)]
    texts += [*row.attributes, *row.attributes.values()]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise ValueError("its text or its file name is not UTF-8") from None
    return row


def _distinct(row: SourceRow, ids: Counter[str]) -> SourceRow:
    """Returns the row with a number behind its id if the id has come before."""
    id = row.id
    while ids[id]:
        ids[row.id] += 1
        # Ids name clips in reports and draws; several captions of one span would share one.
        id = f"{row.id}#{ids[row.id]}"
    ids[id] += 1
    return row if id == row.id else dataclasses.replace(row, id=id)


def _plain_text(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
