"""Which of an experiment's numbers a compiled step can take as arguments."""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import jax

from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import leaves
from ivjax.train.program import Program, numbers_of, step_of

# What the step never sees: experiments that differ in nothing else have the same one.
_OUTSIDE = ("data", "checkpoint", "log", "eval_loss", "evals", "init_from", "init_fresh")
_LARGEST = 2**31 - 1  # integers are traced as int32


class Traced(NamedTuple):
    """Paths whose values may be arguments of the step, and those among them that it makes use of."""

    paths: tuple[str, ...] = ()
    used: frozenset[str] = frozenset()


class Tracer:
    """Finds out by tracing; what was found for one run serves those that differ in traced values alone."""

    def __init__(self, swept: Sequence[str]):
        self._swept = swept
        self._found: dict[tuple[str, ...], frozenset[str] | None] = {}

    def traced(self, experiment: Experiment, program: Program) -> Traced:
        """The swept paths that can be arguments of the experiment's step; needs its mesh in context."""
        known = Traced()
        for path in self._swept:
            if not _is_number(experiment, path):
                continue
            paths = (*known.paths, path)
            question = (step_key(experiment, paths), *paths)
            if question not in self._found:
                self._found[question] = _used(experiment, program, paths)
            used = self._found[question]
            known = known if used is None else Traced(paths, used)
        return known


def _is_number(experiment: Experiment, path: str) -> bool:
    value = leaves(experiment).get(path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) <= _LARGEST


def _used(experiment: Experiment, program: Program, paths: Sequence[str]) -> frozenset[str] | None:
    """Those of `paths` that the step uses as arguments; None if it does not trace with all of them."""
    numbers, used = numbers_of(experiment, paths), set()
    for batch in program.batches.values():
        try:
            traced = jax.make_jaxpr(step_of(experiment))(program.state, program.frozen, batch, numbers).jaxpr
        except Exception:  # whatever a stage raises that branches on a value, or makes a shape of it
            return None
        read = {id(v) for equation in traced.eqns for v in equation.invars} | {id(v) for v in traced.outvars}
        arguments = traced.invars[len(traced.invars) - len(paths) :]
        # A dict is flattened in the order of its sorted keys.
        used |= {path for path, v in zip(sorted(paths), arguments, strict=True) if id(v) in read}
    return frozenset(used)


def step_key(experiment: Experiment, traced: Collection[str]) -> str:
    """Equal for experiments that compile to the same step when the values at `traced` are its arguments."""
    return _digest(experiment, lambda path: path in traced or path.split(".")[0] in _OUTSIDE)


def group_key(experiment: Experiment, traced: Traced, fixed_seed: bool) -> str:
    """Equal for experiments that can be trained together: they differ in what the step takes as arguments.

    A seed also decides order and first parameters, and each run may have its own, unless `fixed_seed`.
    """
    seed = set() if fixed_seed else {"seed"} & set(traced.paths)
    own = (traced.used - {"seed"}) | seed
    return _digest(experiment, lambda path: path in own)


def _digest(experiment: Experiment, leave_out: Callable[[str], bool]) -> str:
    kept = {path: repr(value) for path, value in leaves(experiment).items() if not leave_out(path)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
