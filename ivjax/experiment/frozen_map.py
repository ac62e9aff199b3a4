"""A mapping that cannot be changed: what named options of an experiment are held in."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

V = TypeVar("V")


class FrozenMap(Mapping[str, V]):
    """Named values in their order, immutable, hashable if they are, and picklable.

    A plain dict inside a frozen dataclass could be changed behind its back, and `types.MappingProxyType`
    neither pickles nor hashes.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, V] = {}):  # noqa: B006 (it is copied)
        self._values = dict(values)

    def __getitem__(self, name: str) -> V:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        # Without the order, because equality of mappings does not see it either.
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMap, (self._values,)
