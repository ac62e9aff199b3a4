"""What the columns of a dataset say of a video: captions, a class, a conversation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ivjax.data_pipelines.sources.columns import (
    ALIASES,
    ClassLabel,
    captions_of,
    class_of,
    column,
    plain,
    read_class,
)
from ivjax.data_pipelines.sources.conversations import conversation_of, is_instruction
from ivjax.data_pipelines.sources.hub.media_column import ColumnFeatures
from ivjax.data_pipelines.sources.tables import Record
from ivjax.data_pipelines.store.records import Turn
from ivjax.errors import UserError

_CLASS = "ClassLabel"


@dataclass(frozen=True)
class AnnotationColumns:
    """Names of the columns that are read. None: by the names that columns usually have.

    Attributes:
        captions: columns of texts, or of lists of them; all are captions of the same clip.
        label: the column of the class.
        conversation: the column of turns.
        converses: whether a conversation is looked for.
        classes: the names of the classes in the order of their numbers, where the dataset names them.
    """

    captions: tuple[str, ...] | None = None
    label: str | None = None
    conversation: str | None = None
    converses: bool = True
    classes: tuple[str, ...] = ()

    def captions_in(self, record: Record, needed: bool) -> tuple[str, ...]:
        """Returns the captions of a row; ValueError if it has none where they are `needed`, or asked for."""
        if self.captions is None:
            found = column(record, "captions")
            # A dataset without any such column is one of labels, or of videos alone.
            there = any(plain(name) in ALIASES["captions"] for name in record)
            return captions_of(found) if found or (needed and there) else ()
        return tuple(text for name in self.captions for text in captions_of(record.get(name)))

    def class_in(self, record: Record) -> ClassLabel:
        """Returns the class of a row; ValueError if the dataset has no such class."""
        if self.label is None:
            return class_of(record)
        value = record.get(self.label)
        if isinstance(value, list):
            raise ValueError(f"its {self.label} is a list, and a clip has one class")
        found = read_class(value)
        if not self.classes or found.number is None:
            return found
        if found.number >= len(self.classes):
            raise ValueError(f"its {self.label} is {found.number}, and there are {len(self.classes)} classes")
        # By name, so that classes which the user gives in another order find it.
        return ClassLabel(name=self.classes[found.number])

    def conversation_in(self, record: Record) -> tuple[Turn, ...]:
        """Returns the conversation of a row; none if it has none."""
        if self.conversation is not None:
            return conversation_of({"conversations": record.get(self.conversation)})
        return conversation_of(record) if self.converses and is_instruction(record) else ()


def annotation_columns(
    names: Sequence[str],
    features: ColumnFeatures,
    where: str,
    caption_from: str | None = None,
    label_from: str | None = None,
    conversation_from: str | None = None,
) -> AnnotationColumns:
    """Returns the columns that a user names, and that of the classes; UserError for a missing one.

    Where captions or a class are asked for by name, no conversation is looked for.
    """
    captions = None if caption_from is None else tuple(name.strip() for name in caption_from.split(","))
    for name in (*(captions or ()), label_from, conversation_from):
        if name is not None and name not in names:
            raise UserError(f"the column {name} of {where} is not there; it has {', '.join(names)}")
    label = label_from or _class_column(features, where)
    classes = () if label is None else _class_names(features.get(label, {}), label, where)
    converses = caption_from is None and label_from is None
    return AnnotationColumns(captions, label, conversation_from, converses, classes)


def _class_column(features: ColumnFeatures, where: str) -> str | None:
    """Returns the column that `datasets` says is the class; None if it says it of none."""
    found = [name for name, feature in features.items() if feature.get("_type") == _CLASS]
    named = [name for name in found if plain(name) in ALIASES["label"]] or found
    if len(named) > 1:
        told = f"{where} has the columns {', '.join(named)} of classes"
        raise UserError(f"{told}; choose with --set label_from={named[0]}")
    return named[0] if named else None


def _class_names(feature: Mapping[str, Any], label: str, where: str) -> tuple[str, ...]:
    """Returns the names of a column's classes; none where `datasets` does not name them."""
    names = feature.get("names") if feature.get("_type") == _CLASS else ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise UserError(
            f"the class names of {label} of {where} are no list of words; write the dataset again"
        )
    if len(set(names)) < len(names):
        raise UserError(
            f"the class names of {label} of {where} are not all different; write the dataset again"
        )
    return tuple(names)
