"""Programs that say themselves what each device does: shard_map, and kernels written by hand."""

import math
from typing import Any

from ivjax.plan import partitioning
from ivjax.plan.costs import SimulatedDevice
from ivjax.plan.lifetimes import Frame, Value
from ivjax.plan.products import block_flops


def shard_map(walk: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """A program per device, whose shapes are local already."""
    frame.store([v for v in operands if not v.view])
    inside, jaxpr = walk.frame(), equation.params["jaxpr"]
    arguments = [inside.outside(walk.value(v.aval, partitioning.whole(v.aval.ndim))) for v in jaxpr.invars]
    for argument, operand in zip(arguments, operands, strict=True):
        argument.of_batch = operand.of_batch
    inside.end(walk.run(jaxpr, (), arguments, inside))
    results = [
        walk.value(v.aval, partitioning.of_spec(spec, v.aval.ndim))
        for v, spec in zip(equation.outvars, equation.params["out_specs"], strict=True)
    ]
    inner = max(inside.peak() - sum(v.bytes for v in results), 0)
    frame.step(operands, results, inner=inner)
    return results


def kernel(walk: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """A hand-written kernel: what it reads and writes, and the products of each of its blocks."""
    frame.store([v for v in operands if not v.view])
    results = [walk.value(v.aval, partitioning.whole(v.aval.ndim)) for v in equation.outvars]
    turns = math.prod(int(n) for n in equation.params["grid_mapping"].grid)
    walk.costs.flops += turns * block_flops(equation.params["jaxpr"])
    walk.count(operands, results)
    frame.step(operands, results)
    return results
