"""Matrix products of arrays that are split over a mesh: what is gathered, multiplied and summed."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ivjax.plan import partitioning
from ivjax.plan.device_costs import SimulatedDevice
from ivjax.plan.lifetimes import Frame, Value
from ivjax.plan.partitioning import Splits


@dataclass(frozen=True)
class _Side:
    """An operand of a product, with the dimensions that are summed over and its batch dimensions."""

    value: Value
    summed: tuple[int, ...]
    paired: tuple[int, ...]

    def place(self, axis: str) -> int | None:
        """Returns the dimension that `axis` splits, or None."""
        return next((d for d, split in enumerate(self.value.splits) if axis in split), None)

    @property
    def free(self) -> list[int]:
        """The dimensions that the result takes from this operand alone."""
        return [d for d in range(len(self.value.shape)) if d not in (*self.summed, *self.paired)]


def product(device: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """Costs a dot_general: gathers operands where needed, multiplies, and sums over split dimensions."""
    numbers, out = equation.params["dimension_numbers"], equation.outvars[0].aval
    left, right = (_Side(v, tuple(c), tuple(b)) for v, c, b in zip(operands, *numbers, strict=True))
    # Exactly one side gathers on a tie; without the flag both would, or neither.
    lhs, rhs = _after_gathers(left, right, ties=True), _after_gathers(right, left, ties=False)
    splits = tuple(lhs[d] or rhs[e] for d, e in zip(left.paired, right.paired, strict=True))
    splits += tuple(lhs[d] for d in left.free) + tuple(rhs[d] for d in right.free)
    result = device.value(out, partitioning.without_repeats(splits))
    partial = _multiplied(device, left, lhs, right, rhs, result)
    summed = _summed(device, partial, out, result) if partial else result
    device.count(operands, [summed])
    if device.platform != "tpu":
        frame.store([v for v in operands if not v.view])
    if device.platform == "cpu":
        frame.step([_laid_out(device, left, lhs, frame), _laid_out(device, right, rhs, frame)], [result])
        summed.sources = result.sources
    else:
        frame.step(operands, [summed], inner=_gather(device, left, lhs) + _gather(device, right, rhs))
    return [summed]


def _multiplied(
    device: SimulatedDevice, left: _Side, lhs: Splits, right: _Side, rhs: Splits, result: Value
) -> set[str]:
    """Adds the FLOPs; returns the axes over which partial sums remain to be summed."""
    pairs = list(zip(left.summed, right.summed, strict=True))
    terms = math.prod(-(-left.value.shape[d] // device.ways(lhs[d] or rhs[e])) for d, e in pairs)
    device.costs.flops += 2.0 * partitioning.local_count(result.shape, result.splits, device.ways) * terms
    return {axis for d, e in pairs for axis in (*lhs[d], *rhs[e])}


def _laid_out(device: SimulatedDevice, side: _Side, splits: Splits, frame: Frame) -> Value:
    """Returns an operand as XLA for CPUs wants it: gathered where needed, batch dimensions first.

    The copy is made as soon as the operand is ready, and kept for every product that wants the same.
    """
    value = side.value
    if splits != value.splits:
        value = device.once((value, splits), lambda: _made_whole(device, side, splits, frame))
    if side.paired == tuple(range(len(side.paired))):
        return value
    return device.once((value, side.paired, side.summed), lambda: _copied(value, frame))


def _made_whole(device: SimulatedDevice, side: _Side, splits: Splits, frame: Frame) -> Value:
    size = _gather(device, side, splits)
    whole = Value(side.value.shape, splits, size, label=f"gathered {side.value.label}")
    frame.step([side.value], [whole])
    # Gathered shards of any other dimension than the first must be put in order afterwards, by a copy.
    return whole if side.value.splits[1:] == splits[1:] else _copied(whole, frame)


def _copied(value: Value, frame: Frame) -> Value:
    copy = Value(value.shape, value.splits, value.bytes, label=f"copied {value.label}")
    frame.step([value], [copy])
    return copy


def _after_gathers(side: _Side, other: _Side, ties: bool) -> Splits:
    """Returns the splits of an operand after its gathers; with `ties` it is the one gathered on a tie."""
    return tuple(
        tuple(axis for axis in split if not _must_gather(axis, side, other, ties))
        for split in side.value.splits
    )


def _must_gather(axis: str, side: _Side, other: _Side, ties: bool) -> bool:
    """Whether an operand that is split over `axis` must be gathered along it for this product."""
    at, its = side.place(axis), other.place(axis)
    if at is None:
        return False
    # Activations stay where they are and parameters are gathered; of two of a kind, the smaller one.
    value, met = side.value, other.value
    moves = (
        met.of_batch if value.of_batch != met.of_batch else value.bytes < met.bytes + (ties or its is None)
    )
    if its is None:
        return at in side.summed and moves
    mine, theirs = (*side.summed, *side.paired), (*other.summed, *other.paired)
    return moves and (at, its) not in zip(mine, theirs, strict=True)


def _gather(device: SimulatedDevice, side: _Side, splits: Splits) -> int:
    """Adds the traffic of gathering an operand to `splits`; returns the bytes that this stores."""
    whole, made = side.value.bytes, 0
    gone = [
        axis for was, now in zip(side.value.splits, splits, strict=True) for axis in was if axis not in now
    ]
    for axis in gone:
        whole *= device.axes[axis]
        device.gather(axis, whole)
        made = whole
    return made


def _summed(device: SimulatedDevice, axes: set[str], aval: Any, result: Value) -> Value:
    """Adds the traffic of summing over `axes`; returns the result, split as its parameter if a gradient."""
    # XLA turns the all-reduce of a gradient into a reduce-scatter when the optimizer state is split.
    splits = device.gradient_splits(result.shape, result.splits)
    summed = device.value(aval, splits) if splits else result
    scattered = {axis for split in summed.splits for axis in split} & axes
    size: float = result.bytes
    # Scattered axes first: what is left to sum over the others is then smaller.
    for axis in sorted(axes, key=lambda axis: (axis not in scattered, axis)):
        # XLA for CPUs sums everywhere, and slices afterwards.
        device.send(axis, size if axis in scattered and device.platform != "cpu" else 2.0 * size)
        size = size / device.axes[axis] if axis in scattered else size
    return summed


def _inner(params: Mapping[str, Any]) -> Iterator[Any]:
    """Yields the jaxprs among an equation's parameters."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(item, "jaxpr", item)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr


def block_flops(jaxpr: Any) -> float:
    """Returns the FLOPs of all matrix products in a jaxpr; of branches, those of the costliest."""
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contract, _), out = equation.params["dimension_numbers"], equation.outvars[0].aval
            shape = equation.invars[0].aval.shape
            total += 2.0 * math.prod(out.shape) * math.prod(shape[d] for d in contract[0])
        inner = [block_flops(sub) for sub in _inner(equation.params)]
        times = int(equation.params.get("length", 1)) if equation.primitive.name == "scan" else 1
        total += times * max(inner, default=0.0)
    return total
