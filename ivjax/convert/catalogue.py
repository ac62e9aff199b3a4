"""The list of checkpoint families for people: what each reads and writes, and which sizes it can have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ivjax.convert.engine.family import Family
from ivjax.convert.engine.packing import whole_name
from ivjax.convert.registry import FAMILIES, family_named
from ivjax.experiment.option_listing import options_below

_NAMES = 3  # names of tensors that an entry shows
_PRESETS = 12  # presets that the list of all families shows of each


@dataclass(frozen=True)
class CatalogueEntry:
    """One family in the list.

    Attributes:
        family: the family.
        detailed: whether all presets and the options of its sizes are shown.
    """

    family: Family
    detailed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Returns what is listed as plain values, for programs."""
        family = self.family
        first = next(iter(family.presets.values()))
        return {
            "family": family.name,
            "about": family.about,
            "presets": list(family.presets),
            "tensors": list(dict.fromkeys(family.prefix + whole_name(row.name(0)) for row in family.rows)),
            "container": family.container,
            "fresh": [path for path in family.added if path in family.shapes(first)],
            "runs_are_stored_so": family.stores_runs,
            "branches": list(family.branches),
        }

    def text(self) -> str:
        """Returns the entry in lines, for people."""
        family, facts = self.family, self.as_dict()
        most = len(family.presets) if self.detailed else _PRESETS
        more = f" and {len(family.presets) - most} more" if len(family.presets) > most else ""
        tensors = facts["tensors"]
        # Some from all over the table: its first rows are often of one layer.
        shown = tensors[:: max(len(tensors) // _NAMES, 1)][:_NAMES]
        key = "" if family.container == "flat" else f"; torch files hold them under {family.container}"
        lines = {
            "presets": f"{', '.join(list(family.presets)[:most])}{more}",
            "tensors": f"{', '.join(shown)}, ...{key}",
            "branches": ", ".join(f"#{branch}" for branch in facts["branches"]),
            "example": self._example(facts["fresh"]),
        }
        head = [f"{family.name}: {family.about}"]
        head += [f"    {name:<9} {value}" for name, value in lines.items() if value]
        return "\n".join([*head, *(self._options() if self.detailed else ())])

    def _example(self, fresh: Sequence[str]) -> str:
        new = f" --fresh {' '.join(fresh)}" if fresh else ""
        return f"ivjax convert import FILE {self.family.name}.safetensors{new}"

    def _options(self) -> list[str]:
        """Returns the options of its sizes, with the values of the first preset."""
        preset, sizes = next(iter(self.family.presets.items()))
        options = [option.text().replace("\n", "\n    ") for option in options_below(sizes)]
        return [f"    sizes of {preset}, changed by path=value:", *(f"    {option}" for option in options)]


def catalogue(name: str | None = None) -> list[CatalogueEntry]:
    """Returns the entries of all families, or the detailed one of the family called `name`."""
    if name is not None:
        return [CatalogueEntry(family_named(name), detailed=True)]
    return [CatalogueEntry(FAMILIES[name]) for name in sorted(FAMILIES)]
