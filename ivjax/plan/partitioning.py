"""Over which mesh axes the dimensions of a traced value are split, followed from operands to results."""

import math
from collections.abc import Callable, Sequence
from typing import Any

Split = tuple[str, ...]  # the mesh axes that split one dimension
Splits = tuple[Split, ...]  # one for each dimension
Shape = tuple[int, ...]

# Results that lie as their operands do, dimension by dimension, even where sizes differ.
SAME_RANK = frozenset(
    (
        "pad",
        "slice",
        "dynamic_slice",
        "rev",
        "sort",
        "split",
        "concatenate",
        "cumsum",
        "cumlogsumexp",
        "cummax",
    )
)


def whole(rank: int) -> Splits:
    """Not split at all."""
    return ((),) * rank


def of_spec(spec: Any, rank: int) -> Splits:
    """A PartitionSpec as splits."""
    entries = [() if e is None else ((e,) if isinstance(e, str) else tuple(e)) for e in spec]
    return tuple(entries) + whole(rank - len(entries))


def joined(parts: Sequence[Splits]) -> Splits:
    """What a result of the operands' rank gets: of each dimension the first split, no axis twice."""
    used: set[str] = set()
    found = []
    for options in zip(*parts, strict=True):
        split = next((o for o in options if o and not used & set(o)), ())
        used |= set(split)
        found.append(split)
    return tuple(found)


def reshaped(old: Shape, new: Shape, splits: Splits, sizes: Callable[[Split], int]) -> Splits:
    """Splits after a reshape: each group of dimensions hands its axes to the first that they divide."""
    found: list[Split] = [()] * len(new)
    i = j = 0
    while i < len(old) and j < len(new):
        first_i, first_j, a, b = i, j, old[i], new[j]
        while a != b:
            if a < b:
                i += 1
                a *= old[i]
            else:
                j += 1
                b *= new[j]
        axes = tuple(axis for split in splits[first_i : i + 1] for axis in split)
        fits = [k for k in range(first_j, j + 1) if axes and new[k] % sizes(axes) == 0 and new[k] > 1]
        if fits:
            found[fits[0]] = axes
        i, j = i + 1, j + 1
    return tuple(found)


def spread(splits: Splits, dimensions: Sequence[int], rank: int) -> Splits:
    """Splits whose dimension i becomes `dimensions[i]` of a result."""
    found: list[Split] = [()] * rank
    for split, place in zip(splits, dimensions, strict=True):
        found[place] = split
    return tuple(found)


def kept(splits: Splits, dropped: Sequence[int]) -> Splits:
    """Splits without some dimensions."""
    return tuple(split for i, split in enumerate(splits) if i not in dropped)


def of_gather(numbers: Any, slices: Shape, operand: Any, indices: Any, rank: int) -> Splits:
    """Splits of a gather's result, from operand and indices (each with .shape and .splits)."""
    gone = {int(d) for d in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)}
    windows = [d for d in range(len(operand.shape)) if d not in gone]
    offsets = [int(d) for d in numbers.offset_dims]
    found: list[Split] = [()] * rank
    for place, d in zip(offsets, windows, strict=True):
        found[place] = operand.splits[d] if slices[d] == operand.shape[d] else ()
    rest = [place for place in range(rank) if place not in offsets]
    for place, split in zip(rest, indices.splits, strict=False):
        found[place] = split
    return tuple(found)


def of_scatter(numbers: Any, operand: Any, indices: Any, updates: Any) -> Splits:
    """Splits of a scatter's result: the operand's, and those that its updates bring along."""
    hidden = {int(d) for d in (*numbers.inserted_window_dims, *numbers.operand_batching_dims)}
    windows = [d for d in range(len(operand.shape)) if d not in hidden]
    brought: list[Split] = [()] * len(operand.shape)
    for d, place in zip(windows, (int(d) for d in numbers.update_window_dims), strict=True):
        brought[d] = updates.splits[place]
    batching = zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    for d, place in batching:
        brought[int(d)] = indices.splits[int(place)]
    return joined([operand.splits, tuple(brought)])


def local_count(shape: Shape, splits: Splits, sizes: Callable[[Split], int]) -> int:
    """Elements of a value on one device."""
    return math.prod(-(-size // sizes(split)) for size, split in zip(shape, splits, strict=True))


def without_repeats(splits: Splits) -> Splits:
    """Splits in which an axis that comes twice is left only where it comes first."""
    seen: set[str] = set()
    found = []
    for split in splits:
        found.append(tuple(axis for axis in split if axis not in seen))
        seen |= set(split)
    return tuple(found)
