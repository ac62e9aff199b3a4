"""`ivjax.presets`: the sizes of the released models, by family and name."""

from collections.abc import Iterator, Mapping
from typing import Any

from ivjax.convert.registry import FAMILIES, family_named


class Presets(Mapping[str, Mapping[str, Any]]):
    """The sizes of released models: `presets["viclip"]["L14"]`; printed, it lists families and names.

    A size is a frozen dataclass; `size.build(Compute("bfloat16"))` is its model. The names are those that
    `ivjax.load` takes as `preset` and `family`.
    """

    def __getitem__(self, family: str) -> Mapping[str, Any]:
        return family_named(family).presets

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(FAMILIES))

    def __len__(self) -> int:
        return len(FAMILIES)

    def __contains__(self, family: object) -> bool:
        # That of mappings waits for a KeyError, and an unknown name is told in a sentence here.
        return family in FAMILIES

    def __repr__(self) -> str:
        return "\n".join(f"{family}: {', '.join(self[family])}" for family in self)


presets = Presets()
