"""The ten lines about a run that a start prints, and the table of its parameters."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from ivjax.drafts import store
from ivjax.experiment.buckets import known_as
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import options_text
from ivjax.progress import Say
from ivjax.train import sharding
from ivjax.train.hardware import peak_flops
from ivjax.train.program import Program


def summary(
    experiment: Experiment, program: Program, media: Sequence[str], folder: Path, step: int
) -> Iterator[str]:
    """About ten lines: what is trained, how large it is, where it lies, and what it starts from."""
    mesh, trained = program.mesh, program.state["params"]
    # Of the mesh and not of jax: a plan's mesh is of devices that are only compiled for.
    kind = getattr(mesh.devices.flat[0], "device_kind", "device")
    axes = " x ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
    everything = program.state | ({"frozen": program.frozen} if program.frozen else {})
    bytes_of = {kind: _bytes_per_device(tree) for kind, tree in everything.items()}
    # Counters are left out: a few bytes.
    parts = ", ".join(f"{kind} {_size(size)}" for kind, size in bytes_of.items() if size >= 1024)
    sliced = f", in {experiment.accumulate} micro-batches" if experiment.accumulate > 1 else ""
    facts = {
        "stage": type(experiment.stage).__name__,
        "parameters": f"{_count(trained):,} trained, {_count(program.frozen):,} frozen",
        "mesh": f"{axes} on {mesh.size} x {kind}",
        "memory": f"{_size(sum(bytes_of.values()))} per device: {parts}",
        "batch": f"{experiment.batch} clips of {', '.join(media)}{sliced}, in {experiment.dtype}",
        "steps": f"{experiment.steps:,}, {options_text(experiment.schedule)}",
        "optimizer": options_text(experiment.optimizer),
        "data": f"{type(experiment.data).__name__}, seed {experiment.seed}",
        "start": f"continuing from step {step}" if step else _start_weights(experiment),
        "folder": known_as(folder),
    }
    yield from (f"{name:<11} {fact}" for name, fact in facts.items())
    if peak_flops(kind) is None:
        # Here once, and then on no log line.
        yield f"  MFU is unknown: no data sheet gives the peak rate of {kind}"
    if experiment.schedule.warmup >= experiment.steps:
        # Not refused: a trial of a few steps is no mistake.
        warmup = experiment.schedule.warmup
        yield f"  the warm-up of {warmup} steps outlasts the run: the rate stays below its peak"


def parameter_table(program: Program, folder: Path, say: Say) -> None:
    """Writes parameters.txt: where every parameter lies and how it is trained; says its lines too."""
    everything = program.state | ({"frozen": program.frozen} if program.frozen else {})
    lines = list(sharding.describe(everything, program.mesh, program.objective))
    # Always stored, because the split of a run is asked about long after its terminal is gone.
    store(folder / "parameters.txt", "".join(f"{line}\n" for line in lines))
    for line in lines:
        say(line)


def _start_weights(experiment: Experiment) -> str:
    files = ", ".join(experiment.init_from)
    return f"from {files}" if files else f"parameters drawn from seed {experiment.seed}"


def _count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _bytes_per_device(tree: Any) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _size(size: int) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size / 2**10:.1f} KiB"
