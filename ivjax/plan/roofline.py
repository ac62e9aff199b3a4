"""The shortest time that a step can take, what bounds it, and what a whole schedule then costs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ivjax.errors import UserError
from ivjax.plan.estimate import Estimate
from ivjax.plan.topology import Topology

# CPU seconds to decode a byte of pixels, measured: 8 frames of 224 x 224 in 15.5 ms (docs/benchmarks.md).
DECODE_SECONDS = 15.5e-3 / (8 * 224 * 224 * 3)


@dataclass(frozen=True)
class Assumptions:
    """Assumptions about what shapes do not say.

    Attributes:
        efficiency: the share of the chip's peak FLOP/s that matrix products reach.
        decode_ms: CPU time to decode one clip; None estimates it by its pixels.
        price: price of one chip for one hour; None for no price.
    """

    efficiency: float = 1.0
    decode_ms: float | None = None
    price: float | None = None


@dataclass(frozen=True)
class Speed:
    """The shortest time of a step, where compute, memory and links overlap perfectly.

    Attributes:
        compute: seconds of matrix products on one device.
        memory: seconds of reading and writing HBM.
        links: seconds of sending, by mesh axis, and `slices` between slices.
        step: seconds of the step: the longest of the three.
        bound: which of them is the longest.
        mfu: share of the peak FLOP/s that the model's own FLOPs use; at most this.
        flops_per_byte: executed FLOPs for each byte of HBM.
        clips_per_s: clips of all devices in a second.
        clips_per_host: clips that one host must decode in a second.
        host_bytes_per_s: bytes of pixels that one host takes in.
        decode_cores: CPU cores that this needs on one host.
        host_cores: CPU cores that a host has.
        days: length of the whole schedule.
        chip_hours: chips times hours of the whole schedule.
        cost: its price; None without a price.
    """

    compute: float
    memory: float
    links: Mapping[str, float]
    step: float
    bound: str
    mfu: float
    flops_per_byte: float
    clips_per_s: float
    clips_per_host: float
    host_bytes_per_s: float
    decode_cores: float
    host_cores: int
    days: float
    chip_hours: float
    cost: float | None


def checked_assumptions(efficiency: float, decode_ms: float | None, price: float | None) -> Assumptions:
    """Returns assumptions as a user gives them, checked."""
    if not 0.0 < efficiency <= 1.0:
        raise UserError(f"--efficiency {efficiency:g}: the share of the peak must be above 0 and at most 1")
    for name, value in (("--decode-ms", decode_ms), ("--price", price)):
        if value is not None and not 0.0 <= value < math.inf:
            raise UserError(f"{name} {value:g}: it must be a number of at least 0")
    return Assumptions(efficiency, decode_ms, price)


def speed(found: Estimate, topology: Topology, batch: int, steps: int, assumed: Assumptions) -> Speed:
    """Returns the speed of an estimate on a topology, for a schedule of `steps` steps of `batch` clips."""
    chip = topology.chip
    compute = found.costs.flops / (chip.flops * assumed.efficiency)
    memory = found.costs.read / chip.memory_bandwidth
    links = {
        name: seconds
        for name, seconds in link_seconds(found.mesh, found.costs.sent, topology, found.slices).items()
        if seconds
    }
    bounds = {"products": compute, "memory bandwidth": memory, "links": sum(links.values())}
    bound = max(bounds, key=lambda name: bounds[name])
    # The longest and not the sum: XLA overlaps them, and a plan states what no run can beat.
    step = bounds[bound]
    if bound == "links":
        bound = f"links of {max(links, key=lambda name: links[name])}"
    clips = batch / step
    each = clips / topology.hosts
    decode = found.row_bytes * DECODE_SECONDS if assumed.decode_ms is None else assumed.decode_ms / 1e3
    chips = topology.devices / chip.devices_per_chip
    hours = steps * step / 3600
    return Speed(
        compute=compute,
        memory=memory,
        links=links,
        step=step,
        bound=bound,
        mfu=sum(found.flops.values()) / (topology.devices * chip.flops * step),
        flops_per_byte=found.costs.flops / max(found.costs.read, 1.0),
        clips_per_s=clips,
        clips_per_host=each,
        host_bytes_per_s=each * found.row_bytes,
        decode_cores=each * decode,
        host_cores=chip.cpus_per_host,
        days=hours / 24,
        chip_hours=hours * chips,
        cost=None if assumed.price is None else hours * chips * assumed.price,
    )


def link_seconds(
    mesh: Mapping[str, int], sent_along: Mapping[str, float], topology: Topology, slices: int = 1
) -> dict[str, float]:
    """Returns the seconds that a device sends along each mesh axis, and between slices."""
    chip, seconds = topology.chip, {}
    # All devices of a host share its network card.
    network = chip.network_bandwidth / min(chip.devices_per_host, topology.devices_per_slice)
    # Axes from the innermost: as long as the product of their sizes fits into one domain (a host's NVLink, a
    # pod's links), they send over its fast links; beyond that, over the network.
    inside = 1
    for axis in reversed(list(mesh)):
        ways, sent = mesh[axis], sent_along.get(axis, 0.0)
        inside *= ways
        if axis == "data" and slices > 1 and sent:
            near = ways // slices
            # `sent` is that of one ring over all of `data`, from which the size of what is summed follows.
            whole = sent * ways / (2 * (ways - 1))
            seconds["slices"] = 2 * (slices - 1) / slices * whole / near / network
            sent = 2 * (near - 1) / near * whole
        if chip.torus:
            # A ring along one dimension of the torus has a link in either direction.
            seconds[axis] = sent / (2 * chip.link_bandwidth)
        else:
            seconds[axis] = sent / (chip.link_bandwidth if inside <= chip.domain else network)
    return seconds
