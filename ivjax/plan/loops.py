"""Loops and branches: one turn is walked, and costs what it costs times its turns."""

import copy
import functools
from collections.abc import Sequence
from typing import Any

from ivjax.plan import partitioning
from ivjax.plan.costs import Costs, SimulatedDevice
from ivjax.plan.lifetimes import Frame, Value
from ivjax.plan.partitioning import Splits

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}


def open_jaxpr(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """A jaxpr, closed or not, as an open one and what it closes over."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def _given(equation: Any) -> tuple[int, int]:
    """How many constants a scan has, and how many values it carries."""
    params = equation.params
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carried, _ = params["ft_in"].unpack()  # jax 0.12
    return len(consts), len(carried)


def scan(walk: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """A scan. One that is unrolled in full is a straight line instead: nothing is stacked in it."""
    consts, count = _given(equation)
    if equation.params["unroll"] >= equation.params["length"] > 1:
        return _unrolled(walk, equation, operands, frame)
    frame.store([v for v in operands if not v.view])
    inner, costs, results, splits = _settled(walk, equation, operands)
    walk.costs.add(costs, int(equation.params["length"]))
    carried = []
    for init, lies, variable in zip(operands[consts:], splits, equation.outvars[:count], strict=False):
        if init.splits != lies:
            frame.resize(init, walk.value(variable.aval, lies).bytes)
        carried.append(walk.value(variable.aval, lies, init.sources))
        carried[-1].stored = True
    stacked = [
        walk.value(v.aval, ((), *r.splits))
        for v, r in zip(equation.outvars[count:], results[count:], strict=True)
    ]
    frame.step([*operands, *_narrowed(walk, equation, operands, frame)], stacked, inner=inner)
    return carried + stacked


def _settled(
    walk: SimulatedDevice, equation: Any, operands: list[Value]
) -> tuple[int, Costs, list[Value], list[Splits]]:
    """A turn of a scan as of _turn, and how the carry lies once turns no longer change that."""
    consts, count = _given(equation)
    splits = [v.splits for v in operands[consts : consts + count]]
    for _ in range(3):
        inner, costs, results = _turn(walk, equation.params["jaxpr"], operands, consts, splits)
        after = [partitioning.joined([a, v.splits]) for a, v in zip(splits, results, strict=False)]
        if after == splits:
            break
        splits = after
    return inner, costs, results, splits


def _turn(
    walk: SimulatedDevice, body: Any, operands: Sequence[Value], consts: int, carried: Sequence[Splits]
) -> tuple[int, Costs, list[Value]]:
    """Bytes alive within one turn of a loop beside what surrounds it, its costs and its results."""
    inside, arguments, (jaxpr, closed_over) = walk.frame(), [], open_jaxpr(body)
    for number, variable in enumerate(jaxpr.invars):
        place, splits = number - consts, operands[number].splits
        if place >= 0:
            splits = carried[place] if place < len(carried) else splits[1:]
        arguments.append(inside.outside(walk.value(variable.aval, splits)))
        arguments[-1].of_batch = operands[number].of_batch
    before, walk.costs = walk.costs, Costs()
    results = walk.run(jaxpr, closed_over, arguments, inside)
    inside.end(results[: len(carried)])
    costs, walk.costs = walk.costs, before
    return inside.peak(), costs, results


def _unrolled(walk: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    params, (body, closed_over) = equation.params, open_jaxpr(equation.params["jaxpr"])
    consts, count = _given(equation)
    end = consts + count
    length, carry = int(params["length"]), operands[consts:end]
    slices = [
        _slices(walk, v, variable.aval, length, frame)
        for v, variable in zip(operands[end:], body.invars[end:], strict=True)
    ]
    turns: list[list[Value]] = [[]] * length
    for turn in reversed(range(length)) if params["reverse"] else range(length):
        arguments = [*operands[:consts], *carry, *(parts[turn] for parts in slices)]
        results = walk.run(body, closed_over, arguments, frame)
        carry, turns[turn] = results[: len(carry)], results[len(carry) :]
    stacked = []
    for variable, parts in zip(equation.outvars[len(carry) :], zip(*turns, strict=True), strict=True):
        value = walk.value(variable.aval, ((), *parts[0].splits), sources_of(parts))
        value.slices = parts
        stacked.append(value)
    return [*carry, *stacked]


def _slices(walk: SimulatedDevice, stack: Value, aval: Any, length: int, frame: Frame) -> Sequence[Value]:
    """What each turn of an unrolled loop gets of a stacked value."""
    if stack.slices:
        return stack.slices
    frame.store([stack] if not stack.view else [])
    make = functools.partial(_slice, walk, stack, aval, frame)
    # Loops that share slices (the way there and the way back) still gather each for itself.
    keys = [("slice", stack.sources, stack.shape, turn) for turn in range(length)]
    return [copy.copy(walk.once(key, make)) for key in keys]


def _slice(walk: SimulatedDevice, stack: Value, aval: Any, frame: Frame) -> Value:
    found = walk.value(aval, stack.splits[1:], stack.sources)
    found.of_batch = stack.of_batch
    if walk.platform == "tpu":
        found.stored = found.view = True
    else:
        frame.step([stack], [found])
    return found


def _narrowed(walk: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """Copies in fewer bytes of what a loop only ever reads so: compilers make them once, before it."""
    first = sum(_given(equation))
    body, found = open_jaxpr(equation.params["jaxpr"])[0], []
    for variable, operand in zip(body.invars[first:], operands[first:], strict=True):
        width = _read_as(body, variable)
        if width and width < variable.aval.dtype.itemsize:
            size = operand.bytes * width // variable.aval.dtype.itemsize
            make = functools.partial(_copy, operand, width, size, frame)
            found.append(walk.once(("narrow", operand.sources), make))
    return found


def _copy(operand: Value, width: int, size: int, frame: Frame) -> Value:
    narrow = Value(operand.shape, operand.splits, size, label=f"copies in {width} bytes")
    frame.step([operand], [narrow])
    return narrow


def _read_as(jaxpr: Any, variable: Any) -> int | None:
    """Bytes of an element of `variable` after the conversion that every use of it begins with, if so."""
    widths: list[int | None] = []
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        for place in (place for place, used in enumerate(equation.invars) if used is variable):
            if name == "convert_element_type":
                widths.append(equation.outvars[0].aval.dtype.itemsize)
            elif name in CALLS:
                inner, _ = open_jaxpr(equation.params[CALLS[name]])
                widths.append(_read_as(inner, inner.invars[place]))
            else:
                widths.append(None)
    known = [width for width in widths if width is not None]
    return max(known) if known and len(known) == len(widths) else None


def while_loop(walk: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """A loop of unknown length: one turn."""
    inner, consts = operands[equation.params["cond_nconsts"] :], equation.params["body_nconsts"]
    frame.store([v for v in inner if not v.view])
    carried = [v.splits for v in inner[consts:]]
    peak, costs, _ = _turn(walk, equation.params["body_jaxpr"], inner, consts, carried)
    walk.costs.add(costs)
    results = [walk.value(v.aval, splits) for v, splits in zip(equation.outvars, carried, strict=True)]
    frame.step(operands, results, inner=peak)
    return results


def cond(walk: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """Branches: the costliest one."""
    frame.store([v for v in operands if not v.view])
    branches = [
        _turn(walk, branch, operands[1:], len(operands) - 1, ()) for branch in equation.params["branches"]
    ]
    peak, costs, outputs = max(branches, key=lambda found: found[1].flops)
    walk.costs.add(costs)
    results = [walk.value(v.aval, o.splits) for v, o in zip(equation.outvars, outputs, strict=True)]
    frame.step(operands, results, inner=peak)
    return results


def sources_of(values: Sequence[Value]) -> frozenset[int]:
    """The stored values that any of `values` is made from."""
    return frozenset().union(*(value.sources for value in values))
