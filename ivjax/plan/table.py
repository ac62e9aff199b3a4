"""A plan as text for a terminal."""

import math
from collections.abc import Iterator

from ivjax.plan.census import describe
from ivjax.plan.compiled_step import CompiledStep, TooLarge
from ivjax.plan.training_plan import HEAP_GROWTH, TrainingPlan, gaps
from ivjax.plan.units import gib, mesh_text, readable_seconds

_BAR = 60
_LARGE = 2**26  # bytes; fewer are not worth a warning


def lines(plan: TrainingPlan) -> Iterator[str]:
    """Yields the lines of the whole plan."""
    yield from _head(plan)
    yield ""
    yield from _memory(plan)
    yield ""
    yield from _work(plan)
    yield ""
    yield from _schedule(plan)
    if isinstance(plan.compiled, CompiledStep):
        yield ""
        yield from _compiled(plan, plan.compiled)
    elif isinstance(plan.compiled, TooLarge):
        yield ""
        yield (
            f"compiled in {plan.compiled.seconds:.0f} s: does not fit, it takes {gib(plan.compiled.total)} "
            f"of {gib(plan.compiled.limit)}"
        )


def _head(plan: TrainingPlan) -> Iterator[str]:
    found, experiment, topology = plan.estimate, plan.experiment, plan.topology
    devices = topology.devices
    yield f"{plan.name} on {topology.name}: {devices} devices, {topology.hosts} hosts"
    frozen = f", {found.frozen / 1e6:,.1f} M frozen" if found.frozen else ""
    yield f"  {found.parameters / 1e6:,.1f} M parameters trained{frozen}"
    yield (
        f"  mesh {mesh_text(found.mesh)}; {experiment.batch} clips a step, "
        f"{experiment.batch / devices / experiment.accumulate:g} at once on a device"
        f"{f' in {experiment.accumulate} micro-batches' if experiment.accumulate > 1 else ''}; "
        f"{found.tokens} tokens a clip; remat {experiment.remat}, {experiment.dtype}"
    )


def _memory(plan: TrainingPlan) -> Iterator[str]:
    memory, chip = plan.estimate.memory, plan.topology.chip
    yield f"memory of a device, estimated ({gib(chip.usable_memory)} to use)"
    for kind, size in memory.given.items():
        # Counters and keys take a few bytes, and would only lengthen the table.
        if size >= 2**10:
            yield f"  {kind:<14} {gib(size):>12}"
    yield f"  {'temporaries':<14} {gib(memory.temporaries):>12}  the largest:"
    for size, label in memory.largest[:4]:
        yield f"    {gib(size):>12}  {label[:84]}"
    if wasted := gaps(memory, chip):
        yield f"  {'gaps':<14} {gib(wasted):>12}  {HEAP_GROWTH[chip.platform]:g} times the temporaries in all"
    share = plan.needed / chip.usable_memory
    verdict = "fits" if plan.fits else "DOES NOT FIT"
    source = "as compiled" if plan.compiled else "as estimated"
    yield f"  {'all':<14} {gib(plan.needed):>12}  {share:.0%} of a device {source}: {verdict}"
    if memory.undivided > max(0.1 * memory.arguments, _LARGE):
        yield f"  WARNING: {gib(memory.undivided)} stay whole: {memory.because}"
    yield f"  [{'#' * min(round(share * _BAR), _BAR):<{_BAR}}]"


def _work(plan: TrainingPlan) -> Iterator[str]:
    found, costs, devices = plan.estimate, plan.estimate.costs, plan.topology.devices
    whole = sum(found.flops.values())
    yield f"work of a step: {whole / 1e12:,.4g} TFLOP of the model"
    for part, flops in found.flops.items():
        yield f"  {part:<14} {flops / 1e12:>12,.4g}  {flops / whole:6.1%}"
    yield (
        f"  of a device: {costs.flops / 1e12:,.4g} TFLOP executed, {costs.flops * devices / whole:.2f} times "
        f"the model's share; {gib(costs.read)} read and written, {plan.speed.flops_per_byte:,.0f} FLOP a byte"
    )
    for axis, sent in costs.sent.items():
        gathered = costs.gathered.get(axis, 0)
        yield f"  sent along {axis:<8} {gib(sent):>12}, {gib(gathered)} of it to gather parameters"


def _schedule(plan: TrainingPlan) -> Iterator[str]:
    speed, steps = plan.speed, plan.experiment.steps
    least = readable_seconds(speed.step)
    yield f"a step takes at least {least}, bound by {speed.bound}: MFU {speed.mfu:.1%} at most"
    seconds = {"products": speed.compute, "memory": speed.memory, **speed.links}
    yield "  " + ", ".join(f"{name} {readable_seconds(each)}" for name, each in seconds.items())
    yield (
        f"  {speed.clips_per_s:,.1f} clips/s; each host takes in {speed.clips_per_host:,.1f} clips/s, "
        f"{speed.host_bytes_per_s / 1e6:,.1f} MB/s of pixels, and needs {speed.decode_cores:,.1f} of its "
        f"{speed.host_cores} cores to decode them"
    )
    if speed.decode_cores > speed.host_cores:
        yield "  WARNING: a host cannot decode as fast: use fewer or smaller frames, or more hosts"
    cost = "" if speed.cost is None else f", {speed.cost:,.0f} at the price given"
    yield (
        f"  {steps:,} steps: {readable_seconds(speed.days * 86400)}, {speed.chip_hours:,.0f} chip-hours{cost}"
    )


def _difference(compiled: CompiledStep) -> Iterator[str]:
    if compiled.fast > compiled.alive:
        yield f"  the difference: {gib(compiled.fast)} of values never leave the chip's fast memory"
        return
    yield "  the difference: other layouts, padding, values kept longer; the largest places of the heap:"
    for size, shapes in compiled.largest:
        yield f"    {gib(size):>12}  {shapes[:84]}"


def _compiled(plan: TrainingPlan, compiled: CompiledStep) -> Iterator[str]:
    estimated = plan.estimate.memory.temporaries
    # A tiny step may have nothing alive outside the chip's fast memory.
    ratio = estimated / compiled.alive if compiled.alive else math.inf
    yield f"compiled in {compiled.seconds:.0f} s"
    rows = {
        "arguments": compiled.arguments,
        "alive at once": compiled.alive,
        "heap": compiled.heap,
        "fast memory": compiled.fast,
        "output": compiled.output,
        "program": compiled.code,
    }
    yield from (f"  {name:<14} {gib(size):>12}" for name, size in rows.items() if size)
    compared = f"{ratio:.2f} of what" if compiled.alive else "and nothing that"
    yield f"  temporaries: estimated {gib(estimated)}, {compared} the compiled program has alive"
    # 0.77 to 0.83 were measured (docs/plan.md); beyond this range the difference is explained.
    if not 0.75 <= ratio <= 1.25:
        yield from _difference(compiled)
    yield "communication of a step, as compiled"
    yield from (f"  {line}" for line in describe(compiled.census))
    need = sum(plan.estimate.costs.sent.values())
    yield f"  {gib(compiled.census.bytes)} in all; by shapes alone {gib(need)}"
    for warning in compiled.warnings:
        yield f"  WARNING: {warning}"
    if not compiled.warnings:
        yield "  nothing is replicated or gathered by accident"
