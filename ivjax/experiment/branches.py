"""The branches of a value of an experiment: fields of a dataclass, items of a tuple, entries of a mapping."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Branch(NamedTuple):
    """A value below another one, and the type that it is declared with."""

    value: Any
    kind: Any


def branches_of(value: Any, kind: Any = Any, declared: bool = False) -> dict[str, Branch]:
    """Returns what lies below a value that is declared as `kind`, by the name that a dotted path uses.

    With `declared` the kinds hold what is declared beside types as well (ivjax/experiment/ranges.py).
    """
    if dataclasses.is_dataclass(value):
        kind_of_value: Any = type(value)  # type checkers do not know that dataclasses' types can be hashed
        kinds = _kinds(kind_of_value, declared)
        return {f.name: Branch(getattr(value, f.name), kinds[f.name]) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        arguments = _arguments(kind, Mapping)
        below = arguments[1] if len(arguments) == 2 else Any
        return {str(key): Branch(entry, below) for key, entry in value.items()}
    if isinstance(value, tuple):
        items = item_kinds(_arguments(kind, tuple), len(value)) or (Any,) * len(value)
        return {str(n): Branch(item, items[n]) for n, item in enumerate(value)}
    return {}


@functools.cache
def _kinds(type_: type, declared: bool) -> dict[str, Any]:
    # Not `field.type`, which is a text where the annotation is quoted.
    return typing.get_type_hints(type_, include_extras=declared)


def has_branches(value: Any) -> bool:
    """Whether a value is listed by its parts: dataclasses, mappings, and tuples that hold such."""
    if isinstance(value, tuple):
        # A tuple of plain values stays one value: `betas` reads better as a whole.
        return any(map(has_branches, value))
    # An empty mapping counts as a value, for by its parts it would not be listed at all.
    return dataclasses.is_dataclass(value) or (isinstance(value, Mapping) and bool(value))


def replaced(value: T, names: Sequence[str], new: Any) -> T:
    """Returns a copy of a value with what lies at a path, given as names, replaced as it is."""
    name, *rest = names
    if rest:
        new = replaced(branches_of(value)[name].value, rest, new)
    if isinstance(value, tuple):
        return type(value)(new if str(n) == name else item for n, item in enumerate(value))
    # Of its own type, which may be an immutable one.
    if isinstance(value, Mapping):
        return type(value)({key: new if str(key) == name else old for key, old in value.items()})  # type: ignore
    return dataclasses.replace(value, **{name: new})  # type: ignore[type-var]


def options_of(kind: Any) -> tuple[Any, ...]:
    """Returns the types of a union, or the type itself as the only one."""
    # `X | None` and `Optional[X]` are unions of two different types.
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def item_kinds(arguments: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """Returns the declared type of each of `count` items of a tuple[arguments]; () where it says nothing."""
    if arguments and arguments[-1] is Ellipsis:
        return arguments[:1] * count
    return arguments if len(arguments) == count else ()


def _arguments(kind: Any, origin: type) -> tuple[Any, ...]:
    """The arguments of the first type of a union that is an `origin`, such as tuple."""
    for option in options_of(kind):
        found = typing.get_origin(option) or option
        if isinstance(found, type) and issubclass(found, origin):
            return typing.get_args(option)
    return ()
