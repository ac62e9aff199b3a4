"""Dataclass fields that are command-line flags: `option` declares one, `options_of` reads them back."""

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
REQUIRED: Any = dataclasses.MISSING


def option(default: T, help: str, *, flag: str | None = "", metavar: str | None = None) -> T:
    """Returns a dataclass field that is also a command-line flag.

    Args:
        default: value of the field, or REQUIRED.
        help: what `--help` says of it.
        flag: name of the flag without dashes ("": the field's name with dashes; None: no flag).
        metavar: what the help calls the value.
    """
    told = {"help": help, "flag": flag, "metavar": metavar}
    found: Any = dataclasses.field(default=default, metadata=told)
    return found


@dataclass(frozen=True)
class OptionField:
    """A field as a command line sees it.

    Attributes:
        name: the field's name.
        flag: the flag with its dashes (None: it has none).
        kind: type of one value.
        choices: the values that are allowed (empty: any of `kind`).
        repeated: whether the flag may be given several times, and the field is a tuple of what was given.
        default: value of the field, or REQUIRED.
        help: one line.
        metavar: what the help calls the value.
    """

    name: str
    flag: str | None
    kind: type
    choices: tuple[Any, ...]
    repeated: bool
    default: Any
    help: str
    metavar: str | None

    @property
    def needed(self) -> bool:
        """Whether the dataclass cannot be made without it."""
        return self.default is REQUIRED


def options_of(kind: type) -> tuple[OptionField, ...]:
    """Returns the fields of a dataclass that `option` declared, inherited ones first."""
    hints = typing.get_type_hints(kind)
    return tuple(_read(f, hints[f.name]) for f in dataclasses.fields(kind) if "help" in f.metadata)


def _read(field: dataclasses.Field[Any], hint: Any) -> OptionField:
    told = field.metadata
    flag = None if told["flag"] is None else f"--{told['flag'] or field.name.replace('_', '-')}"
    inner = _without_none(hint)
    repeated = typing.get_origin(inner) is tuple
    if repeated:
        inner = typing.get_args(inner)[0]
    choices = typing.get_args(inner) if typing.get_origin(inner) is typing.Literal else ()
    return OptionField(
        name=field.name,
        flag=flag,
        kind=type(choices[0]) if choices else inner,
        choices=choices,
        repeated=repeated,
        default=field.default,
        help=told["help"],
        metavar=told["metavar"],
    )


def _without_none(hint: Any) -> Any:
    """The one type of `X | None`; other hints as they are."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
    if len(kinds) != 1:
        raise TypeError(f"a flag has one type, not {hint}")
    return kinds[0]
