"""Searches for the mesh that answers fastest, and for the smallest slices on which a generation fits."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax

from ivjax.errors import UserError
from ivjax.experiment.mesh_shape import MESH_AXES, MeshShape
from ivjax.models.dialogue.sizes import DialogueSize
from ivjax.plan.compiled_step import CompiledStep, TooLarge, compile_program, compiling
from ivjax.plan.devices import compile_devices
from ivjax.plan.estimate import mesh_of
from ivjax.plan.generation.generation_plan import GenerationPlan, plan_generation
from ivjax.plan.generation.language_costs import bytes_of
from ivjax.plan.generation.programs import GenerationPrograms
from ivjax.plan.generation.request import GenerationRequest
from ivjax.plan.mesh_search import divisors
from ivjax.plan.roofline import Assumptions
from ivjax.plan.topology import Topology, offered
from ivjax.plan.units import gib, mesh_text, readable_seconds
from ivjax.progress import Say
from ivjax.train.chips import CHIPS
from ivjax.train.mesh import build_mesh

_MOST = 64  # devices of the largest slice that is tried
PROGRAMS = ("see", "prefill", "decode")


@dataclasses.dataclass(frozen=True)
class GenerationJob:
    """A generation that is planned on one topology after the other.

    Attributes:
        name: the model, as it was named.
        size: its size.
        request: what is generated.
        assumed: what shapes do not say.
        say: is told each attempt.
    """

    name: str
    size: DialogueSize
    request: GenerationRequest
    assumed: Assumptions
    say: Say

    def plan(self, topology: Topology, shape: MeshShape | None = None) -> GenerationPlan:
        """Returns the plan on a topology (None: heads over as many devices as share them evenly)."""
        shape = shape or default_shape(self.size, self.request, topology)
        return plan_generation(self.name, self.size, self.request, topology, shape, self.assumed)

    def best(self, topology: Topology) -> GenerationPlan | None:
        """Returns the plan of the mesh that answers fastest; None if weights and caches alone fit on none."""
        plans = []
        for shape in shapes(self.request, topology):
            least = self._least(topology, shape)
            if least > topology.chip.usable_memory:
                self.say(
                    f"  {topology.name}, {_shape_text(shape)}: weights and caches alone take {gib(least)}"
                )
                continue
            plans.append(self.plan(topology, shape))
            self.say(f"  {reason(plans[-1])}")
        return min(plans, key=_rank, default=None)

    def smallest(self) -> list[GenerationPlan]:
        """Returns the plan on the smallest slice of each kind that fits."""
        found = []
        for chip in CHIPS.values():
            if chip.platform == "cpu":
                continue
            plans = (self.best(topology) for topology in offered(chip, _MOST))
            found += [next((plan for plan in plans if plan and plan.fits), None)]
        return [plan for plan in found if plan]

    def _least(self, topology: Topology, shape: MeshShape) -> int:
        mesh = mesh_of(shape, topology.chip, topology.devices_per_slice)
        with jax.sharding.use_abstract_mesh(mesh):
            programs = GenerationPrograms(self.size, self.request, mesh)
            programs.check()
            return bytes_of(programs.params) + bytes_of([run.cache for run in programs.caches])


def compiled(job: GenerationJob, plan: GenerationPlan) -> GenerationPlan:
    """Returns the plan with its programs compiled for the topology; needs no accelerator."""
    shape = MeshShape(**plan.mesh)
    mesh = build_mesh(shape, compile_devices(plan.topology))
    found: dict[str, CompiledStep | TooLarge] = {}
    with compiling(plan.topology, mesh):
        programs = GenerationPrograms(job.size, job.request, mesh)
        for name in PROGRAMS:
            found[name] = compile_program(functools.partial(programs.lower, name), plan.topology, mesh)
    return dataclasses.replace(plan, compiled=found)


def default_shape(size: DialogueSize, request: GenerationRequest, topology: Topology) -> MeshShape:
    """Returns the mesh whose tensor axis takes as many devices as share the heads of keys evenly."""
    devices, heads = topology.devices_per_slice, size.language.kv_heads
    tensor = max(ways for ways in divisors(devices) if heads % ways == 0)
    rest = devices // tensor
    # Replicas need rows of their own; without them, the parameters at least are split.
    return MeshShape(data=rest, tensor=tensor) if request.batch % rest == 0 else _with_fsdp(rest, tensor)


def shapes(request: GenerationRequest, topology: Topology) -> Iterator[MeshShape]:
    """Yields meshes: powers of two along tensor, and the rest along fsdp or, where rows divide, data."""
    devices = topology.devices_per_slice
    for tensor in divisors(devices):
        rest = devices // tensor
        yield _with_fsdp(rest, tensor)
        if rest > 1 and request.batch % rest == 0:
            yield MeshShape(data=rest, tensor=tensor)


def mesh_from(words: Sequence[str]) -> MeshShape | None:
    """Returns the mesh that overrides such as mesh.tensor=4 name; None without any."""
    sizes = {}
    for word in words:
        axis, _, value = word.removeprefix("mesh.").partition("=")
        if axis not in MESH_AXES or not value.lstrip("-").isdecimal():
            raise UserError(f"{word} is no axis of a mesh; write mesh.{' or mesh.'.join(MESH_AXES)}=NUMBER")
        sizes[axis] = int(value)
    if not sizes:
        return None
    return MeshShape(**({} if "data" in sizes or -1 not in sizes.values() else {"data": 1}) | sizes)


def reason(plan: GenerationPlan) -> str:
    """Returns one line: the mesh, whether it fits, and how long an answer takes."""
    share = max(plan.needed.values()) / plan.topology.chip.usable_memory
    return (
        f"{plan.topology.name}, {mesh_text(plan.mesh)}: {'fits' if plan.fits else 'does not fit'} "
        f"({share:.0%} of memory), first token after {readable_seconds(plan.first_token)}, "
        f"{plan.tokens_per_s:,.1f} tokens/s"
    )


def _with_fsdp(fsdp: int, tensor: int) -> MeshShape:
    return MeshShape(data=1, fsdp=fsdp, tensor=tensor)


def _shape_text(shape: MeshShape) -> str:
    return mesh_text({axis: getattr(shape, axis) for axis in MESH_AXES})


def _rank(plan: GenerationPlan) -> tuple[bool, float]:
    return not plan.fits, plan.answer if plan.fits else max(plan.needed.values())
