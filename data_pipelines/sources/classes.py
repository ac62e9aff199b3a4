"""Class names: words that stand as labels become numbers."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ivjax.data_pipelines.sources.row import BadRow, SourceRow
from ivjax.data_pipelines.store.clips import class_names, is_corpus
from ivjax.errors import UserError

_SHOWN = 5  # names that a line spells out


@runtime_checkable
class NamesClasses(Protocol):
    """A source that says what its classes are called, in the order of their numbers."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names; none if they are to be taken from the rows."""


def given_classes(rows: Iterable[SourceRow | BadRow], path: str | None = None) -> tuple[str, ...]:
    """Returns the class names that a user gives as a file or a corpus, else those that the source gives."""
    if path:
        return read_classes(path)
    return rows.class_names if isinstance(rows, NamesClasses) else ()


class ClassNumbers:
    """Numbers the classes of rows: in the order of the given names, else sorted as plain text.

    First every row goes through `fault`, then those that are kept through `number`.

    Args:
        source: what messages call the rows.
        given: class names in the order of their numbers; empty: those of the rows.
    """

    def __init__(self, source: str, given: Sequence[str] = ()):
        self._source = source
        self._given = dict(zip(given, range(len(given)), strict=True))
        self._found: set[str] = set()
        self._word: SourceRow | None = None  # the first row whose class is a word
        self._number: SourceRow | None = None  # the first row whose class is a number

    def fault(self, row: SourceRow) -> str | None:
        """Takes note of a row's class; returns why it is none of the given ones."""
        if row.class_name:
            self._found.add(row.class_name)
            self._word = self._word or row
        elif row.label is not None:
            self._number = self._number or row
        if not self._given:
            return None
        if row.class_name and row.class_name not in self._given:
            return f"its class {row.class_name!r} is none of the {len(self._given)} given ones"
        if row.label is not None and row.label >= len(self._given):
            return f"its class {row.label} is none of the {len(self._given)} given ones, which count from 0"
        return None

    @property
    def met(self) -> bool:
        """Whether a row had a class."""
        return self._word is not None or self._number is not None

    def names(self) -> tuple[str, ...]:
        """Returns the class names in the order of their numbers; none if all classes are numbers."""
        if self._given:
            return tuple(self._given)
        if self._word is not None and self._number is not None:
            # One "unknown" in a column of numbers would renumber all of its classes.
            raise UserError(
                f"the classes of {self._source} are words ({self._word.class_name!r} of {self._word.id}) and "
                f"numbers ({self._number.label} of {self._number.id}); make them one kind, or give the names "
                "in the order of their numbers (--classes FILE)"
            )
        # In plain text order 10 comes before 2, but so do PyTorch's folders of classes.
        return tuple(sorted(self._found))

    def number(self, rows: Iterable[SourceRow]) -> list[SourceRow]:
        """Returns rows whose classes are numbers; the given ones have no fault."""
        numbers = {name: number for number, name in enumerate(self.names())}
        return [
            dataclasses.replace(row, label=numbers[row.class_name]) if row.class_name else row for row in rows
        ]


def number_classes(
    rows: Iterable[SourceRow | BadRow], source: str, given: Sequence[str] = ()
) -> tuple[list[SourceRow | BadRow], tuple[str, ...]]:
    """Returns rows with numbers for classes, and the class names; a row of another class is a bad one."""
    classes = ClassNumbers(source, given)
    found: list[SourceRow | BadRow] = []
    for row in rows:
        if isinstance(row, SourceRow) and (fault := classes.fault(row)) is not None:
            row = BadRow(row.id, fault)
        found.append(row)
    good = iter(classes.number(row for row in found if isinstance(row, SourceRow)))
    return [row if isinstance(row, BadRow) else next(good) for row in found], classes.names()


def read_classes(path: str) -> tuple[str, ...]:
    """Returns the class names of a file or of a corpus, in the order of their numbers.

    A file holds a name a line; or, as JSON, a list, {name: number} or {number: name}.
    """
    if is_corpus(path):
        names = class_names(path)
        if not names:
            raise UserError(f"{path} has no class names; build it from a source whose labels are words")
        return names
    file = Path(path).expanduser()
    # A table is read by lines without an error, and its lines are no names.
    if file.suffix.lower() in (".csv", ".tsv"):
        raise UserError(f"{path} is a table; write the class names alone, one a line, or as JSON")
    try:
        text = file.read_text("utf-8-sig")
        listed = _of_json(json.loads(text)) if file.suffix == ".json" else text.splitlines()
    except FileNotFoundError:
        raise UserError(
            f"{path} is neither a file nor a corpus; name a file with a class name a line"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read as class names: {error}; write a name a line") from None
    return _checked(path, [name.strip() for name in listed])


def _of_json(content: Any) -> list[str]:
    if isinstance(content, Mapping):
        # Something-Something's labels are an object of names and numbers, which are text there. Such objects
        # come both ways round, and decimal keys tell them apart.
        if not all(map(str.isdecimal, content)):
            content = {number: name for name, number in content.items()}
        numbers = {int(number): str(name) for number, name in content.items()}
        if sorted(numbers) != list(range(len(content))):
            raise ValueError("its numbers are not 0, 1, 2 ... without gaps")
        return [numbers[number] for number in range(len(numbers))]
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content
    raise ValueError("it is neither a list of names nor an object of names and numbers")


def _checked(path: str, names: Sequence[str]) -> tuple[str, ...]:
    # Blank lines at the end are the editor's; one between names would shift the numbers of all that follow.
    while names and not names[-1]:
        names = names[:-1]
    if not names or not all(names):
        raise UserError(f"{path} holds {'an empty line' if names else 'no class names'}; write a name a line")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise UserError(f"{path} names the class {name!r} {times} times; each has one number")
    return tuple(names)


def describe_classes(names: Sequence[str]) -> str:
    """Returns the number of classes, and the first of them with their numbers."""
    shown = ", ".join(f"{number} {name}" for number, name in enumerate(names[:_SHOWN]))
    return f"{len(names):,} classes: {shown}" + ", ..." * (len(names) > _SHOWN)
