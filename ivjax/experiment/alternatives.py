"""Other dataclasses that could stand in place of one that a protocol describes, found without importing jax.

A stage may be replaced by any other stage, a tower by one of another family. An override names such a class
in full. Its module is not imported yet, and nothing lists the modules; so the files of the room of the
present value are looked through.
"""

import functools
import importlib
import importlib.util
from pathlib import Path
from typing import Any

from ivjax.experiment.branches import options_of
from ivjax.experiment.values import classes_that_follow, way_to_write

# Options of a room that build something are bound late, so that importing them costs nothing.
_LATE = "from ivjax.experiment import late"


def alternatives_of(kind: Any, value: Any) -> tuple[str, ...]:
    """Returns calls that an override may write for a value whose declared type is a protocol."""
    protocols = [option for option in options_of(kind) if getattr(option, "_is_protocol", False)]
    names = [name for p in protocols for name in vars(p) if not name.startswith("_")]
    # A protocol without names of its own would take every dataclass of the room.
    if value is None or not names:
        return ()
    room = ".".join(type(value).__module__.split(".")[:2])
    classes = [c for module in _light_modules(room) for c in classes_that_follow(module, kind)]
    return tuple(f"{c.__module__}.{way_to_write(c)}" for c in classes if c is not type(value))


@functools.cache
def _light_modules(room: str) -> tuple[Any, ...]:
    """Returns the modules of a room that are bound late."""
    spec = importlib.util.find_spec(room)
    found = []
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in sorted(Path(folder).rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            if parts[-1] != "__init__" and _LATE in file.read_text(encoding="utf-8"):
                found.append(importlib.import_module(".".join((room, *parts))))
    return tuple(found)
