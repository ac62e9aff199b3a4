"""An experiment as text: every value by its dotted path, and the difference of two experiments."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ivjax.experiment.branches import branches_of, has_branches


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """Returns every value of an experiment by dotted path; a dataclass itself is listed as its class."""
    if not has_branches(value):
        return {prefix.rstrip("."): value}
    # The class is listed too: two classes may agree in all their fields.
    found = {prefix.rstrip("."): type(value)} if prefix and dataclasses.is_dataclass(value) else {}
    for name, below in branches_of(value).items():
        found |= leaves(below.value, f"{prefix}{name}.")
    return found


def show(value: Any) -> str:
    """Returns a value as an override would write it."""
    if isinstance(value, type):
        return value.__name__
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        # Texts inside a tuple are quoted, so that a comma in one does not end it.
        items = [repr(item) if isinstance(item, str) else show(item) for item in value]
        return f"({', '.join(items)}{',' if len(value) == 1 else ''})"
    return str(value)


def options_text(options: Any) -> str:
    """Returns a dataclass of options by its name and the values that differ from the defaults."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    set_here = (f"{name}={show(value)}" for name, value in values.items() if value != defaults[name])
    return f"{type(options).__name__}({', '.join(set_here)})"


def resolved_text(experiment: Any) -> str:
    """Returns the whole experiment, one `path = value` a line."""
    return "".join(f"{path} = {show(value)}\n" for path, value in leaves(experiment).items())


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Returns lines `path: old -> new` for the values that differ between two sets of leaves."""
    # Compared as texts, because a checkpoint holds no more of its experiment than these.
    absent = "(absent)"
    paths = [*after, *(path for path in before if path not in after)]
    pairs = ((p, show(before.get(p, absent)), show(after.get(p, absent))) for p in paths)
    return [f"{path}: {old} -> {new}" for path, old, new in pairs if old != new]


def to_json(experiment: Any) -> dict[str, str]:
    """Returns the resolved experiment as stored with a run and in each checkpoint."""
    return {path: show(value) for path, value in leaves(experiment).items()}
