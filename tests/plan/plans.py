"""Estimates and plans made up for tests, with round figures."""

import dataclasses
from collections import Counter

from ivjax.experiment.files import load_experiment
from ivjax.plan.device_costs import Costs
from ivjax.plan.estimate import Estimate, Memory
from ivjax.plan.roofline import Assumptions, speed
from ivjax.plan.topology import parse
from ivjax.plan.training_plan import TrainingPlan

GIB = 2**30


def estimated(mesh, slices=1, flops=1e15, executed=5e12, read=1e12, sent=None, temporaries=GIB, given=GIB):
    """An estimate of a step of 64 clips."""
    costs = Costs(flops=executed, read=read, sent=Counter(sent or {}))
    memory = Memory({"params": given}, temporaries, ((temporaries, "f32[1] made up"),))
    sizes = dict.fromkeys(("data", "fsdp", "tensor", "context"), 1) | mesh
    return Estimate(
        mesh=sizes,
        slices=slices,
        parameters=10**9,
        frozen=0,
        tokens=100,
        row_bytes=10**6,
        memory=memory,
        flops={"blocks": flops},
        costs=costs,
    )


def planned(topology="v5e:4x4", compiled=None, accumulate=1, remat="none", steps=1000, **of_estimate):
    """A plan around such an estimate."""
    found = estimated(**({"mesh": {"data": parse(topology).devices}} | of_estimate))
    experiment = dataclasses.replace(
        load_experiment("stage1_synthetic"), batch=64, steps=steps, accumulate=accumulate, remat=remat
    )
    seconds = speed(found, parse(topology), 64, steps, Assumptions(price=2.0))
    return TrainingPlan("made_up", parse(topology), experiment, found, seconds, compiled)
