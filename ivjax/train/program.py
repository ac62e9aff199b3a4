"""The step of an experiment on a mesh, before anything is on a device: what goes in, and where it lies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from ivjax.convert.starting import shapes_of
from ivjax.errors import UserError
from ivjax.experiment.branches import replaced
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import leaves
from ivjax.ops.cut import joined
from ivjax.ops.layout import batch_spec
from ivjax.stages.objective import Batch, Metrics, Objective, Params
from ivjax.train import sharding
from ivjax.train.step import State, init_state, make_step

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Program:
    """`state`, `frozen` and `batches` (by medium) are shapes that carry shardings; `step` is jitted.

    `trained` are the shapes of one run's parameters, also where the state is that of several.

    step(state, frozen, batch, numbers) -> (state, metrics); `numbers` are values of the experiment that are
    passed in rather than compiled in, by path: runs that differ only in them share one program.
    """

    objective: Objective
    trained: Params
    state: State
    frozen: Params
    batches: Mapping[str, Batch]
    step: Any
    mesh: Mesh

    @property
    def shardings(self) -> State:
        """Where the state lies."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.state)

    def lower(self, medium: str | None = None, numbers: Numbers | None = None) -> jax.stages.Lowered:
        """The step for batches of a medium (None: the main one), lowered; needs the mesh in context."""
        batch = self.batches[medium or next(iter(self.batches))]
        return self.step.lower(self.state, self.frozen, batch, dict(numbers or {}))


def program_of(experiment: Experiment, mesh: Mesh) -> Program:
    """The program of an experiment; call it with the mesh in context."""
    check_obeyed(experiment)
    objective, recipe = experiment.stage.build(experiment.compute), experiment.recipe
    trained, frozen = shapes_of(objective, experiment.dtype)
    state = jax.eval_shape(lambda params: init_state(params, recipe), trained)
    state = sharding.abstract(state, sharding.state_shardings(state, mesh, objective.rules))
    frozen = sharding.abstract(frozen, sharding.shardings_of(frozen, mesh, objective.rules))
    rows = NamedSharding(mesh, batch_spec())
    batches: dict[str, Any] = {
        name: {
            key: jax.ShapeDtypeStruct((experiment.batch, *row.shape), row.dtype, sharding=rows)
            for key, row in medium.batch.items()
        }
        for name, medium in objective.media.items()
    }
    outputs = (jax.tree.map(lambda leaf: leaf.sharding, state), sharding.replicate(mesh))
    step = jax.jit(step_of(experiment), donate_argnums=0, out_shardings=outputs)
    return Program(objective, trained, state, frozen, batches, step, mesh)


def check_obeyed(experiment: Experiment) -> None:
    """Raises for options that the loop cannot obey yet."""
    options = {
        "trains": experiment.trains,
        "phases": experiment.phases,
        "evals": experiment.evals,
        "checkpoint.best": experiment.checkpoint.best,
    }
    for path, value in options.items():
        if value:
            raise UserError(f"{path} is set, and training does not support it yet; leave it out")


def step_of(experiment: Experiment) -> Callable[[State, Params, Batch, Numbers], tuple[State, Metrics]]:
    """The step as a pure function of (state, frozen, batch, numbers); see Program."""

    def step(state: State, frozen: Params, batch: Batch, numbers: Numbers) -> tuple[State, Metrics]:
        own = with_numbers(experiment, numbers)
        return make_step(own.stage.build(own.compute), own.recipe)(state, frozen, batch)

    return step


def loss_of(experiment: Experiment) -> Callable[[Params, Params, Batch, Numbers], tuple[jax.Array, Metrics]]:
    """The loss and its terms as a function of (trained, frozen, batch, numbers); its key is the seed's."""

    def loss(trained: Params, frozen: Params, batch: Batch, numbers: Numbers) -> tuple[jax.Array, Metrics]:
        own = with_numbers(experiment, numbers)
        objective = own.stage.build(own.compute)
        return objective.loss(joined(trained, frozen), batch, jax.random.key(own.seed))

    return loss


def with_numbers(experiment: Experiment, numbers: Numbers) -> Experiment:
    """The experiment with the values at the paths of `numbers` put in, traced or not."""
    for path, number in numbers.items():
        experiment = replaced(experiment, path.split("."), number)
    return experiment


def numbers_of(experiment: Experiment, paths: Sequence[str]) -> dict[str, Any]:
    """The experiment's own values at `paths`."""
    values = leaves(experiment)
    return {path: values[path] for path in paths}
