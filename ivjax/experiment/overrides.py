"""Overrides: `path=value` strings applied to a typed experiment; commas make a sweep.

A path goes by names through dataclasses, by number into tuples (`data.corpora.0.path`) and by key into
mappings. Inside an optional value that is none, it starts from that value's defaults.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ivjax.errors import UserError
from ivjax.experiment.branches import Branch, branches_of, replaced
from ivjax.experiment.listing import leaves
from ivjax.experiment.suggestions import suggestion
from ivjax.experiment.values import default_of, read_value, ways_to_write

T = TypeVar("T")


def apply_overrides(value: T, overrides: Sequence[str]) -> T:
    """Returns a copy of a frozen dataclass with each `path=value` applied, in order."""
    for override in overrides:
        path, values = parse_override(override)
        if len(values) > 1:
            raise UserError(
                f"{override!r} lists {len(values)} values where one is wanted; a tuple is written "
                f"{path}=({','.join(values)})"
            )
        value = _set(Branch(value, type(value)), path.split("."), values[0], path, value)
    return value


def expand(overrides: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yields all combinations of overrides with comma lists: `a=1,2 b=3` -> (a=1, b=3), (a=2, b=3)."""
    parsed = [parse_override(override) for override in overrides]
    yield from itertools.product(*([f"{path}={value}" for value in values] for path, values in parsed))


def parse_override(override: str) -> tuple[str, list[str]]:
    """Returns the path of an override and the values of its comma list."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise UserError(f"{override!r} is not an override; write path=value, for example optimizer.decay=0.1")
    return path, _split(text)


def _split(text: str) -> list[str]:
    """Splits at commas outside brackets and quotes."""
    # By hand and not with str.split, because tuples, calls and quoted texts hold commas of their own.
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        else:
            depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _set(at: Branch, names: list[str], text: str, path: str, root: Any) -> Any:
    """The value at a branch with `text` put in at `names` below it."""
    value, kind = at
    if value is None:
        # `stage.probe.open_blocks=2` means a probe, even where the config has none.
        value = _started(kind, path, ".".join(path.split(".")[: -len(names)]))
    below = branches_of(value, kind)
    if names[0] not in below:
        raise UserError(
            f"the config has no {path!r}{_meant(path, path.split('.')[: -len(names)], below, root)}"
        )
    old = below[names[0]]
    if len(names) > 1:
        new = _set(old, names[1:], text, path, root)
    else:
        new = read_value(old.kind, old.value, text, path)
    # Rebuilt from the leaf up, so that the checks of every value around it run again.
    return replaced(value, names[:1], new)


def _meant(path: str, place: list[str], below: Mapping[str, Branch], root: Any) -> str:
    """The end of a sentence that says which path was meant, or else what the last known place has."""
    # What lies below an optional value that is none is not among the leaves.
    there = [".".join([*place, name]) for name in below]
    listed = f"{'.'.join(place) or 'it'} has {', '.join(below) or 'nothing below it'}"
    return suggestion(path, [*leaves(root), *there]) or f"; {listed}"


def _started(kind: Any, path: str, where: str) -> Any:
    """An optional value that is none, with its defaults."""
    value = default_of(kind)
    if value is None:
        ways = ways_to_write(kind, None)
        how = f"set it first, to {' or '.join(ways)}" if ways else "it has no fields"
        raise UserError(f"{path!r} cannot be set because {where} is none; {how}")
    return value
