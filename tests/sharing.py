"""Programs and folders that the tests of a session share, because making them takes most of a test's time."""

import functools
from collections import OrderedDict
from dataclasses import fields
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ivjax.experiment.experiment import Experiment
from ivjax.ops.cut import Params
from ivjax.stages.objective import Objective
from ivjax.train import loop, session
from ivjax.train.program import Program, program_of

# A program does not depend on these.
_OUTSIDE = {"data", "checkpoint", "log", "eval_loss", "phases", "evals", "init_from", "init_fresh", "mesh"}
_MOST = 16  # programs that are kept, and draws: those of a file of tests, not those of all


class SharedPrograms:
    """Programs by experiment and mesh: to trace and compile one takes several seconds, its steps none.

    So does a program that draws starting parameters; what is drawn is kept by stage, mesh and seed.
    """

    def __init__(self) -> None:
        self._programs: OrderedDict[Any, Program] = OrderedDict()
        self._drawn: OrderedDict[Any, Params] = OrderedDict()
        self._starting_params = session.starting_params

    def install(self) -> None:
        """Has every `train` of this process take its program from here."""
        loop.train.__kwdefaults__["build"] = self.program_of
        session.starting_params = self.starting_params

    def program_of(self, experiment: Experiment, mesh: Mesh) -> Program:
        """As `program_of`; experiments that differ only in what no program depends on share one."""
        told = {f.name: repr(getattr(experiment, f.name)) for f in fields(experiment)}
        key = (*(text for name, text in told.items() if name not in _OUTSIDE), mesh)
        return _kept(self._programs, key, lambda: program_of(experiment, mesh))

    def starting_params(
        self, objective: Objective, shapes: Params, read: Any, seed: int, shardings: Params
    ) -> Params:
        """As `starting_params`; a copy is kept, because a step takes the buffers of what it is given."""
        draw = functools.partial(self._starting_params, objective, shapes, read, seed, shardings)
        stage = next((key[0] for key, p in self._programs.items() if p.objective is objective), None)
        if read or stage is None:
            return draw()
        key = (stage, seed, str(shapes), tuple(jax.tree.leaves(shardings)))
        drawn = _kept(self._drawn, key, lambda: jax.tree.map(np.array, draw()))
        return jax.tree.map(jax.device_put, drawn, shardings)


def _kept(values: OrderedDict[Any, Any], key: Any, make: Any) -> Any:
    """The value of a key, made if it is not there; the one that was asked for longest ago makes room."""
    if key not in values:
        values[key] = make()
        if len(values) > _MOST:
            values.popitem(last=False)
    values.move_to_end(key)
    return values[key]
