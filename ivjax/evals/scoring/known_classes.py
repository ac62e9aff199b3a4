"""Which class of a model a label of a test set means: by name where both have names, else by number."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ivjax.data_pipelines.sources.classes import read_classes
from ivjax.errors import UserError, nearest
from ivjax.evals.items import AnnotationItems, CorpusItems, Item, UnscoredClip

_TOLD = 20  # class names that a result lists


@dataclass(frozen=True)
class KnownClasses:
    """The classes of a model, and those of a test set.

    Attributes:
        names: class names in the order of the model's numbers; empty: nobody says them.
        of_test: class names in the order of the test set's numbers; empty: these are the model's.
        origin: who says the names.
    """

    names: tuple[str, ...] = ()
    of_test: tuple[str, ...] = ()
    origin: str = "nobody"

    def renumbered(self, items: Iterable[Item | UnscoredClip]) -> Iterator[Item | UnscoredClip]:
        """Yields items with the model's numbers for labels; UserError for a class that the model lacks."""
        for item in items:
            if self.of_test and isinstance(item, Item) and item.label is not None:
                item = replace(item, label=self._number(item, item.label))
            yield item

    def _number(self, item: Item, label: int) -> int:
        if label >= len(self.of_test):
            raise UserError(
                f"clip {item.id} has label {label}, and its test set names {len(self.of_test)} classes"
            )
        name = self.of_test[label]
        if name not in self.names:
            first = ", ".join(self.names[:5]) + ", ..." * (len(self.names) > 5)
            hint = nearest(name, self.names)
            raise UserError(
                f"clip {item.id} is of the class {name!r}, which is none of the model's {len(self.names)} "
                f"({first}){hint}; test it on clips of its own classes"
            )
        return self.names.index(name)

    def name(self, number: int) -> str | None:
        """Returns the name of a class of the model."""
        return self.names[number] if number < len(self.names) else None

    def facts(self) -> dict[str, Any]:
        """Returns what a result states of it."""
        if not self.names:
            return {"labels are": "numbers of the model's classes"}
        matched = "matched by name" if self.of_test else "numbers of the model's classes"
        names = list(self.names) if len(self.names) <= _TOLD else f"{len(self.names)}"
        return {"class names": names, "class names by": self.origin, "labels are": matched}


def known_classes(
    items: AnnotationItems | CorpusItems, of_model: Sequence[str], classes: int, file: str | None = None
) -> KnownClasses:
    """Returns how labels of a test set become classes of a model with `classes` of them.

    Args:
        items: the test set.
        of_model: the class names that the model's run holds.
        classes: how many the model has.
        file: a file or corpus of class names in the order of the model's numbers, which comes first.
    """
    names, origin = tuple(of_model), "the run"
    if file is not None:
        names, origin = read_classes(file), file
    if names and len(names) != classes:
        raise UserError(
            f"{origin} names {len(names)} classes and the model has {classes}; give its own names"
        )
    if names:
        return KnownClasses(names, items.classes, origin)
    # Words of a list are numbered by their order in it, which says nothing of the model's order.
    if items.classes and isinstance(items, AnnotationItems):
        raise UserError(
            "the labels of the test set are words, and the weights do not say the names of their classes; "
            "name a file of them in the order of their numbers with --classes"
        )
    # A corpus may have been built with the model's numbers, and its names are all there is.
    return KnownClasses(items.classes if len(items.classes) == classes else (), (), "the test set")
