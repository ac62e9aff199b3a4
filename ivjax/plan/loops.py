"""Costs of loops and branches: one iteration is walked, and its cost multiplied by the trip count."""

import copy
import functools
from collections.abc import Sequence
from typing import Any

from ivjax.plan import partitioning
from ivjax.plan.device_costs import Costs, SimulatedDevice
from ivjax.plan.lifetimes import Frame, Value
from ivjax.plan.partitioning import Splits

# Primitives that call another program, with the parameter that holds it.
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
    """Returns an open jaxpr and its constants; an open one has none."""
    return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


def _given(equation: Any) -> tuple[int, int]:
    """Returns how many constants a scan has, and how many values it carries."""
    params = equation.params
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carried, _ = params["ft_in"].unpack()  # jax 0.12
    return len(consts), len(carried)


def scan(device: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """Costs a scan. One that is unrolled in full is walked iteration by iteration and stacks nothing."""
    consts, count = _given(equation)
    # A length of one is no loop either way, and stacks nothing worth the longer walk.
    if equation.params["unroll"] >= equation.params["length"] > 1:
        return _unrolled(device, equation, operands, frame)
    frame.store([v for v in operands if not v.view])
    inner, costs, results, splits = _settled(device, equation, operands)
    device.costs.add(costs, int(equation.params["length"]))
    carried = []
    for init, split, variable in zip(operands[consts:], splits, equation.outvars[:count], strict=False):
        # XLA keeps a loop's carry in one layout; a start that was replicated is split before the loop.
        if init.splits != split:
            frame.resize(init, device.value(variable.aval, split).bytes)
        carried.append(device.value(variable.aval, split, init.sources))
        carried[-1].stored = True
    stacked = [
        device.value(v.aval, ((), *r.splits))
        for v, r in zip(equation.outvars[count:], results[count:], strict=True)
    ]
    frame.step([*operands, *_narrowed(device, equation, operands, frame)], stacked, inner=inner)
    return carried + stacked


def _settled(
    device: SimulatedDevice, equation: Any, operands: list[Value]
) -> tuple[int, Costs, list[Value], list[Splits]]:
    """Returns one iteration as _iteration does, and the splits of the carry once they no longer change."""
    consts, count = _given(equation)
    splits = [v.splits for v in operands[consts : consts + count]]
    # One iteration changes the carry where a replicated start becomes split; three are always enough.
    for _ in range(3):
        inner, costs, results = _iteration(device, equation.params["jaxpr"], operands, consts, splits)
        after = [partitioning.joined([a, v.splits]) for a, v in zip(splits, results, strict=False)]
        if after == splits:
            break
        splits = after
    return inner, costs, results, splits


def _iteration(
    device: SimulatedDevice, body: Any, operands: Sequence[Value], consts: int, carried: Sequence[Splits]
) -> tuple[int, Costs, list[Value]]:
    """Returns the bytes alive within one iteration beside its surroundings, its costs and its results."""
    inside, arguments, (jaxpr, closed_over) = device.frame(), [], open_jaxpr(body)
    for number, variable in enumerate(jaxpr.invars):
        place, splits = number - consts, operands[number].splits
        if place >= 0:
            splits = carried[place] if place < len(carried) else splits[1:]
        arguments.append(inside.outside(device.value(variable.aval, splits)))
        arguments[-1].of_batch = operands[number].of_batch
    before, device.costs = device.costs, Costs()
    results = device.run(jaxpr, closed_over, arguments, inside)
    inside.end(results[: len(carried)])
    costs, device.costs = device.costs, before
    return inside.peak(), costs, results


def _unrolled(device: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    params, (body, closed_over) = equation.params, open_jaxpr(equation.params["jaxpr"])
    consts, count = _given(equation)
    end = consts + count
    length, carry = int(params["length"]), operands[consts:end]
    slices = [
        _slices(device, v, variable.aval, length, frame)
        for v, variable in zip(operands[end:], body.invars[end:], strict=True)
    ]
    outputs: list[list[Value]] = [[]] * length
    for number in reversed(range(length)) if params["reverse"] else range(length):
        arguments = [*operands[:consts], *carry, *(stack[number] for stack in slices)]
        results = device.run(body, closed_over, arguments, frame)
        carry, outputs[number] = results[: len(carry)], results[len(carry) :]
    stacked = []
    for variable, stack in zip(equation.outvars[len(carry) :], zip(*outputs, strict=True), strict=True):
        value = device.value(variable.aval, ((), *stack[0].splits), sources_of(stack))
        value.slices = stack
        stacked.append(value)
    return [*carry, *stacked]


def _slices(device: SimulatedDevice, stack: Value, aval: Any, length: int, frame: Frame) -> Sequence[Value]:
    """Returns the slice of a stacked value for each iteration of an unrolled loop."""
    if stack.slices:
        return stack.slices
    frame.store([stack] if not stack.view else [])
    make = functools.partial(_slice, device, stack, aval, frame)
    # The forward and the backward loop share their slices, but each gathers them for itself: hence copies.
    keys = [("slice", stack.sources, stack.shape, number) for number in range(length)]
    return [copy.copy(device.once(key, make)) for key in keys]


def _slice(device: SimulatedDevice, stack: Value, aval: Any, frame: Frame) -> Value:
    found = device.value(aval, stack.splits[1:], stack.sources)
    found.of_batch = stack.of_batch
    if device.platform == "tpu":
        found.stored = found.view = True
    else:
        frame.step([stack], [found])
    return found


def _narrowed(device: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """Finds loop inputs that are read only after a cast to a smaller dtype: XLA casts before the loop."""
    first = sum(_given(equation))
    body, found = open_jaxpr(equation.params["jaxpr"])[0], []
    for variable, operand in zip(body.invars[first:], operands[first:], strict=True):
        width = _read_as(body, variable)
        # These copies are alive for the whole loop, which a walk of the body alone would miss.
        if width and width < variable.aval.dtype.itemsize:
            size = operand.bytes * width // variable.aval.dtype.itemsize
            make = functools.partial(_copy, operand, width, size, frame)
            found.append(device.once(("narrow", operand.sources), make))
    return found


def _copy(operand: Value, width: int, size: int, frame: Frame) -> Value:
    narrow = Value(operand.shape, operand.splits, size, label=f"cast to {width} bytes")
    frame.step([operand], [narrow])
    return narrow


def _read_as(jaxpr: Any, variable: Any) -> int | None:
    """Returns the bytes of an element after the cast that every use of `variable` begins with, or None."""
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


def while_loop(device: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """Costs a while loop as one iteration, because its trip count is unknown."""
    inner, consts = operands[equation.params["cond_nconsts"] :], equation.params["body_nconsts"]
    frame.store([v for v in inner if not v.view])
    carried = [v.splits for v in inner[consts:]]
    peak, costs, _ = _iteration(device, equation.params["body_jaxpr"], inner, consts, carried)
    device.costs.add(costs)
    results = [device.value(v.aval, splits) for v, splits in zip(equation.outvars, carried, strict=True)]
    frame.step(operands, results, inner=peak)
    return results


def cond(device: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """Costs the most expensive of several branches."""
    frame.store([v for v in operands if not v.view])
    branches = [
        _iteration(device, branch, operands[1:], len(operands) - 1, ())
        for branch in equation.params["branches"]
    ]
    peak, costs, outputs = max(branches, key=lambda found: found[1].flops)
    device.costs.add(costs)
    results = [device.value(v.aval, o.splits) for v, o in zip(equation.outvars, outputs, strict=True)]
    frame.step(operands, results, inner=peak)
    return results


def sources_of(values: Sequence[Value]) -> frozenset[int]:
    """Returns the stored values that any of `values` is computed from."""
    return frozenset().union(*(value.sources for value in values))
