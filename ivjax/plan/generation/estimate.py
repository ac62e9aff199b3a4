"""Estimates memory and time of a generation on each device, from shapes alone: nothing is compiled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from ivjax.models.dialogue.sizes import DialogueSize
from ivjax.ops.cut import Params
from ivjax.plan.device_costs import Costs
from ivjax.plan.estimate import placed_values
from ivjax.plan.generation import language_costs
from ivjax.plan.generation.language_costs import bytes_of
from ivjax.plan.generation.programs import GenerationPrograms
from ivjax.plan.roofline import Assumptions, link_seconds
from ivjax.plan.topology import Topology
from ivjax.plan.walk import Walk


@dataclass(frozen=True)
class GenerationMemory:
    """Bytes on one device.

    Attributes:
        weights: of the parameters, by part of the model.
        cache: of keys and values.
        embeddings: of the prompts.
        visual: of the visual tokens of all videos.
        pixels: of the clips that are encoded at a time.
        temporaries: what each program stores for itself at most.
    """

    weights: Mapping[str, int]
    cache: int
    embeddings: int
    visual: int
    pixels: int
    temporaries: Mapping[str, int]

    @property
    def given(self) -> dict[str, int]:
        """Bytes that are there while each program runs, beside its temporaries."""
        weights = sum(self.weights.values())
        return {
            "see": weights + self.pixels + self.visual,
            # The visual tokens are still there: embeddings are made of them.
            "prefill": weights + self.visual + self.embeddings + self.cache,
            "decode": weights + self.cache,
        }


@dataclass(frozen=True)
class PartTime:
    """The shortest time of a part of a generation, where compute, memory and links overlap perfectly.

    Attributes:
        flops: FLOPs of the model, over all devices.
        executed: FLOPs of one device.
        read: bytes of HBM that one device reads and writes.
        sent: bytes that one device sends, by mesh axis.
        products: seconds of matrix products.
        memory: seconds of reading and writing HBM.
        network: seconds of sending.
    """

    flops: float
    executed: float
    read: float
    sent: Mapping[str, float]
    products: float
    memory: float
    network: float

    @property
    def seconds(self) -> float:
        """The longest of the three."""
        return max(self.products, self.memory, self.network)

    @property
    def bound(self) -> str:
        """Which of them is the longest."""
        times = {"compute": self.products, "memory": self.memory, "network": self.network}
        return max(times, key=lambda name: times[name])


def estimate_memory(programs: GenerationPrograms, platform: str) -> GenerationMemory:
    """Returns the bytes of each part on a device; needs the mesh in context."""
    _, see = _seeing(programs, platform)
    return GenerationMemory(
        weights={part: bytes_of(tree) for part, tree in programs.params.items()},
        cache=bytes_of([run.cache for run in programs.caches]),
        embeddings=bytes_of([programs.prompts.x]),
        visual=bytes_of([programs.seen]),
        pixels=bytes_of([programs.pixels]),
        temporaries={
            "see": see,
            "prefill": language_costs.prefill_temporaries(programs, platform),
            "decode": language_costs.decode_temporaries(programs, platform),
        },
    )


def estimate_times(
    programs: GenerationPrograms, topology: Topology, assumed: Assumptions
) -> dict[str, PartTime]:
    """Returns the time of each part: vision, bridge, prefill, and one step of decoding."""
    size, request, batches = programs.size, programs.request, programs.batches
    frames, rows = request.frames, request.batch
    (vision, bridge), _ = _seeing(programs, topology.chip.platform)
    own, grid = size.segment(frames)
    prefill = language_costs.prefill_flops(programs, programs.prompt)
    flops = {
        "vision": rows * sum(size.vision.flops().values()) * frames / own,
        "bridge": rows * size.bridge.flops(frames, grid),
        "prefill": rows * sum(prefill.values()),
        "decode": rows * language_costs.decode_flops(programs),
    }
    costs = {
        "vision": repeated(vision, batches),
        "bridge": repeated(bridge, batches),
        "prefill": language_costs.prefill_costs(programs),
        "decode": language_costs.decode_costs(programs),
    }
    return {
        part: _time(flops[part], cost, programs.mesh.shape, topology, assumed) for part, cost in costs.items()
    }


def repeated(costs: Costs, times: int) -> Costs:
    """Returns the costs of something that happens so often."""
    found = Costs()
    found.add(costs, times)
    return found


def _time(
    flops: float, costs: Costs, mesh: Mapping[str, int], topology: Topology, assumed: Assumptions
) -> PartTime:
    chip = topology.chip
    return PartTime(
        flops=flops,
        executed=costs.flops,
        read=costs.read,
        sent=dict(costs.sent),
        products=costs.flops / (chip.flops * assumed.efficiency),
        memory=costs.read / chip.memory_bandwidth,
        network=sum(link_seconds(mesh, costs.sent, topology).values()),
    )


def _seeing(programs: GenerationPrograms, platform: str) -> tuple[tuple[Costs, Costs], int]:
    """Returns the costs of tower and bridge on a batch of clips, and the most bytes that they store."""
    return _walked(programs.size, programs.request.frames, programs, platform)


# Traced once for a mesh: the kinds of TPU, and memory and time of a plan, share what is found.
_KNOWN: dict[Any, tuple[tuple[Costs, Costs], int]] = {}


def _walked(
    size: DialogueSize, frames: int, programs: GenerationPrograms, platform: str
) -> tuple[tuple[Costs, Costs], int]:
    own, grid = size.segment(frames)
    key = size, own, programs.clips, programs.request.weights, tuple(programs.mesh.shape.items()), platform
    if key not in _KNOWN:
        model, pixels = programs.model, programs.pixels
        segments = pixels.shape[0] * (pixels.shape[1] // own)
        rows = programs.array(
            (segments, own, *pixels.shape[2:]), pixels.dtype, "batch", None, None, None, None
        )

        def encode(params: Params, rows: jax.Array) -> jax.Array:
            return model.tower.encode(params, rows).tokens

        def project(params: Params, tokens: jax.Array) -> jax.Array:
            tokens = tokens.reshape(pixels.shape[0], -1, *tokens.shape[1:])
            return model.bridge.project(params, tokens, grid)

        tower, first = _walk(programs, platform, encode, programs.params["vision"], rows)
        tokens = jax.eval_shape(encode, programs.params["vision"], rows)
        tokens = programs.array(tokens.shape, tokens.dtype, "batch", None, None)
        bridge, second = _walk(programs, platform, project, programs.params["bridge"], tokens)
        _KNOWN[key] = (tower, bridge), max(first, second + bytes_of([tokens]))
    return _KNOWN[key]


def _walk(
    programs: GenerationPrograms, platform: str, function: Any, params: Params, rows: jax.ShapeDtypeStruct
) -> tuple[Costs, int]:
    traced = jax.make_jaxpr(function)(params, rows)
    walk = Walk(programs.mesh.shape, {}, platform)
    frame = walk.frame()
    arguments = [*placed_values(walk, frame, params, "params"), *placed_values(walk, frame, rows, "batch")]
    frame.end(walk.run(traced.jaxpr, traced.consts, arguments, frame))
    return walk.costs, frame.peak()
