"""Writes the table of what the released recipes need (docs/recipes.md)."""

import dataclasses
from collections.abc import Collection, Iterator
from pathlib import Path

from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.files import load_experiment
from ivjax.plan.estimate import state_bytes, with_mesh
from ivjax.plan.mesh_search import divisors, splits_tokens
from ivjax.plan.roofline import Assumptions
from ivjax.plan.topology import Topology, parse
from ivjax.plan.training_plan import TrainingPlan, make_plan
from ivjax.plan.units import gib, mesh_text, readable_seconds
from ivjax.progress import Say

RECIPES = (
    "stage1_1b",
    "stage1_6b",
    "distill_s14",
    "distill_b14",
    "distill_l14",
    "finetune_1b_k710",
    "viclip_l14",
    "stage2_1b",
    "stage2_6b",
    "clip_1b",
    "clip_b14",
    "dialogue_videochat2_mistral",
    "dialogue_internvideo2_chat",
    "dialogue_internvideo2_5",
    "dialogue_videochat_flash",
    "internvideo1_webvid",
    "next_stage1_large",
    "next_stage2_large",
)
# The usual name of each pod, and its chips: the number in v5p-128 counts cores.
PODS = {"v5e-256": "v5e:16x16", "v5p-128": "v5p:4x4x4", "v6e-256": "v6e:16x16", "64 x h200": "h200:64"}
_MICRO_BATCHES = (1, 2, 4, 8, 16)
_CONTEXTS = (1, 2, 4, 8)

_HEAD = """# What the released recipes need

Printed by `{command}`.

Every recipe at its released global batch and number of steps, on each of four groups of accelerators. The
mesh is the smallest split of the parameters (fsdp) under which a step fits; where even the largest does not,
the batch is cut into micro-batches. Where there are fewer texts than devices, their tokens are split as well
(context). A step takes *at least* the time shown: matrix products at the full peak of the chip, and all else
hidden behind them, or the other way round where links or memory bound it. Each step of a dialogue counts as
one of its largest bucket, of the longest videos; real ones take less.
MFU is *at most* what is shown. Bytes are of one device, gaps of the heap included; those marked *compiled*
are of the compiled program, the others follow from shapes (docs/plan.md says how well they agree). v5p-128
has 64 chips: Google counts cores.

| recipe | on | a device | fits | mesh | micro-batches, remat | step | MFU | whole schedule | chip-hours |
|---|---|---|---|---|---|---|---|---|---|
"""


def write_recipes(out: Path, compiled: Collection[str], command: str, say: Say) -> list[TrainingPlan]:
    """Plans every recipe on every pod and writes the table.

    `compiled` are the cells to compile, as RECIPE@TOPOLOGY; `command` is how the table says it was made.
    """
    cells = {f"{name}@{pod}": (name, label) for name in RECIPES for label, pod in PODS.items()}
    for cell in compiled:
        if cell not in cells:
            raise UserError(
                f"the table has no cell {cell!r}; write RECIPE@TOPOLOGY as in {next(iter(cells))}"
            )
    plans, rows = [], []
    for cell, (name, label) in cells.items():
        topology = parse(PODS[label])
        experiment = smallest(name, load_experiment(name), topology)
        plans.append(make_plan(name, experiment, topology, Assumptions(), cell in compiled))
        rows.append(_row(plans[-1], label))
        say(rows[-1])
    store(out, _HEAD.format(command=command) + "\n".join(rows) + "\n")
    return plans


def smallest(name: str, experiment: Experiment, topology: Topology) -> Experiment:
    """Returns the experiment with the fewest micro-batches, then least fsdp, that fits or comes nearest."""
    nearest: tuple[int, Experiment] | None = None
    for candidate in _candidates(experiment, topology):
        # Before the step is traced, which takes seconds.
        stored = state_bytes(candidate, topology.chip, topology.devices)
        if stored > topology.chip.usable_memory:
            if nearest is None or stored < nearest[0]:
                nearest = stored, candidate
            continue
        plan = make_plan(name, candidate, topology, Assumptions())
        if plan.fits:
            return candidate
        if nearest is None or plan.needed < nearest[0]:
            nearest = plan.needed, candidate
    if nearest is None:
        raise UserError(f"batch={experiment.batch} of {name} does not divide over {topology.name}")
    return nearest[1]


def _candidates(experiment: Experiment, topology: Topology) -> Iterator[Experiment]:
    for count in _MICRO_BATCHES:
        # Fewer rows than devices: several devices share a row, and split its tokens.
        context = next((c for c in _CONTEXTS if not experiment.batch * c % (topology.devices * count)), None)
        # A larger count does not divide either, since the counts are powers of two.
        if context is None or (context > 1 and not splits_tokens(experiment)):
            return
        for fsdp in divisors(topology.devices_per_slice // context):
            candidate = with_mesh(experiment, data=-1, fsdp=fsdp, tensor=1, context=context)
            yield dataclasses.replace(candidate, accumulate=count)


def _row(plan: TrainingPlan, label: str) -> str:
    speed, experiment = plan.speed, plan.experiment
    source = " *compiled*" if plan.compiled else ""
    share = plan.needed / plan.topology.chip.usable_memory
    columns = [
        plan.name,
        label,
        f"{gib(plan.needed)} ({share:.0%}){source}",
        "yes" if plan.fits else "**no**",
        mesh_text(plan.estimate.mesh),
        f"{experiment.accumulate}, {experiment.remat}",
        f"{readable_seconds(speed.step)} ({speed.bound})",
        f"{speed.mfu:.0%}",
        readable_seconds(speed.days * 86400),
        f"{speed.chip_hours:,.0f}",
    ]
    return f"| {' | '.join(columns)} |"
