"""Whether the values of a dataclass are of the declared types: files from anybody may hold anything."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from ivjax.errors import UserError
from ivjax.experiment.branches import branches_of, options_of

_SHOWN = 60  # characters of a wrong value
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "none"}


def check_kinds(value: Any, path: str = "", kind: Any = Any) -> None:
    """Raises UserError for the first value, in the fields of a dataclass and below, of another type."""
    for name, branch in branches_of(value, kind).items():
        place = f"{path}.{name}" if path else name
        if not any(_is(branch.value, option) for option in options_of(branch.kind)):
            expected = " or ".join(_NAMES.get(option, str(option)) for option in options_of(branch.kind))
            raise UserError(f"{place} is {repr(branch.value)[:_SHOWN]}; it must be {expected}")
        check_kinds(branch.value, place, branch.kind)


def _is(value: Any, kind: Any) -> bool:
    """Whether a value may stand where a type is declared; what lies below it is looked at later."""
    if kind is float:
        return type(value) in (int, float)
    if kind in _NAMES:
        # Not isinstance, for which true is a whole number.
        return type(value) is kind
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return isinstance(value, str | int) and value in typing.get_args(kind)
    if origin is tuple:
        arguments = typing.get_args(kind) or (Any, ...)
        return isinstance(value, tuple) and (arguments[-1] is Ellipsis or len(arguments) == len(value))
    if origin is Mapping:
        return isinstance(value, Mapping)
    # A class, or a protocol that some classes follow; which of them is chosen before, by the presets.
    return kind is Any or dataclasses.is_dataclass(value)
