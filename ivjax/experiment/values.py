"""Texts of overrides as values of declared types: numbers, words, tuples, presets, `Name(field=value)`."""

import ast
import dataclasses
import inspect
import math
import re
import sys
import typing
from collections.abc import Mapping
from typing import Any

from ivjax.errors import UserError, readable
from ivjax.experiment import late
from ivjax.experiment.branches import item_kinds, options_of

# Python says in either way that a text is nested too deeply.
_NESTED = (RecursionError, MemoryError)
# What a text that is no value of a type makes its reader raise; an unknown class raises the last two.
_UNREADABLE = (ValueError, SyntaxError, TypeError, KeyError, *_NESTED, ImportError, AttributeError)
_SHOWN = 300  # characters of a text that an error repeats
_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


class _MisfitError(Exception):
    """The text is no value of the type."""


def read_value(kind: Any, old: Any, text: str, path: str) -> Any:
    """Returns `text` as a value of type `kind`, in place of `old`; `path` is for the error."""
    try:
        return _read(kind, old, text)
    except _MisfitError:
        options = [option for option in options_of(kind) if option is not type(None)]
        expected = " or ".join(_describe(option, old) for option in options)
        shown = readable(text, _SHOWN)
        raise UserError(f"{path}={shown}: expected {expected}, got {shown!r}") from None


def default_of(kind: Any) -> Any:
    """Returns the only dataclass of an optional type with its defaults; None if one has no default."""
    classes = [option for option in options_of(kind) if dataclasses.is_dataclass(option)]
    # Of several classes none is meant more than the others.
    if len(classes) != 1 or _required(classes[0]):
        return None
    (only,) = classes
    return only()  # type: ignore[operator]


def ways_to_write(kind: Any, old: Any) -> list[str]:
    """Returns what an override may write for a dataclass: presets, and calls with the required fields."""
    return [*_presets(kind, old), *map(way_to_write, _classes(kind, old))]


def way_to_write(kind: type) -> str:
    """Returns the call of a dataclass with the fields that it requires."""
    return f"{kind.__name__}({', '.join(f'{name}=...' for name in _required(kind))})"


def classes_that_follow(module: Any, kind: Any) -> list[type]:
    """Returns the dataclasses that a module defines and that may stand where `kind` is declared."""
    found = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    return [c for c in found if dataclasses.is_dataclass(c) and _fits(c, kind)]


def _read(kind: Any, old: Any, text: str) -> Any:
    if kind is Any:  # an entry of an untyped mapping or tuple keeps its type
        kind = str if old is None else type(old)
    options = options_of(kind)
    if type(None) in options and text.lower() == "none":
        return None
    for option in options:
        if option is type(None):
            continue
        try:
            return _read_one(option, old, text)
        # Another type of the union may read the text.
        except (_MisfitError, *_UNREADABLE):
            continue
    raise _MisfitError


def _read_one(kind: Any, old: Any, text: str) -> Any:
    if typing.get_origin(kind) is typing.Literal:
        return {str(choice): choice for choice in typing.get_args(kind)}[_unquoted(text)]
    if kind is bool:
        # Not bool(text), which is true of every word.
        return {"true": True, "false": False}[text.lower()]
    if kind in (int, float):
        number = kind(text)
        # float() reads nan too, which a run would only notice after its first step; inf means no limit.
        if math.isnan(number):
            raise _MisfitError
        return number
    if kind is str:
        return _unquoted(text)
    if typing.get_origin(kind) is tuple or kind is tuple:
        return _read_tuple(kind, text)
    if typing.get_origin(kind) is Mapping:
        return _read_mapping(kind, text)
    presets = _presets(kind, old)
    return presets[text] if text in presets else _build(kind, old, text)


def _unquoted(text: str) -> str:
    return ast.literal_eval(text) if text[:1] in ("'", '"') else text


def _read_tuple(kind: Any, text: str) -> tuple[Any, ...]:
    # Parsed and never evaluated, here and below: a value must not be able to run code.
    node = ast.parse(text, mode="eval").body
    if not isinstance(node, ast.Tuple | ast.List):
        raise _MisfitError
    kinds = item_kinds(typing.get_args(kind), len(node.elts))
    if len(kinds) != len(node.elts):
        raise _MisfitError
    return tuple(_read(k, None, ast.unparse(item)) for k, item in zip(kinds, node.elts, strict=True))


def _read_mapping(kind: Any, text: str) -> dict[str, Any]:
    """A mapping written as `{'video': 3}`."""
    node = ast.parse(text, mode="eval").body
    if not isinstance(node, ast.Dict):
        raise _MisfitError
    entry = (*typing.get_args(kind), Any, Any)[1]
    names = [str(ast.literal_eval(key)) for key in node.keys if key is not None]
    values = [_read(entry, None, ast.unparse(value)) for value in node.values]
    return dict(zip(names, values, strict=True))


