"""The classes of a zero-shot test: their names, the right ones of each clip, and their prompts."""

from collections.abc import Iterable, Iterator, Sequence

from ivjax.data_pipelines.tokenizers.caption_text import action_prompts, clean_caption
from ivjax.errors import UserError, nearest
from ivjax.evals.items import Item, UnscoredClip

CAPTION = "caption"  # the attribute that a row's only caption stands for
ACTIONS = (CAPTION, "folder")  # attributes that are the names of actions, as they stand
ATTRIBUTE_PROMPTS = ("a video of a {}",)


def prompts_of(name: str, templates: Sequence[str]) -> tuple[str, ...]:
    """Returns the cleaned prompts of a class; without templates, the 16 of action recognition."""
    if not templates:
        return action_prompts(name)
    return tuple(clean_caption(template.replace("{}", name)) for template in templates)


def values_of(item: Item, attribute: str, classes: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the values of an attribute of a clip, those of further events (attribute2, ...) included.

    A value is one class as it stands; only if it is none of `classes` is it split at its commas.
    """
    values = list(_stored(item, attribute))
    if attribute not in ACTIONS:
        values = [part for value in values for part in _split(value, classes)]
    return tuple(dict.fromkeys(values))


def _stored(item: Item, attribute: str) -> Iterator[str]:
    if attribute == CAPTION and CAPTION not in item.attributes:
        yield from item.captions[:1]
    name, number = attribute, 1
    while name in item.attributes:
        yield item.attributes[name]
        number += 1
        name = f"{attribute}{number}"


def _split(value: str, classes: Sequence[str]) -> list[str]:
    if value in classes:  # a class such as "tai chi, outdoors" has a comma of its own
        return [value]
    return [part.strip() for part in value.split(",") if part.strip()]


def right_of(item: Item, attribute: str | None, classes: Sequence[str]) -> list[int]:
    """Returns the numbers of a clip's classes: its label, or those of the attribute's values."""
    if attribute is None:
        assert item.label is not None
        if item.label >= len(classes):
            raise UserError(
                f"clip {item.id} has label {item.label}, and the {len(classes)} classes are numbered "
                f"0 to {len(classes) - 1}; give the list of classes that the labels were made with"
            )
        return [item.label]
    values = values_of(item, attribute, classes)
    unknown = next((value for value in values if value not in classes), None)
    if unknown is not None:
        raise UserError(
            f"clip {item.id} has the {attribute} {unknown!r}, which is none of the {len(classes)} classes"
            f"{nearest(unknown, classes)}"
        )
    return [classes.index(value) for value in values]


class Labelled:
    """Yields the items that can be scored: those with the attribute, or with a label if there is none.

    Counts the others, and remembers what attributes there are. One whose class is none of the given ones
    is an error at once, not after all clips have been embedded.
    """

    def __init__(self, items: Iterable[Item | UnscoredClip], attribute: str | None, classes: Sequence[str]):
        self._items = items
        self._attribute = attribute
        self._classes = classes
        self._names: dict[str, None] = {}
        self.without = 0

    def __iter__(self) -> Iterator[Item | UnscoredClip]:
        for item in self._items:
            if isinstance(item, Item) and not self._has(item):
                self.without += 1
                continue
            if isinstance(item, Item) and self._classes:  # a wrong class list is better met now
                right_of(item, self._attribute, self._classes)
            yield item

    def _has(self, item: Item) -> bool:
        self._names.update(dict.fromkeys(item.attributes))
        if self._attribute is None:
            return item.label is not None
        return bool(values_of(item, self._attribute))

    def missing(self, path: str) -> UserError:
        """Returns the error for a set without a single item that can be scored."""
        has = f"they have {', '.join(sorted(self._names))}" if self._names else "they have none"
        if self._attribute is None:
            return UserError(f"no clip of {path} has a label; name an attribute with --attribute ({has})")
        hint = nearest(self._attribute, list(self._names)) or f"; {has}"
        return UserError(f"no clip of {path} has an attribute {self._attribute!r}{hint}")


def sorted_values(values: Iterable[str]) -> tuple[str, ...]:
    """Returns each value once, sorted; numbers by size."""
    # By size, or class 10 would come before class 2.
    return tuple(sorted(set(values), key=lambda text: (int(text) if text.isdecimal() else -1, text)))
