"""Reads the parameters of TorchScript programs, without their code.

Such an archive is a zip of a program's code and of a pickle of its modules: each an object of a class that
the code defines, with its parameters and inner modules as attributes. Nothing of the code is needed, or read:
of each object only the attributes are kept.
"""

import pickle
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ivjax.errors import UserError

T = TypeVar("T")

# Names of the classes that a program's code defines begin so.
_CLASSES = "__torch__"
# Helpers that only say the types of lists and dicts, which Python's own do not need.
_TYPED = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
# More modules and parameters than any model has. A few modules that hold each other twice, thirty deep, would
# have a billion names.
_MOST = 1_000_000
# Characters of a name. A long one that each of a thousand modules has for the next one would fill all memory.
_LONGEST = 2000

HELPERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch.jit._pickle", name): lambda content, *_: content for name in _TYPED
}


class ScriptObject:
    """Stands in for an object of any class of a program: its attributes by name."""

    __slots__ = ("attributes",)

    attributes: dict[str, Any]

    # A pickle makes objects without calling __init__, and those without a state have no attributes.
    def __new__(cls) -> "ScriptObject":
        made = super().__new__(cls)
        made.attributes = {}
        return made

    def __setstate__(self, state: Any) -> None:
        # Kept apart in a dict, so that no attribute of a file can take the place of one of Python's.
        if type(state) is not dict or not all(type(name) is str for name in state):
            raise pickle.UnpicklingError("an object of the program has a state that is no dict of attributes")
        self.attributes = state


def is_script_class(module: str) -> bool:
    """Whether a pickle's global is a class that a TorchScript program defines."""
    return module.split(".")[0] == _CLASSES


def parameters_of(program: ScriptObject, kind: type[T], path: str) -> dict[str, T]:
    """Returns all attributes of type `kind` by dotted name, as `state_dict()` names them."""
    found: dict[str, T] = {}
    for count, (name, value) in enumerate(_walk(program, "")):
        if count > _MOST:
            raise UserError(f"{path} names over {_MOST:,} modules, as no program does; it is not read")
        if len(name) > _LONGEST:
            raise UserError(
                f"{path} has names of over {_LONGEST:,} characters, as no program has; it is not read"
            )
        if isinstance(value, kind):
            found[name] = value
    return found


def _walk(module: ScriptObject, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yields all attributes by dotted name. A module that holds itself ends in Python's RecursionError."""
    for name, value in module.attributes.items():
        yield f"{prefix}{name}", value
        if isinstance(value, ScriptObject):
            yield from _walk(value, f"{prefix}{name}.")
