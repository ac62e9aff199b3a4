"""The checkpoint families that can be converted, found in the modules of `ivjax/convert/families/`.

A module there, or in a folder there, that defines `FAMILIES`, a tuple of Family, is part of the registry.
Nothing else names it.
"""

import functools
import importlib
import pkgutil
from collections.abc import Iterator, MutableMapping
from typing import Any

from ivjax.convert import families
from ivjax.convert.engine.family import Family
from ivjax.errors import UserError


def _discovered() -> dict[str, Family]:
    """All families by name, in the order of their modules' names, whichever folder they lie in."""
    found: dict[str, Family] = {}
    modules = [module.name for module in pkgutil.walk_packages(families.__path__, f"{families.__name__}.")]
    # The order decides between families that fit alike, so it must be the same everywhere.
    for module in sorted(modules, key=lambda module: module.rpartition(".")[2]):
        content = importlib.import_module(module)
        for family in getattr(content, "FAMILIES", ()):
            if family.name in found:
                # A mistake in the code, not in what a user gave, hence no UserError.
                raise ValueError(f"two families are called {family.name!r}; rename the one in {module}")
            found[family.name] = family
    return found


class _Families(MutableMapping[str, Family]):
    """The families, found at first use: most starts of a run ask for none, and importing all takes 0.2 s."""

    @functools.cached_property
    def _found(self) -> dict[str, Family]:
        return _discovered()

    def __getitem__(self, name: str) -> Family:
        return self._found[name]

    def __setitem__(self, name: str, family: Family) -> None:
        self._found[name] = family

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


FAMILIES = _Families()


def family_of_sizes(sizes: Any) -> Family | None:
    """Returns the family that stores the models of such sizes."""
    # Several have models of the same sizes under other names: those of ViCLIP and of CLIP, for one.
    fitting = (family for family in FAMILIES.values() if family.stores_runs and family.fits(sizes))
    return next(fitting, None)


def family_of_stage(stage: Any) -> tuple[Family, Any] | None:
    """Returns the family whose models a stage trains, and their sizes."""
    family = family_of_sizes(stage.size)
    return None if family is None else (family, stage.size)


def family_in_words(sizes: Any, family: Family | None) -> str:
    """Returns the family of a model and the preset that has its sizes; "" if no family stores such models."""
    family = family or family_of_sizes(sizes)
    if family is None:
        return ""
    preset = next((name for name, of_preset in family.presets.items() if of_preset == sizes), None)
    return f"{family.name}, {'sizes of no preset' if preset is None else f'preset {preset}'}"


def family_named(name: str) -> Family:
    """Returns the family of a name."""
    if name not in FAMILIES:
        raise UserError(f"there is no family {name!r}; the families are {', '.join(FAMILIES)}")
    return FAMILIES[name]
