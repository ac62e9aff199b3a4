"""Splits: the mesh axes that split each dimension of a traced value, and how results inherit them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

Split = tuple[str, ...]  # the mesh axes that split one dimension
Splits = tuple[Split, ...]  # the splits of all dimensions
Dims = tuple[int, ...]  # numbers of entries along the dimensions of an array that is not split

# Primitives whose results are split as their operands are, dimension by dimension, even where sizes differ.
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
    """Returns the splits of a value that is not split."""
    return ((),) * rank


def of_spec(spec: Any, rank: int) -> Splits:
    """Returns a PartitionSpec as splits."""
    entries = [() if e is None else ((e,) if isinstance(e, str) else tuple(e)) for e in spec]
    return tuple(entries) + whole(rank - len(entries))


def joined(several: Sequence[Splits]) -> Splits:
    """Returns the splits of a result of the operands' rank: the first of each dimension, no axis twice."""
    used: set[str] = set()
    found = []
    for options in zip(*several, strict=True):
        # An axis can split only one dimension of an array.
        split = next((o for o in options if o and not used & set(o)), ())
        used |= set(split)
        found.append(split)
    return tuple(found)


def reshaped(old: Dims, new: Dims, splits: Splits, sizes: Callable[[Split], int]) -> Splits:
    """Returns splits after a reshape: a group of dimensions gives its axes to the first one they divide."""
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
        # XLA too keeps a split through a reshape only where the new dimension holds whole shards.
        fits = [k for k in range(first_j, j + 1) if axes and new[k] % sizes(axes) == 0 and new[k] > 1]
        if fits:
            found[fits[0]] = axes
        i, j = i + 1, j + 1
    return tuple(found)


def spread(splits: Splits, dimensions: Sequence[int], rank: int) -> Splits:
    """Returns splits of a result whose dimension `dimensions[i]` is dimension i of an operand."""
    found: list[Split] = [()] * rank
    for split, place in zip(splits, dimensions, strict=True):
        found[place] = split
    return tuple(found)


def kept(splits: Splits, dropped: Sequence[int]) -> Splits:
    """Returns splits without the dropped dimensions."""
    return tuple(split for i, split in enumerate(splits) if i not in dropped)


def of_gather(numbers: Any, slices: Dims, operand: Any, indices: Any, rank: int) -> Splits:
    """Returns the splits of a gather's result; operand and indices have .shape and .splits."""
    gone = {int(d) for d in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)}
    windows = [d for d in range(len(operand.shape)) if d not in gone]
    offsets = [int(d) for d in numbers.offset_dims]
    found: list[Split] = [()] * rank
    for place, d in zip(offsets, windows, strict=True):
        found[place] = operand.splits[d] if slices[d] == operand.shape[d] else ()
    rest = [place for place in range(rank) if place not in offsets]
    for place, split in zip(rest, indices.splits, strict=False):
        found[place] = split
    # Rows that are gathered each from its own row of the operand lie where that row does.
    batching = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    for d, place in batching:
        found[rest[int(place)]] = found[rest[int(place)]] or operand.splits[int(d)]
    return without_repeats(tuple(found))


def of_scatter(numbers: Any, operand: Any, indices: Any, updates: Any) -> Splits:
    """Returns the splits of a scatter's result: the operand's, and those of its updates."""
    hidden = {int(d) for d in (*numbers.inserted_window_dims, *numbers.operand_batching_dims)}
    windows = [d for d in range(len(operand.shape)) if d not in hidden]
    brought: list[Split] = [()] * len(operand.shape)
    for d, place in zip(windows, (int(d) for d in numbers.update_window_dims), strict=True):
        brought[d] = updates.splits[place]
    batching = zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    for d, place in batching:
        brought[int(d)] = indices.splits[int(place)]
    return joined([operand.splits, tuple(brought)])


def local_count(shape: Dims, splits: Splits, sizes: Callable[[Split], int]) -> int:
    """Returns the elements of a value on one device."""
    return math.prod(-(-size // sizes(split)) for size, split in zip(shape, splits, strict=True))


def without_repeats(splits: Splits) -> Splits:
    """Returns splits in which an axis is kept only where it occurs first."""
    seen: set[str] = set()
    found = []
    for split in splits:
        found.append(tuple(axis for axis in split if axis not in seen))
        seen |= set(split)
    return tuple(found)