def _build(kind: Any, old: Any, text: str) -> Any:
    """A dataclass written as a call, `Ticks(16)` or `Probe(open_pool=True)`."""
    node = ast.parse(text, mode="eval").body
    if not isinstance(node, ast.Call):
        raise _MisfitError
    builder = _class_named(ast.unparse(node.func), kind, old)
    kinds, names = typing.get_type_hints(builder), [field.name for field in dataclasses.fields(builder)]
    # Not strict: a surplus is refused below, where it can be told from a misspelt name.
    given = dict(zip(names, node.args, strict=False)) | {str(k.arg): k.value for k in node.keywords}
    if len(node.args) > len(names) or set(given) - set(names) or set(_required(builder)) - set(given):
        raise _MisfitError
    return builder(**{name: _read(kinds[name], None, ast.unparse(value)) for name, value in given.items()})


def _class_named(name: str, kind: Any, old: Any) -> Any:
    """The dataclass of a name as an override writes it; with dots, it is one of ivjax by its full name."""
    module, _, last = name.rpartition(".")
    if module.split(".")[0] == __name__.split(".")[0]:
        found = [late.implementation_of(module, last)]
        found = [c for c in found if inspect.isclass(c) and dataclasses.is_dataclass(c) and _fits(c, kind)]
    else:
        found = [c for c in _classes(kind, old) if c.__name__ == name]
    if not found:
        raise _MisfitError
    return found[0]


def _fits(found: type, kind: Any) -> bool:
    """Whether a dataclass is one of the declared types, or follows a declared protocol."""
    options = [option for option in options_of(kind) if inspect.isclass(option)]
    return any(
        # issubclass() refuses protocols that name attributes, as these do.
        _follows(found, option) if getattr(option, "_is_protocol", False) else issubclass(found, option)
        for option in options
    )


def _classes(kind: Any, old: Any) -> list[type]:
    """The dataclasses that an override may name for a type.

    The declared ones; where a protocol is declared, those that follow it and stand beside the present value.
    """
    found: list[type] = []
    for option in options_of(kind):
        if dataclasses.is_dataclass(option):
            found.append(option)  # type: ignore[arg-type]
        elif getattr(option, "_is_protocol", False) and old is not None:
            found += [c for c in _beside(type(old)) if _follows(c, option) and c not in found]
    return found


def _follows(kind: Any, protocol: type) -> bool:
    """Whether a dataclass has all that a protocol names."""
    wanted = {name for name in vars(protocol) if not name.startswith("_")}
    wanted |= set(vars(protocol).get("__annotations__", {}))
    fields = {field.name for field in dataclasses.fields(kind)}
    return bool(wanted) and all(name in fields or hasattr(kind, name) for name in wanted)


def _beside(kind: type) -> list[type]:
    """The dataclasses of the module of a class, and those that its package exports."""
    module = sys.modules[kind.__module__]
    places = [module, sys.modules.get(kind.__module__.rpartition(".")[0])]
    members = [value for place in places if place is not None for value in vars(place).values()]
    # Each once: a package exports what its modules define.
    found = [value for value in members if inspect.isclass(value) and dataclasses.is_dataclass(value)]
    return list(dict.fromkeys(found))


def _required(kind: Any) -> list[str]:
    """The fields of a dataclass that have no default."""
    missing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    return [f.name for f in fields if f.default is missing and f.default_factory is missing]


def _presets(kind: Any, old: Any) -> dict[str, Any]:
    # The present value's class goes first, because the declared type may be a
    # protocol, which has no presets.
    if old is not None:
        return getattr(type(old), "PRESETS", {})
    return {name: value for o in options_of(kind) for name, value in getattr(o, "PRESETS", {}).items()}


def _describe(kind: Any, old: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    if typing.get_origin(kind) is tuple:
        items = typing.get_args(kind)
        if typing.get_origin(items[0]) is typing.Literal:
            words = typing.get_args(items[0])
            return f"a tuple like ({words[0]},) of {', '.join(map(str, words))}"
        # Classes by their own names, which is how an override writes them.
        return re.sub(
            r"[\w.]+\.(\w+)", r"\1", f"a tuple like {kind}".replace("tuple[", "(").replace("]", ")")
        )
    if kind in _NAMES:
        return _NAMES[kind]
    fields = [field.name for field in dataclasses.fields(old)] if dataclasses.is_dataclass(old) else []
    below = [f"an override of one of its fields ({', '.join(fields)})"] if fields else []
    if presets := _presets(kind, old):
        return f"one of the presets {', '.join(presets)}"
    ways = ways_to_write(kind, old)
    return " or ".join([*below, *([f"one of {', '.join(ways)}"] if ways else [])]) or str(kind)
