"""Swept values as arguments of the compiled step, so that runs which differ only in them share it."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ivjax.experiment.branches import replaced
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import leaves
from ivjax.ops.cut import Params
from ivjax.stages.objective import Batch, Metrics
from ivjax.train import sharding
from ivjax.train.program import Build, Program, Step, jit_step, loss_of, program_of, step_of
from ivjax.train.step import State

# What the step never sees: experiments that differ in nothing else have the same one.
_OUTSIDE = ("data", "checkpoint", "log", "eval_loss", "evals", "phases", "init_from", "init_fresh")
_LARGEST = 2**31 - 1  # integers are traced as int32

Values = Mapping[str, Any]  # what runs that share a program do not share, by path


class SharedValues:
    """Finds out which swept values a step can take as arguments, by tracing it with each as an unknown."""

    def __init__(self, swept: Sequence[str]):
        self._swept = swept
        # What was found for one run serves those that differ in shared values alone.
        self._traceable: dict[tuple[str, ...], bool] = {}

    def paths(self, experiment: Experiment, program: Program) -> tuple[str, ...]:
        """The swept paths that can be arguments of the experiment's step; needs its mesh in context."""
        found: tuple[str, ...] = ()
        # One after the other: a number that cannot be traced must not rule out the others.
        for path in self._swept:
            if not _is_number(experiment, path):
                continue
            paths = (*found, path)
            question = (step_key(experiment, paths), *paths)
            if question not in self._traceable:
                self._traceable[question] = _can_trace(experiment, program, paths)
            found = paths if self._traceable[question] else found
        return found


def _is_number(experiment: Experiment, path: str) -> bool:
    value = leaves(experiment).get(path)
    # A bool is an int for Python, but a switch for a stage; the batch is a shape, which no tracing shows.
    if path == "batch" or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) <= _LARGEST


def _can_trace(experiment: Experiment, program: Program, paths: Sequence[str]) -> bool:
    values = _values_at(experiment, paths)
    # eval_shape only traces: no value is known to the step, as when it is compiled with arguments.
    for batch in program.batches.values():
        try:
            jax.eval_shape(_step_with_values(experiment), program.state, program.frozen, batch, values)
        except Exception:  # whatever a stage raises that branches on a value, or makes a shape of it
            return False
    return True


def step_key(experiment: Experiment, shared: Collection[str]) -> str:
    """Equal for experiments that compile to the same step when the values at `shared` are its arguments."""
    kept = {
        path: repr(value)
        for path, value in leaves(experiment).items()
        if path not in shared and path.split(".")[0] not in _OUTSIDE
    }
    # Sixteen of 64 digits: it names a lock file, and a sweep has few different steps.
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SharedProgram(Program):
    """A program whose step takes values of the experiment as arguments.

    Attributes:
        values: The values of this run, by path, on the devices.
        compiling: Entered while the step compiles.
    """

    values: Values
    compiling: AbstractContextManager[Any]

    def compile(self, media: Iterable[str]) -> dict[str, Step]:
        """The compiled step for each medium, with this run's values; needs the mesh in context."""
        # Lowered outside: that takes no compiler, and need not wait for other processes.
        lowered = {m: self.step.lower(self.state, self.frozen, self.batches[m], self.values) for m in media}
        with self.compiling:
            compiled = {medium: step.compile() for medium, step in lowered.items()}
        return {medium: _given(step, self.values) for medium, step in compiled.items()}


def shared_program_of(paths: Sequence[str], compiling: AbstractContextManager[Any]) -> Build:
    """As `program_of`, but the values at `paths` are arguments of the step instead of constants in it."""

    def build(experiment: Experiment, mesh: Mesh) -> SharedProgram:
        program = program_of(experiment, mesh)
        # jnp.asarray keeps Python numbers weakly typed: in bfloat16 they do what constants would.
        values = {
            path: jax.device_put(jnp.asarray(value), sharding.replicate(mesh))
            for path, value in _values_at(experiment, paths).items()
        }
        inherited = {field.name: getattr(program, field.name) for field in fields(program)}
        inherited["step"] = jit_step(_step_with_values(experiment), program.state, mesh)
        inherited["loss"] = _given(jax.jit(_loss_with_values(experiment)), values)
        return SharedProgram(**inherited, values=values, compiling=compiling)

    return build


def _given(function: Any, values: Values) -> Any:
    """function(x, y, z, values) as a function of (x, y, z)."""
    return lambda x, y, z: function(x, y, z, values)


def _step_with_values(experiment: Experiment) -> Any:
    def step(state: State, frozen: Params, batch: Batch, values: Values) -> tuple[State, Metrics]:
        return step_of(_with_values(experiment, values))(state, frozen, batch)

    return step


def _loss_with_values(experiment: Experiment) -> Any:
    def loss(trained: Params, frozen: Params, batch: Batch, values: Values) -> tuple[jax.Array, Metrics]:
        return loss_of(_with_values(experiment, values))(trained, frozen, batch)

    return loss


def _with_values(experiment: Experiment, values: Values) -> Experiment:
    """The experiment with the values put in at their paths, traced or not."""
    for path, value in values.items():
        experiment = replaced(experiment, path.split("."), value)
    return experiment


def _values_at(experiment: Experiment, paths: Sequence[str]) -> dict[str, Any]:
    values = leaves(experiment)
    return {path: values[path] for path in paths}
