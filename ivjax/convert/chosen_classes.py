"""Reads a classifier's file with other classes in its head.

FILE?head=400 keeps the first 400 classes, FILE?head=LIST.json those in a JSON list, FILE?head=none no head.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ivjax.convert.engine.family import WRAPPERS
from ivjax.convert.engine.own_format import is_own
from ivjax.convert.formats.tensors import Renamed, Shape, Tensors
from ivjax.errors import UserError

_MARK = "?head="
# As the originals and as transformers call it.
_HEADS = ("head.weight", "head.bias", "classifier.weight", "classifier.bias")


def split_classes(path: str) -> tuple[str, str] | None:
    """Returns the file and the classes that `path` asks for, or None if it asks for none in particular."""
    file, mark, asked = path.rpartition(_MARK)
    return (file, asked) if mark else None


def with_classes(whole: Tensors, asked: str, what: str) -> Tensors:
    """Returns the tensors of file `what` with the head that is asked for."""
    in_own_format = is_own(whole)
    names = ("head/kernel", "head/bias") if in_own_format else _HEADS
    head = [p + name for p in ("", *WRAPPERS) for name in names if p + name in whole]
    if not head:
        raise UserError(f"{what} holds no head whose classes could be chosen; leave out {_MARK}{asked}")
    if asked == "none":
        return Renamed(whole, {name: name for name in whole if name not in head})
    # Kernels are (width, classes) here and (classes, width) in the originals; a bias has one axis.
    return _ChosenClasses(whole, head, -1 if in_own_format else 0, _classes(asked), what)


class _ChosenClasses(Renamed):
    """Tensors of which those in `head` keep only some classes, along `axis`, in the order given."""

    def __init__(self, whole: Tensors, head: Sequence[str], axis: int, classes: Sequence[int], what: str):
        super().__init__(whole, {name: name for name in whole})
        there = min((whole.shape(name) or (0,))[axis] for name in head)
        # A range, whose last one is its highest, may be too long to go through.
        highest = classes[-1] if isinstance(classes, range) else max(classes)
        if highest >= there:
            raise UserError(
                f"class {highest} is wanted of {what}, which has {there} classes; "
                "choose a list that was made for it"
            )
        self._head, self._axis, self._classes = head, axis, np.asarray(classes)

    def shape(self, name: str) -> Shape:
        shape = list(super().shape(name))
        if name in self._head:
            shape[self._axis] = len(self._classes)
        return tuple(shape)

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = super().__getitem__(name)
        return tensor.take(self._classes, self._axis) if name in self._head else tensor


def _classes(asked: str) -> Sequence[int]:
    """Returns the numbers of the classes: the first ones, or those of a JSON list."""
    # No model tells a billion classes apart, and Python reads no number of thousands of digits.
    number = asked.isdecimal() and len(asked) < 10
    classes = range(int(asked)) if number else _listed(Path(asked).expanduser())
    if not classes:
        raise UserError(f"{_MARK}{asked} asks for no class; ask for at least one, or write {_MARK}none")
    return classes


def _listed(file: Path) -> list[int]:
    try:
        classes = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"the list of classes {file} cannot be read ({error}); give JSON, or a number"
        ) from None
    # Not isinstance, for which true and false are numbers.
    if not isinstance(classes, list) or not all(type(number) is int and number >= 0 for number in classes):
        raise UserError(f"{file} is no JSON list of numbers of classes, such as [0, 3, 7]; mend it")
    return classes
