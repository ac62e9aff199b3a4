"""Searches for the best way to run an experiment on a topology: mesh, rematerialisation, micro-batches."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from ivjax.errors import UserError
from ivjax.experiment.computing import Remat
from ivjax.experiment.experiment import Experiment
from ivjax.plan.estimate import with_mesh
from ivjax.plan.roofline import Assumptions
from ivjax.plan.topology import Topology
from ivjax.plan.training_plan import TrainingPlan, make_plan
from ivjax.plan.units import mesh_text
from ivjax.progress import Say

_REMATS: tuple[Remat, ...] = ("none", "dots", "full")
_MICRO_BATCHES = (1, 2, 4, 8)
_WAYS = (2, 4, 8)  # along tensor, or along context


def search(
    name: str, experiment: Experiment, topology: Topology, assumed: Assumptions, say: Say
) -> list[TrainingPlan]:
    """Returns all plans that were tried, best first: those that fit by time, then the others by their bytes.

    One thing is changed at a time, from the best so far: first the mesh, then rematerialisation, then the
    number of micro-batches. A full grid would take minutes for little gain. `say` is told each attempt.
    """
    tried: dict[Any, TrainingPlan] = {}

    def attempt(candidate: Experiment) -> None:
        # The same candidate comes again from the next change, and an estimate takes seconds.
        key = (candidate.mesh, candidate.remat, candidate.accumulate)
        if key in tried:
            return
        try:
            tried[key] = make_plan(name, candidate, topology, assumed)
        except UserError as error:
            say(f"  not possible: {error}")
            return
        say(f"  {reason(tried[key])}")

    for candidate in _meshes(experiment, topology):
        attempt(candidate)
    for change in (_remats, _micro_batches):
        if tried:
            for candidate in change(ranked(tried.values())[0].experiment):
                attempt(candidate)
    if not tried:
        raise UserError(f"no mesh of {topology.name} can run {name}; see the lines above for what each lacks")
    return ranked(tried.values())


def best(
    name: str,
    experiment: Experiment,
    topology: Topology,
    assumed: Assumptions,
    say: Say,
    shown: int = 5,
) -> Experiment:
    """Returns the experiment of the best plan; `say` is told the best few."""
    plans = search(name, experiment, topology, assumed, say)
    say(f"the best of {len(plans)}:")
    for plan in plans[:shown]:
        say(f"  {overrides(plan.experiment)}: {reason(plan)}")
    return plans[0].experiment


def overrides(experiment: Experiment) -> str:
    """Returns the overrides that run an experiment like this."""
    mesh = experiment.mesh
    axes = [f"mesh.{axis}={getattr(mesh, axis)}" for axis in ("data", "fsdp", "tensor", "context")]
    return " ".join([*axes, f"remat={experiment.remat}", f"accumulate={experiment.accumulate}"])


def ranked(plans: Any) -> list[TrainingPlan]:
    """Returns plans that fit, the fastest first; then the others, the smallest first."""

    def key(plan: TrainingPlan) -> tuple[bool, float, float]:
        # Two digits of the time: the estimate is no more exact. Of equals the one that sends less is better.
        rounded = float(f"{plan.speed.step:.2g}")
        return not plan.fits, rounded if plan.fits else plan.needed, sum(plan.estimate.costs.sent.values())

    return sorted(plans, key=key)


def reason(plan: TrainingPlan) -> str:
    """Returns one line: the mesh, and why it is good or bad."""
    experiment, chip = plan.experiment, plan.topology.chip
    share = plan.needed / chip.usable_memory
    verdict = "fits" if plan.fits else "does not fit"
    return (
        f"{mesh_text(plan.estimate.mesh)}, remat {experiment.remat}, accumulate {experiment.accumulate}: "
        f"{verdict} ({share:.0%} of memory), {plan.speed.step:.3g} s a step bound by {plan.speed.bound}, "
        f"MFU {plan.speed.mfu:.1%}"
    )


def _meshes(experiment: Experiment, topology: Topology) -> Iterator[Experiment]:
    """Yields the config's own mesh, powers of two along fsdp, then tensor parallel ones with fsdp, and for
    texts those that split their tokens with fsdp."""
    devices = topology.devices_per_slice
    splits = [(fsdp, 1, 1) for fsdp in divisors(devices)]
    splits += [(devices // ways, ways, 1) for ways in _WAYS if devices % ways == 0]
    if splits_tokens(experiment):
        splits += [(devices // ways, 1, ways) for ways in _WAYS if devices % ways == 0]
    yield experiment
    for fsdp, tensor, context in splits:
        yield with_mesh(experiment, data=-1, fsdp=fsdp, tensor=tensor, context=context)


def splits_tokens(experiment: Experiment) -> bool:
    """Whether a row is a text, whose tokens `context` splits evenly; patches of clips are too odd."""
    return hasattr(experiment.stage, "buckets")


def divisors(devices: int) -> list[int]:
    """Returns the powers of two that divide a number of devices."""
    return [2**i for i in range(devices.bit_length()) if devices % 2**i == 0]


def _remats(best: Experiment) -> Iterator[Experiment]:
    for remat in _REMATS:
        yield dataclasses.replace(best, remat=remat)


def _micro_batches(best: Experiment) -> Iterator[Experiment]:
    for count in _MICRO_BATCHES:
        yield dataclasses.replace(best, accumulate=count)
