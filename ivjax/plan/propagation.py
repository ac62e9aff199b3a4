"""Propagates splits from operands to results, for all primitives but products and loops."""

from collections.abc import Callable, Sequence
from typing import Any

from ivjax.plan import partitioning
from ivjax.plan.device_costs import SimulatedDevice, shape_of
from ivjax.plan.lifetimes import Value
from ivjax.plan.partitioning import Dims, Splits

REDUCTIONS = frozenset(
    (*(f"reduce_{kind}" for kind in ("sum", "max", "min", "prod", "and", "or")), "argmax", "argmin")
)
COLLECTIVES = frozenset(
    ("psum", "psum2", "psum_invariant", "psum_scatter", "pmax", "ppermute", "all_to_all", "reduce_scatter")
    + ("all_gather", "all_gather_invariant")
)

_Rule = Callable[[SimulatedDevice, Any, Sequence[Value], Dims], Splits]


def splits_of(device: SimulatedDevice, equation: Any, operands: Sequence[Value]) -> list[Splits]:
    """Returns the splits of an equation's results; not for matrix products and calls of other programs."""
    shapes = [shape_of(v.aval) for v in equation.outvars]
    if not operands:
        return [partitioning.whole(len(shape)) for shape in shapes]
    name = equation.primitive.name
    rule = _RULES.get("scatter" if name.startswith("scatter") else name)
    if rule:
        return [rule(device, equation.params, operands, shape) for shape in shapes]
    return [alike(shape, operands, name in partitioning.SAME_RANK) for shape in shapes]


def alike(shape: Dims, operands: Sequence[Value], same_rank: bool = False) -> Splits:
    """Returns the splits of a result that inherits those of its operands."""
    rank = len(shape)
    fitting = [
        v.splits for v in operands if len(v.shape) == rank and (same_rank or v.shape == shape or 1 in v.shape)
    ]
    # A result whose first dimensions are an operand's has several values per element, as random bits of keys.
    fitting += [
        v.splits + partitioning.whole(rank - len(v.shape))
        for v in operands
        if v.shape and len(v.shape) < rank and shape[: len(v.shape)] == v.shape
    ]
    return partitioning.joined(fitting) if fitting else partitioning.whole(rank)


def count_sums(
    device: SimulatedDevice, equation: Any, operands: Sequence[Value], results: Sequence[Value]
) -> None:
    """Adds the traffic of a reduction over split dimensions, or of an explicit collective."""
    name = equation.primitive.name
    if name in REDUCTIONS:
        dropped = [operands[0].splits[axis] for axis in equation.params["axes"]]
        for axis in {axis for split in dropped for axis in split}:
            device.send(axis, 2.0 * results[0].bytes)
    elif name in COLLECTIVES:
        named = equation.params.get("axes", equation.params.get("axis_name", ()))
        # A sum that every device gets is a reduce-scatter and an all-gather: twice the bytes.
        factor = 2.0 if name.startswith(("psum", "pmax")) and "scatter" not in name else 1.0
        size = max(sum(v.bytes for v in operands), sum(v.bytes for v in results))
        for axis in (named,) if isinstance(named, str) else named:
            if axis in device.axes:
                device.send(axis, factor * size)


def _constrained(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    return partitioning.of_spec(params["sharding"].spec, len(shape))


def _transposed(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    return tuple(operands[0].splits[d] for d in params["permutation"])


def _reshaped(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    return partitioning.reshaped(operands[0].shape, shape, operands[0].splits, device.ways)


def _broadcast(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    spread = partitioning.spread(operands[0].splits, params["broadcast_dimensions"], len(shape))
    return tuple(
        # A dimension of one that is broadcast cannot hold shards.
        split if device.ways(split) <= size else ()
        for split, size in zip(spread, shape, strict=True)
    )


def _stacked(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    splits, axis = partitioning.joined([x.splits for x in operands]), params["axis"]
    return (*splits[:axis], (), *splits[axis:])


def _unstacked(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    return partitioning.kept(operands[0].splits, (params["axis"],))


def _squeezed(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    return partitioning.kept(operands[0].splits, params["dimensions"])


def _reduced(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    return partitioning.kept(operands[0].splits, params["axes"])


def _gathered(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    numbers, slices = params["dimension_numbers"], params["slice_sizes"]
    return partitioning.of_gather(numbers, slices, operands[0], operands[1], len(shape))


def _scattered(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    found = partitioning.of_scatter(params["dimension_numbers"], *operands[:3])
    # The gradient of an embedding lookup is a scatter, and is split like the table.
    return device.gradient_splits(shape, found) or found


def _updated(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    return partitioning.joined([operands[0].splits, operands[1].splits])


def _as_first(device: SimulatedDevice, params: Any, operands: Sequence[Value], shape: Dims) -> Splits:
    return operands[0].splits


_RULES: dict[str, _Rule] = {
    "sharding_constraint": _constrained,
    "transpose": _transposed,
    "reshape": _reshaped,
    "broadcast_in_dim": _broadcast,
    "stack": _stacked,
    "unstack": _unstacked,
    "squeeze": _squeezed,
    "gather": _gathered,
    "scatter": _scattered,
    "dynamic_update_slice": _updated,
    "top_k": _as_first,
    **dict.fromkeys(REDUCTIONS, _reduced),
}
