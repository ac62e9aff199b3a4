"""Costs of programs for a single device inside a traced step: shard_map and Pallas kernels."""

import math
from typing import Any

from ivjax.plan import partitioning
from ivjax.plan.device_costs import SimulatedDevice
from ivjax.plan.lifetimes import Frame, Value
from ivjax.plan.products import block_flops


def shard_map(device: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """Costs a shard_map, whose shapes are those of one device already."""
    frame.store([v for v in operands if not v.view])
    inside, jaxpr = device.frame(), equation.params["jaxpr"]
    arguments = [inside.outside(device.value(v.aval, partitioning.whole(v.aval.ndim))) for v in jaxpr.invars]
    for argument, operand in zip(arguments, operands, strict=True):
        argument.of_batch = operand.of_batch
    inside.end(device.run(jaxpr, (), arguments, inside))
    results = [
        device.value(v.aval, partitioning.of_spec(spec, v.aval.ndim))
        for v, spec in zip(equation.outvars, equation.params["out_specs"], strict=True)
    ]
    # The results are stored in the frame outside, which counts them from here on.
    inner = max(inside.peak() - sum(v.bytes for v in results), 0)
    frame.step(operands, results, inner=inner)
    return results


def kernel(device: SimulatedDevice, equation: Any, operands: list[Value], frame: Frame) -> list[Value]:
    """Costs a Pallas kernel: what it reads and writes, and the matrix products of each of its blocks."""
    frame.store([v for v in operands if not v.view])
    results = [device.value(v.aval, partitioning.whole(v.aval.ndim)) for v in equation.outvars]
    # Blocks that a kernel skips at run time, such as those above the diagonal, are counted: an upper bound.
    blocks = math.prod(int(n) for n in equation.params["grid_mapping"].grid)
    device.costs.flops += blocks * block_flops(equation.params["jaxpr"])
    device.count(operands, results)
    frame.step(operands, results)
    return results
