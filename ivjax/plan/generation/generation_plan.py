"""The plan of a generation on a topology: estimated and, if asked for, compiled."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

from ivjax.errors import UserError
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.dialogue.sizes import DialogueSize
from ivjax.plan.compiled_step import CompiledStep, TooLarge
from ivjax.plan.estimate import mesh_of
from ivjax.plan.generation.estimate import GenerationMemory, PartTime, estimate_memory, estimate_times
from ivjax.plan.generation.language_costs import split_of
from ivjax.plan.generation.programs import GenerationPrograms
from ivjax.plan.generation.request import GenerationRequest
from ivjax.plan.roofline import DECODE_SECONDS, Assumptions
from ivjax.plan.topology import Topology
from ivjax.plan.training_plan import HEAP_GROWTH


@dataclass(frozen=True)
class GenerationPlan:
    """The plan of a generation.

    Attributes:
        name: the model.
        topology: the accelerators.
        request: what is generated.
        mesh: devices by mesh axis.
        parameters: how many the model has.
        visual: visual tokens of a row.
        prompt: tokens of a prompt.
        length: the length that prompts are filled up to.
        clips: clips that are encoded at a time.
        memory: bytes on a device.
        times: vision, bridge and prefill of all rows, and `decode`, a step.
        warnings: what stays whole that an axis should split.
        frame_bytes: bytes of the pixels of all videos.
        price: of one chip for one hour.
        compiled: by program, if it was compiled.
    """

    name: str
    topology: Topology
    request: GenerationRequest
    mesh: Mapping[str, int]
    parameters: int
    visual: int
    prompt: int
    length: int
    clips: int
    memory: GenerationMemory
    times: Mapping[str, PartTime]
    warnings: tuple[str, ...]
    frame_bytes: int
    price: float | None = None
    compiled: Mapping[str, CompiledStep | TooLarge] = field(default_factory=dict)

    @property
    def needed(self) -> dict[str, int]:
        """Bytes that a device must have for each program: as compiled, or with the gaps of the heap."""
        growth = HEAP_GROWTH[self.topology.chip.platform]
        found = {}
        for program, given in self.memory.given.items():
            compiled = self.compiled.get(program)
            if isinstance(compiled, CompiledStep):
                found[program] = given + compiled.heap + compiled.code
            elif compiled:
                found[program] = compiled.total
            else:
                found[program] = given + int(growth * self.memory.temporaries[program])
        return found

    @property
    def fits(self) -> bool:
        """Whether a device has that many."""
        too_large = any(isinstance(compiled, TooLarge) for compiled in self.compiled.values())
        return not too_large and max(self.needed.values()) <= self.topology.chip.usable_memory

    @property
    def first_token(self) -> float:
        """Seconds to the first token, at least."""
        return sum(self.times[part].seconds for part in ("vision", "bridge", "prefill"))

    @property
    def answer(self) -> float:
        """Seconds to the last token, at least."""
        return self.first_token + (self.request.new - 1) * self.times["decode"].seconds

    @property
    def tokens_per_s(self) -> float:
        """Tokens of all rows that a second of decoding gives, at most."""
        return self.request.batch / self.times["decode"].seconds

    @property
    def chip_seconds(self) -> float:
        """Seconds of all chips for one row's answer."""
        chips = self.topology.devices / self.topology.chip.devices_per_chip
        return self.answer * chips / self.request.batch

    @property
    def decode_cpu_s(self) -> float:
        """Seconds of one CPU core to decode the frames of all rows."""
        return self.frame_bytes * DECODE_SECONDS

    def as_dict(self) -> dict[str, Any]:
        """Returns the plan as plain values, for programs."""
        usable = self.topology.chip.usable_memory
        return {
            "model": self.name,
            "topology": self.topology.name,
            "devices": self.topology.devices,
            "mesh": dict(self.mesh),
            "request": dataclasses.asdict(self.request),
            "parameters": self.parameters,
            "visual_tokens": self.visual,
            "prompt_tokens": self.prompt,
            "padded_prompt": self.length,
            "clips": self.clips,
            "memory": {
                **dataclasses.asdict(self.memory),
                "needed": self.needed,
                "usable": usable,
                "fits": self.fits,
            },
            "times": {
                part: {**dataclasses.asdict(time), "seconds": time.seconds, "bound": time.bound}
                for part, time in self.times.items()
            },
            "first_token_s": self.first_token,
            "answer_s": self.answer,
            "tokens_per_s": self.tokens_per_s,
            "chip_seconds": self.chip_seconds,
            "decode_cpu_s": self.decode_cpu_s,
            "warnings": list(self.warnings),
            "compiled": {name: dataclasses.asdict(found) for name, found in self.compiled.items()},
        }


def plan_generation(
    name: str,
    size: DialogueSize,
    request: GenerationRequest,
    topology: Topology,
    shape: MeshShape,
    assumed: Assumptions,
) -> GenerationPlan:
    """Estimates a generation on a topology, its devices in a mesh of that shape."""
    if topology.slices > 1:
        raise UserError("a generation runs in one slice; leave out --slices")
    mesh = mesh_of(shape, topology.chip, topology.devices_per_slice)
    with jax.sharding.use_abstract_mesh(mesh):
        programs = GenerationPrograms(size, request, mesh)
        programs.check()
        memory = estimate_memory(programs, topology.chip.platform)
        height, width = size.vision.image
        return GenerationPlan(
            name=name,
            topology=topology,
            request=request,
            mesh=dict(mesh.shape),
            parameters=sum(leaf.size for leaf in jax.tree.leaves(programs.params)),
            visual=programs.visual,
            prompt=programs.prompt,
            length=programs.length,
            clips=programs.clips,
            memory=memory,
            times=estimate_times(programs, topology, assumed),
            warnings=tuple(_warnings(programs)),
            frame_bytes=request.batch * request.frames * height * width * 3,
            price=assumed.price,
        )


def _warnings(programs: GenerationPrograms) -> list[str]:
    size, mesh, rows = programs.size.language, programs.mesh.shape, programs.request.batch
    tensor, found = mesh["tensor"], []
    if split_of(programs).keys < tensor:
        found.append(
            f"tensor={tensor} does not divide the {size.kv_heads} heads of keys: each device stores the "
            "caches of all of them"
        )
    if programs.rows == rows and programs.ways > 1:
        found.append(
            f"data x fsdp={programs.ways} does not divide {rows} row{'s' * (rows > 1)}: each device reads "
            "and generates all of them, and stores their caches"
        )
    if split_of(programs).words < tensor:
        found.append(
            f"tensor={tensor} does not divide {size.vocabulary} words: embeddings and head stay whole"
        )
    if programs.request.weights != "bfloat16":
        found.append("weights in float32 are cast before each token; store them in bfloat16")
    return found
