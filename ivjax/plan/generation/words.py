"""A plan of a generation as text for a terminal."""

from collections.abc import Iterator, Sequence

from ivjax.plan.compiled_step import CompiledStep, TooLarge
from ivjax.plan.generation.generation_plan import GenerationPlan
from ivjax.plan.training_plan import HEAP_GROWTH
from ivjax.plan.units import gib, mesh_text, readable_seconds

_PROGRAMS = {
    "see": "vision and bridge",
    "prefill": "prefill",
    "decode": "a step of decoding",
}


def generation_lines(plan: GenerationPlan) -> Iterator[str]:
    """Yields the lines of the whole plan."""
    yield from _head(plan)
    yield ""
    yield from _memory(plan)
    yield ""
    yield from _times(plan)
    for name, found in plan.compiled.items():
        yield ""
        yield from _compiled(plan, name, found)


def smallest_lines(plans: Sequence[GenerationPlan]) -> Iterator[str]:
    """Yields a table of the smallest slices that fit: a line for each kind of accelerator."""
    if not plans:
        yield "it fits no slice of 64 devices; ask for fewer frames or rows, or for cache=int8"
        return
    yield f"{plans[0].name} on each kind of accelerator"
    yield from _request(plans[0])
    yield "the smallest slices that fit:"
    heads = ("slice", "mesh", "a device", "first token", "tokens/s", "chip-seconds")
    yield f"  {heads[0]:<12} {heads[1]:<22} {heads[2]:>17} {heads[3]:>12} {heads[4]:>9} {heads[5]:>13}"
    for plan in plans:
        need, usable = max(plan.needed.values()), plan.topology.chip.usable_memory
        memory = f"{need / 2**30:.1f} of {usable / 2**30:.1f} GiB"
        yield (
            f"  {plan.topology.name:<12} {mesh_text(plan.mesh):<22} {memory:>17} "
            f"{readable_seconds(plan.first_token):>12} {plan.tokens_per_s:>9,.1f} {plan.chip_seconds:>13,.1f}"
        )


def _head(plan: GenerationPlan) -> Iterator[str]:
    devices = plan.topology.devices
    several = f"{devices} devices, mesh {mesh_text(plan.mesh)}" if devices > 1 else "one device"
    yield f"{plan.name} on {plan.topology.name}: {several}"
    yield from _request(plan)
    for warning in plan.warnings:
        yield f"  WARNING: {warning}"


def _request(plan: GenerationPlan) -> Iterator[str]:
    asked = plan.request
    yield (
        f"  {plan.parameters:,} parameters in {asked.weights}; {_several(asked.batch, 'row')} of "
        f"{_several(asked.frames, 'frame')}: {plan.visual:,} visual tokens and {asked.question:,} others, "
        f"filled up to {plan.length:,}; {_several(asked.new, 'new token')}"
    )
    dropped = (
        f"; after layers {asked.layers} the shares {asked.ratios[1:]} of visual tokens stay"
        if asked.layers
        else ""
    )
    cache = "bfloat16" if asked.cache == "compute" else asked.cache
    clips = _several(plan.clips, "clip")
    yield f"  {clips} at a time, chunks of {asked.chunk:,} tokens, cache in {cache}{dropped}"


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count > 1)}"


def _memory(plan: GenerationPlan) -> Iterator[str]:
    memory, chip = plan.memory, plan.topology.chip
    yield f"memory of a device ({gib(chip.usable_memory)} to use)"
    for part, size in memory.weights.items():
        yield f"  {'weights of ' + part:<24} {gib(size):>12}"
    for name, size in (
        ("key/value cache", memory.cache),
        ("embeddings of prompts", memory.embeddings),
        ("visual tokens", memory.visual),
        ("pixels of clips", memory.pixels),
    ):
        yield f"  {name:<24} {gib(size):>12}"
    growth = HEAP_GROWTH[chip.platform]
    for name, size in memory.temporaries.items():
        yield f"  {'temporaries, ' + name:<24} {gib(size):>12}"
    source = (
        "as compiled" if plan.compiled else f"with {growth:g} times the temporaries, for gaps of the heap"
    )
    yield f"  all at once, {source}:"
    for name, size in plan.needed.items():
        yield f"  {_PROGRAMS[name]:<24} {gib(size):>12}  {size / chip.usable_memory:.0%} of a device"
    yield f"  it {'fits' if plan.fits else 'DOES NOT FIT'}"


def _times(plan: GenerationPlan) -> Iterator[str]:
    yield "time, at least"
    yield f"  {'':<10} {'TFLOP':>10} {'read':>12} {'compute':>10} {'memory':>10} {'network':>10}   bound by"
    for part, time in plan.times.items():
        each = [readable_seconds(x) if x else "-" for x in (time.products, time.memory, time.network)]
        yield (
            f"  {part:<10} {time.flops / 1e12:>10,.4g} {gib(time.read):>12} {each[0]:>10} {each[1]:>10} "
            f"{each[2]:>10}   {time.bound}"
        )
    parts = ", ".join(f"{part} {readable_seconds(plan.times[part].seconds)}" for part in list(plan.times)[:3])
    yield f"  first token after {readable_seconds(plan.first_token)}: {parts}"
    yield (
        f"  {plan.tokens_per_s:,.1f} tokens/s of decoding; {plan.request.new:,} tokens after "
        f"{readable_seconds(plan.answer)}, {plan.chip_seconds:,.3g} chip-seconds an answer{_price(plan)}"
    )
    cores = plan.topology.chip.cpus_per_host
    yield (
        f"  before that, frames are decoded on the host: {readable_seconds(plan.decode_cpu_s)} of a core, "
        f"{readable_seconds(plan.decode_cpu_s / cores)} on all {cores}"
    )


def _price(plan: GenerationPlan) -> str:
    return "" if plan.price is None else f", {plan.price * plan.chip_seconds / 3600:.3g} at the price given"


def _compiled(plan: GenerationPlan, name: str, found: CompiledStep | TooLarge) -> Iterator[str]:
    yield f"{_PROGRAMS[name]}, compiled in {found.seconds:.0f} s"
    if isinstance(found, TooLarge):
        yield f"  does not fit: it takes {gib(found.total)} of {gib(found.limit)}"
        return
    estimated = plan.memory.temporaries[name]
    yield (
        f"  arguments {gib(found.arguments)}, results {gib(found.output)}, program {gib(found.code)}; "
        f"temporaries {gib(found.alive)} in a heap of {gib(found.heap)}, estimated {gib(estimated)}"
    )
    for traffic in found.census.traffic:
        axes = "+".join(traffic.axes)
        yield f"  {traffic.kind} along {axes}: {traffic.count} times, {gib(traffic.bytes)} sent"
