"""The options of an experiment for people: each path with its value, what it may be, and what it means.

What an option means is read from the `Attributes:` of its dataclass, so it is written in one place.
"""

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ivjax.errors import UserError
from ivjax.experiment.alternatives import alternatives_of
from ivjax.experiment.branches import Branch, branches_of, has_branches, options_of
from ivjax.experiment.listing import show
from ivjax.experiment.suggestions import suggestion
from ivjax.experiment.values import default_of, ways_to_write

_NAMES = {int: "integer", float: "number", bool: "true or false", str: "text", type(None): "none", Any: "any"}
_WIDTH = 110


@dataclass(frozen=True)
class Option:
    """One option of an experiment.

    Attributes:
        path: the dotted path that an override writes.
        value: its value, as an override writes it; of a value with options of its own, the name of its class.
        kind: what it may be, in words.
        ways: what else an override may write for a value with options of its own.
        about: what it means.
        started: whether it stands below a value that is none, and holds once that value is set.
    """

    path: str
    value: str
    kind: str
    ways: tuple[str, ...]
    about: str
    started: bool = False

    def text(self) -> str:
        """Returns two lines or more: path and value, then all that is known of it."""
        head = f"{self.path} = {self.value}{' (if it is set)' if self.started else ''}"
        lines = [f"{self.kind}: {self.about}" if self.about else self.kind]
        lines += [f"or {way}" for way in self.ways]
        wrapped = (textwrap.wrap(line, _WIDTH - 4, subsequent_indent="  ") for line in lines)
        return "\n".join([head, *(f"    {line}" for several in wrapped for line in several)])


def options_below(experiment: Any, prefix: str = "") -> list[Option]:
    """Returns the option at a path and all below it; without a path, all options of the experiment."""
    found = list(_options(Branch(experiment, type(experiment)), "", "", "", False))
    chosen = [o for o in found if not prefix or o.path == prefix or o.path.startswith(f"{prefix}.")]
    if not chosen:
        near = suggestion(prefix, [option.path for option in found])
        raise UserError(f"the config has no option {prefix!r}{near or '; --options alone lists all of them'}")
    return chosen


def _options(at: Branch, words: str, path: str, about: str, started: bool) -> Iterator[Option]:
    value, kind = at
    below = value
    if value is None:
        # `stage.probe.open_blocks=2` means a probe, even where the config has none.
        below = default_of(kind)
        value_text, inner_started = "none", True
    else:
        value_text = show(type(value) if dataclasses.is_dataclass(value) else value)
        inner_started = started
    parts = branches_of(below, kind) if has_branches(below) else {}
    if parts and not dataclasses.is_dataclass(value) and value is not None:
        value_text = f"{len(parts)} of them"
    if path:
        yield Option(path, value_text, words, _ways(kind, value), about, started)
    meanings = meanings_of(type(below))
    declared = branches_of(below, kind, declared=True)
    for name, branch in parts.items():
        where, allowed = f"{path}.{name}" if path else name, kind_in_words(declared[name].kind)
        yield from _options(branch, allowed, where, meanings.get(name, ""), inner_started)


def _ways(kind: Any, value: Any) -> tuple[str, ...]:
    """Returns what an override may write in place of a value with options of its own."""
    ways = ways_to_write(kind, value)
    presets = [way for way in ways if "(" not in way]
    # Of classes beside it the one that it has already is no choice.
    others = [way for way in ways if "(" in way and not way.startswith(f"{type(value).__name__}(")]
    named = [f"a preset: {', '.join(presets)}"] if presets else []
    return (*named, *others, *alternatives_of(kind, value))


def kind_in_words(kind: Any) -> str:
    """Returns what a declared type allows: `integer at least 1`, `one of a, b`, `number or none`."""
    if kind in _NAMES:
        return _NAMES[kind]
    arguments, origin = typing.get_args(kind), typing.get_origin(kind)
    if origin is Annotated:
        return " ".join([kind_in_words(arguments[0]), *map(str, kind.__metadata__)])
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if len(options_of(kind)) > 1:
        return " or ".join(kind_in_words(option) for option in options_of(kind))
    if origin is tuple:
        many = len(arguments) == 2 and arguments[1] is Ellipsis
        inside = kind_in_words(arguments[0]) if many else ", ".join(map(kind_in_words, arguments))
        return f"tuple of {inside}" if many else f"({inside})"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"by name, {kind_in_words(arguments[1])}"
    return getattr(kind, "__name__", str(kind))


def meanings_of(kind: type) -> dict[str, str]:
    """Returns what each field of a dataclass means, from its docstring and those of what it inherits."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        text = inspect.cleandoc(parent.__dict__.get("__doc__") or "")
        _, _, listed = text.partition("Attributes:\n")
        # A field starts at four spaces; its further lines are indented deeper.
        for names, meaning in re.findall(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", listed, re.MULTILINE):
            # Fields that belong together share one line.
            found |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return found
