"""The plan of an experiment on a topology: estimated and, if asked for, compiled."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.plan.compiled_step import CompiledStep, TooLarge, compile_step
from ivjax.plan.estimate import Estimate, Memory, estimate, with_mesh
from ivjax.plan.roofline import Assumptions, Speed, speed
from ivjax.plan.topology import Topology
from ivjax.plan.units import gib, mesh_text, readable_seconds
from ivjax.train.chips import Chip
from ivjax.train.phases import phases_of

# Heap over bytes alive: values that are never alive together share places in one heap, which leaves gaps. On
# TPU 1.06, 1.31 and 1.41 were measured (docs/plan.md); the largest is assumed. The other figures are guesses.
HEAP_GROWTH = {"tpu": 1.4, "gpu": 1.2, "cpu": 1.0}


@dataclass(frozen=True, repr=False)
class TrainingPlan:
    """The plan of a run; printed, it says whether it fits and how long it takes.

    Attributes:
        name: the config.
        topology: the accelerators.
        experiment: the experiment, with its mesh over the topology's slices.
        estimate: memory, FLOPs and traffic of a step, from shapes.
        speed: time of a step, and of the schedule.
        compiled: the compiled step; None if it was not compiled.
    """

    name: str
    topology: Topology
    experiment: Experiment
    estimate: Estimate
    speed: Speed
    compiled: CompiledStep | TooLarge | None = None

    @property
    def needed(self) -> int:
        """Bytes that a device must have: as compiled if it was compiled, else as estimated."""
        if self.compiled:
            return self.compiled.total
        return needed(self.estimate.memory, self.topology.chip)

    @property
    def fits(self) -> bool:
        """Whether a device has that many."""
        return self.needed <= self.topology.chip.usable_memory

    def __repr__(self) -> str:
        verdict = "fits" if self.fits else "does not fit"
        return f"{self.name} on {self.topology.name} {verdict}: {self.summary()}"

    def summary(self) -> str:
        """Returns the memory of a device, the time of a step, and that of the schedule, in words."""
        topology, speed = self.topology, self.speed
        devices, hosts = _counted(topology.devices, "device"), _counted(topology.hosts, "host")
        usable, days = gib(topology.chip.usable_memory), readable_seconds(speed.days * 86400)
        least = readable_seconds(speed.step)
        return (
            f"{devices} on {hosts}, mesh {mesh_text(self.estimate.mesh)}, {gib(self.needed)} of {usable} on "
            f"each device. A step takes at least {least} (bound by {speed.bound}), MFU {speed.mfu:.1%} at "
            f"most; the schedule takes {days}, {speed.chip_hours:,.0f} chip-hours."
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns the plan as plain values, for programs."""
        found, chip = self.estimate, self.topology.chip
        memory = {
            "given": dict(found.memory.given),
            "temporaries": found.memory.temporaries,
            "needed": self.needed,
            "usable": chip.usable_memory,
            "fits": self.fits,
        }
        return {
            "config": self.name,
            "topology": self.topology.name,
            "slices": self.topology.slices,
            "devices": self.topology.devices,
            "hosts": self.topology.hosts,
            "mesh": dict(found.mesh),
            "batch": self.experiment.batch,
            "accumulate": self.experiment.accumulate,
            "remat": self.experiment.remat,
            "parameters": found.parameters,
            "frozen_parameters": found.frozen,
            "memory": memory,
            "flops": dict(found.flops),
            "flops_executed_per_device": found.costs.flops,
            "bytes_read_per_device": found.costs.read,
            "bytes_sent_per_device": dict(found.costs.sent),
            "speed": dataclasses.asdict(self.speed),
            "compiled": None if self.compiled is None else dataclasses.asdict(self.compiled),
        }


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def single_run(experiment: Experiment, phase: str | None) -> Experiment:
    """Returns the experiment of the phase of that name, or for None one that has no phases.

    A plan is of one step and one schedule, and each phase has its own.
    """
    names = [each.name for each in experiment.phases]
    if phase is None and not names:
        return experiment
    if phase not in names:
        has = f"phases {', '.join(names)}; choose one by --phase" if names else "no phases; leave out --phase"
        raise UserError(f"the config has {has}")
    # The folder matters to what a phase starts from alone, and a plan reads no weights.
    return phases_of(experiment, Path())[names.index(phase)].experiment


def make_plan(
    name: str, experiment: Experiment, topology: Topology, assumed: Assumptions, compiled: bool = False
) -> TrainingPlan:
    """Estimates an experiment on a topology, and compiles it if `compiled`."""
    experiment = over_slices(experiment, topology)
    found = estimate(experiment, topology.chip, topology.devices)
    return TrainingPlan(
        name=name,
        topology=topology,
        experiment=experiment,
        estimate=found,
        speed=speed(found, topology, experiment.batch, experiment.steps, assumed),
        compiled=compile_step(experiment, topology, found) if compiled else None,
    )


def over_slices(experiment: Experiment, topology: Topology) -> Experiment:
    """Returns the experiment over the topology's slices. GPUs need none: the network joins them anyway."""
    if topology.slices == 1 or topology.chip.platform != "tpu":
        return experiment
    return with_mesh(experiment, slices=topology.slices)


def gaps(memory: Memory, chip: Chip) -> int:
    """Returns the bytes lost to gaps in the heap of the estimated temporaries."""
    return int(HEAP_GROWTH[chip.platform] * memory.temporaries) - memory.temporaries


def needed(memory: Memory, chip: Chip) -> int:
    """Returns the bytes that a device must have by an estimate, with the gaps of the heap."""
    return memory.total + gaps(memory, chip)
