"""What to say of a file that no family reads: whose names or whose shapes it has."""

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from ivjax.convert.engine.family import Family
from ivjax.convert.families.strangers import STRANGERS
from ivjax.convert.formats.tensors import Shape, Tensors
from ivjax.convert.registry import FAMILIES

# Beginnings of names that are tried: each costs a comparison with all families.
_MOST_PREFIXES = 8
# Presets of a family that are compared. Classifiers have many more, and differ from encoders in the head.
_MOST_PRESETS = 12
# The share of the numbers of a file, and of a preset, that must lie in tensors of equal shapes. BERT shares
# nine of ten tensors with a transformer of images, but not its word embeddings.
_ALIKE = 0.85


def stranger_of(tensors: Tensors) -> str | None:
    """Returns what a known model is that no family reads, and what to do; None for any other file."""
    for stranger in STRANGERS:
        if stranger.knows(tensors):
            return f"it is {stranger.called}, and {stranger.remedy}"
    return None


def common_prefixes(names: Iterable[str]) -> list[str]:
    """Returns what all names begin with, and parts of it that end in a dot; the longest comes first."""
    common = os.path.commonprefix(list(names))
    ends = [place + 1 for place, letter in enumerate(common) if letter == "."]
    return [common[:end] for end in reversed(ends)][:_MOST_PREFIXES]


def prefixes_of_some(names: Collection[str]) -> list[str]:
    """Returns the dotted beginnings that many of the names have, but not all; the most common come first."""
    counts = Counter(name[: at + 1] for name in names for at, letter in enumerate(name) if letter == ".")
    several = [prefix for prefix, count in counts.most_common() if 20 < count < len(names)]
    return several[:_MOST_PREFIXES]


def shape_hint(tensors: Tensors) -> str:
    """Returns a clause that names the preset which has the shapes of a file; "" if none has."""
    have = _canonical(tensors.shape(name) for name in tensors)
    axes = {axis for shape in have for axis in shape}
    best, shown = 0.0, ""
    for family in FAMILIES.values():
        if len(family.presets) > _MOST_PRESETS:
            continue
        for preset, sizes in family.presets.items():
            # First, because shapes come of a traced model, which takes a second for a large one.
            if not _widths(sizes) <= axes:
                continue
            want = _canonical(_original_shapes(family, sizes))
            share = _numbers(have & want) / max(_numbers(have), _numbers(want))
            # Of equal ones the first counts.
            if share > best:
                best, shown = share, f"{family.name} {preset} ({share:.0%} of the numbers)"
    if best < _ALIKE:
        return ""
    name = shown.split()[0]
    return (
        f"the shapes are those of {shown}, but the names are not: rename the tensors to those that "
        f"`ivjax convert families {name} --json` lists"
    )


def _widths(sizes: Any) -> set[int]:
    """Returns all fields called `width`, of sizes and of the sizes inside."""
    found = set()
    for field in dataclasses.fields(sizes):
        value = getattr(sizes, field.name)
        if dataclasses.is_dataclass(value):
            found |= _widths(value)
        elif field.name == "width":
            found.add(value)
    return found


def _original_shapes(family: Family, sizes: Any) -> list[Shape]:
    leaves = family.shapes(sizes)
    rows = {row.target: row for row in reversed(family.rows)}
    found = []
    for path, shape in leaves.items():
        if row := rows.get(path):
            found += [row.source_shape(shape)] * row.count(shape)
    return found


def _numbers(shapes: Counter[tuple[int, ...]]) -> int:
    return sum(count * math.prod(shape) for shape, count in shapes.items())


def _canonical(shapes: Iterable[Shape]) -> Counter[tuple[int, ...]]:
    """Counts shapes as they are under any names: kernels either way round, queries, keys and values apart."""
    counts: Counter[tuple[int, ...]] = Counter()
    for shape in shapes:
        axes = tuple(sorted(axis for axis in shape if axis != 1))
        if len(axes) == 2 and axes[1] == 3 * axes[0]:
            counts[axes[0], axes[0]] += 3
        else:
            counts[axes] += 1
    return counts
