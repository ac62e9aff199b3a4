"""Products of arrays that are split over a mesh: what is gathered, multiplied and summed, and how it lies."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ivjax.plan import partitioning
from ivjax.plan.costs import Device
from ivjax.plan.lifetimes import Frame, Value
from ivjax.plan.partitioning import Splits


@dataclass(frozen=True)
class _Side:
    """An operand of a product: its dimensions that are summed over, and that are paired, in order."""

    value: Value
    summed: tuple[int, ...]
    paired: tuple[int, ...]

    def place(self, axis: str) -> int | None:
        """The dimension that `axis` splits."""
        return next((d for d, split in enumerate(self.value.splits) if axis in split), None)

    @property
    def free(self) -> list[int]:
        """The dimensions that the result has from this operand alone."""
        return [d for d in range(len(self.value.shape)) if d not in (*self.summed, *self.paired)]


def product(device: Device, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """A dot_general: gathers what has to be whole, counts, and sums over the axes that split the sum."""
    numbers, out = equation.params["dimension_numbers"], equation.outvars[0].aval
    left, right = (_Side(v, tuple(c), tuple(b)) for v, c, b in zip(operands, *numbers, strict=True))
    lhs, rhs = _after_gathers(left, right, ties=True), _after_gathers(right, left, ties=False)
    splits = tuple(lhs[d] or rhs[e] for d, e in zip(left.paired, right.paired, strict=True))
    splits += tuple(lhs[d] for d in left.free) + tuple(rhs[d] for d in right.free)
    result = device.value(out, partitioning.without_repeats(splits))
    partial = _multiplied(device, left, lhs, right, rhs, result)
    lies = _summed(device, partial, out, result) if partial else result
    device.count(operands, [lies])
    if device.platform != "tpu":
        frame.store([v for v in operands if not v.view])
    if device.platform == "cpu":
        frame.step([_laid_out(device, left, lhs, frame), _laid_out(device, right, rhs, frame)], [result])
        lies.sources = result.sources
    else:
        frame.step(operands, [lies], inner=_gather(device, left, lhs) + _gather(device, right, rhs))
    return [lies]


def _multiplied(
    device: Device, left: _Side, lhs: Splits, right: _Side, rhs: Splits, result: Value
) -> set[str]:
    """Books the multiply-adds; the axes over which their sums are still to be summed."""
    pairs = list(zip(left.summed, right.summed, strict=True))
    terms = math.prod(-(-left.value.shape[d] // device.ways(lhs[d] or rhs[e])) for d, e in pairs)
    device.costs.flops += 2.0 * partitioning.local_count(result.shape, result.splits, device.ways) * terms
    return {axis for d, e in pairs for axis in (*lhs[d], *rhs[e])}


def _laid_out(device: Device, side: _Side, splits: Splits, frame: Frame) -> Value:
    """An operand as CPUs want it: whole where it has to be, and paired dimensions before the others.

    What that takes is made as soon as the operand is there, and kept for every product that wants the same.
    """
    value = side.value
    if splits != value.splits:
        value = device.once((value, splits), lambda: _made_whole(device, side, splits, frame))
    if side.paired == tuple(range(len(side.paired))):
        return value
    return device.once((value, side.paired, side.summed), lambda: _copied(value, frame))


def _made_whole(device: Device, side: _Side, splits: Splits, frame: Frame) -> Value:
    size = _gather(device, side, splits)
    whole = Value(side.value.shape, splits, size, label=f"gathered {side.value.label}")
    frame.step([side.value], [whole])
    # Pieces of any other dimension than the first arrive one after the other, and are put in order.
    return whole if side.value.splits[1:] == splits[1:] else _copied(whole, frame)


def _copied(value: Value, frame: Frame) -> Value:
    copy = Value(value.shape, value.splits, value.bytes, label=f"copied {value.label}")
    frame.step([value], [copy])
    return copy


def _after_gathers(side: _Side, other: _Side, ties: bool) -> Splits:
    """Splits of an operand after the gathers that its product needs; with `ties` it moves to its equal."""
    return tuple(
        tuple(axis for axis in split if not _must_gather(axis, side, other, ties))
        for split in side.value.splits
    )


def _must_gather(axis: str, side: _Side, other: _Side, ties: bool) -> bool:
    """Whether an operand, split over `axis`, has to be whole along it to meet the other."""
    at, its = side.place(axis), other.place(axis)
    if at is None:
        return False
    # Rows stay where they are, and parameters come to them; of two alike the smaller one moves.
    value, met = side.value, other.value
    moves = met.rows if value.rows != met.rows else value.bytes < met.bytes + (ties or its is None)
    if its is None:
        return at in side.summed and moves
    mine, theirs = (*side.summed, *side.paired), (*other.summed, *other.paired)
    return moves and (at, its) not in zip(mine, theirs, strict=True)


def _gather(device: Device, side: _Side, splits: Splits) -> int:
    """Books the gathers of an operand that leave it split as `splits`; the bytes that they make."""
    whole, made = side.value.bytes, 0
    gone = [
        axis for was, now in zip(side.value.splits, splits, strict=True) for axis in was if axis not in now
    ]
    for axis in gone:
        whole *= device.axes[axis]
        device.gather(axis, whole)
        made = whole
    return made


def _summed(device: Device, axes: set[str], aval: Any, result: Value) -> Value:
    """Books the sum of partial products over `axes`; a gradient is left split like its parameter."""
    splits = device.gradient_splits(result.shape, result.splits)
    lies = device.value(aval, splits) if splits else result
    scattered = {axis for split in lies.splits for axis in split} & axes
    size: float = result.bytes
    for axis in sorted(axes, key=lambda axis: (axis not in scattered, axis)):
        # XLA for CPUs sums everywhere, and slices afterwards.
        device.send(axis, size if axis in scattered and device.platform != "cpu" else 2.0 * size)
        size = size / device.axes[axis] if axis in scattered else size
    return lies


def _inner(params: Mapping[str, Any]) -> Iterator[Any]:
    """The jaxprs among an equation's parameters, opened."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(item, "jaxpr", item)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr


def block_flops(jaxpr: Any) -> float:
    """Products in a jaxpr and all that it calls, two per multiply-add; of branches the costliest."""
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
