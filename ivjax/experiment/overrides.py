"""Overrides: `path=value` strings applied to a typed experiment; commas make a sweep."""

import ast
import dataclasses
import itertools
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from ivjax.errors import UserError, nearest
from ivjax.experiment.listing import leaves

T = TypeVar("T")


def apply_overrides(value: T, overrides: Sequence[str]) -> T:
    """A copy of a frozen dataclass with each `path=value` applied, in order."""
    for override in overrides:
        path, values = _parse(override)
        if len(values) > 1:
            raise UserError(
                f"{override!r} lists {len(values)} values where one is wanted; a tuple is written "
                f"{path}=({','.join(values)})"
            )
        value = _set(value, path.split("."), values[0], path, value)
    return value


def expand(overrides: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All combinations of overrides with comma lists: `a=1,2 b=3` -> (a=1, b=3), (a=2, b=3)."""
    parsed = [_parse(override) for override in overrides]
    yield from itertools.product(*([f"{path}={value}" for value in values] for path, values in parsed))


def _parse(override: str) -> tuple[str, list[str]]:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"{override!r} is not an override; write path=value, for example optimizer.decay=0.1")
    return path, _split(text)


def _split(text: str) -> list[str]:
    """Splits at commas outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        depth += (char in "([") - (char in ")]")
        if char == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def replaced(value: T, names: Sequence[str], new: Any) -> T:
    """A copy of a frozen dataclass with the value at a path, given as names, replaced as it is."""
    if len(names) > 1:
        new = replaced(getattr(value, names[0]), names[1:], new)
    return dataclasses.replace(value, **{names[0]: new})  # type: ignore[type-var]


def _set(value: Any, names: list[str], text: str, path: str, root: Any) -> Any:
    if not dataclasses.is_dataclass(value) or names[0] not in (f.name for f in dataclasses.fields(value)):
        raise UserError(f"the config has no {path!r}{nearest(path, leaves(root), cutoff=0.3)}")
    old = getattr(value, names[0])
    if len(names) > 1:
        new = _set(old, names[1:], text, path, root)
    else:
        new = _coerce(typing.get_type_hints(type(value))[names[0]], old, text, path)
    return replaced(value, names[:1], new)


def _coerce(kind: Any, old: Any, text: str, path: str) -> Any:
    """Reads `text` as a value of type `kind`; `old` is the present value."""
    options = typing.get_args(kind) if _is_union(kind) else (kind,)
    if type(None) in options and text.lower() == "none":
        return None
    options = tuple(option for option in options if option is not type(None))
    for option in options:
        try:
            return _read(option, old, text)
        except (ValueError, SyntaxError, TypeError):
            continue
    raise UserError(
        f"{path}={text}: expected {' or '.join(_describe(o, old) for o in options)}, got {text!r}"
    )


def _read(kind: Any, old: Any, text: str) -> Any:
    if typing.get_origin(kind) is typing.Literal:
        return next(c for c in typing.get_args(kind) if str(c) == text) if text in _choices(kind) else _fail()
    if kind is bool:
        return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else _fail()
    if kind in (int, float):
        return kind(text)
    if kind is str:
        return ast.literal_eval(text) if text[:1] in ("'", '"') else text
    if typing.get_origin(kind) is tuple or kind is tuple:
        return _read_tuple(kind, text)
    presets = getattr(type(old) if old is not None else kind, "PRESETS", {})
    return presets[text] if text in presets else _fail()


def _read_tuple(kind: Any, text: str) -> tuple[Any, ...]:
    items = ast.literal_eval(text)
    kinds = typing.get_args(kind)
    if not isinstance(items, list | tuple):
        return _fail()
    if kinds and kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(items)
    if len(kinds) != len(items):
        return _fail()
    return tuple(_read(k, None, str(item)) for k, item in zip(kinds, items, strict=True))


def _fail() -> Any:
    raise ValueError


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _choices(kind: Any) -> list[str]:
    return [str(choice) for choice in typing.get_args(kind)]


def _describe(kind: Any, old: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return f"one of {', '.join(_choices(kind))}"
    if typing.get_origin(kind) is tuple:
        return f"a tuple like {kind}".replace("tuple[", "(").replace("]", ")")
    presets = getattr(type(old) if old is not None else kind, "PRESETS", {})
    if presets:
        return f"one of the presets {', '.join(presets)}"
    if dataclasses.is_dataclass(old):
        names = ", ".join(field.name for field in dataclasses.fields(old))
        return f"an override of one of its fields ({names})"
    return {int: "an integer", float: "a number", bool: "true or false", str: "text"}.get(kind, str(kind))
