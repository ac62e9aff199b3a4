"""What the tests of a session share, because to make it anew takes most of a test's time."""

import functools
from collections import OrderedDict
from dataclasses import fields
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ivjax.experiment.experiment import Experiment
from ivjax.stages.objective import Objective, Params
from ivjax.train import loop, session
from ivjax.train.program import Program, program_of

# A program does not depend on these.
_OUTSIDE = {"data", "checkpoint", "log", "eval_loss", "phases", "evals", "init_from", "init_fresh", "mesh"}
_MOST = 16  # programs that are kept: those of a file of tests, not those of all


class SharedPrograms:
    """Programs by experiment and mesh: to trace and compile one takes several seconds, its steps none.

    Starting parameters that are drawn, and not read, are kept with the program that they are drawn for.
    """

    def __init__(self) -> None:
        self._programs: OrderedDict[Any, Program] = OrderedDict()
        self._drawn: dict[Any, Params] = {}
        self._starting_params = session.starting_params

    def install(self) -> None:
        """Has every `train` of this process take its program from here."""
        loop.train.__kwdefaults__["build"] = self.program_of
        session.starting_params = self.starting_params

    def program_of(self, experiment: Experiment, mesh: Mesh) -> Program:
        """As `program_of`; experiments that differ only in what no program depends on share one."""
        told = [repr(getattr(experiment, f.name)) for f in fields(experiment) if f.name not in _OUTSIDE]
        key = (*told, mesh)
        if key not in self._programs:
            self._programs[key] = program_of(experiment, mesh)
            while len(self._programs) > _MOST:
                _, old = self._programs.popitem(last=False)
                self._drawn = {k: v for k, v in self._drawn.items() if k[0] != id(old.objective)}
        self._programs.move_to_end(key)
        return self._programs[key]

    def starting_params(
        self, objective: Objective, shapes: Params, read: Any, seed: int, shardings: Params
    ) -> Params:
        """As `starting_params`; a copy is kept, because a step takes the buffers of what it is given."""
        draw = functools.partial(self._starting_params, objective, shapes, read, seed, shardings)
        if read or not any(program.objective is objective for program in self._programs.values()):
            return draw()
        key = (id(objective), seed, str(jax.tree.structure(shapes)))
        if key not in self._drawn:
            self._drawn[key] = jax.tree.map(np.array, draw())
        return jax.tree.map(jax.device_put, self._drawn[key], shardings)
