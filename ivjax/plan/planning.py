"""`ivjax.plan`: the plan of an experiment on accelerators that need not be there."""

from ivjax.experiment.experiment import Experiment
from ivjax.plan.mesh_search import best
from ivjax.plan.roofline import checked_assumptions
from ivjax.plan.topology import parse
from ivjax.plan.training_plan import TrainingPlan, make_plan, single_run
from ivjax.progress import Say


def plan(
    experiment: Experiment,
    topology: str,
    *,
    slices: int = 1,
    name: str = "experiment",
    phase: str | None = None,
    search: bool = False,
    compiled: bool = False,
    efficiency: float = 1.0,
    decode_ms: float | None = None,
    price: float | None = None,
    say: Say = print,
) -> TrainingPlan:
    """Plans an experiment on a topology: bytes, FLOPs, traffic, time and cost of a step, from shapes alone.

    Args:
        experiment: what is to be trained.
        topology: TPUs with their shape in chips, such as `v5p:8x8x4`; or `h200:64`, `cpu:8`.
        slices: slices of that topology, joined by the network.
        name: what the plan calls the experiment.
        phase: which phase of an experiment with phases.
        search: whether other meshes, remat and micro-batches are tried; the plan's `experiment` is the best.
        compiled: whether the step is compiled as well, which takes minutes. For TPUs that needs libtpu.
        efficiency: share of the peak that matrix products reach.
        decode_ms: CPU time to decode one clip (None: by its pixels).
        price: of one chip for one hour, in any currency.
        say: takes what the search tries.
    """
    place = parse(topology, slices)
    assumed = checked_assumptions(efficiency, decode_ms, price)
    run = single_run(experiment, phase)
    if search:
        run = best(name, run, place, assumed, say)
    return make_plan(name, run, place, assumed, compiled)
