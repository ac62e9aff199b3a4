"""The training step of an experiment on a mesh, before anything is on a device: shapes and shardings."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from ivjax.convert.starting import shapes_of
from ivjax.experiment.experiment import Experiment
from ivjax.ops.cut import Params, joined
from ivjax.ops.layout import batch_spec
from ivjax.stages.objective import Batch, Metrics, Objective
from ivjax.stages.training_rates import objective_of
from ivjax.train import sharding
from ivjax.train.step import State, init_state, make_step

# (state, frozen, batch) -> the state after the step, and metrics.
Step = Callable[[State, Params, Batch], tuple[State, Metrics]]
# (trained, frozen, batch) -> loss and metrics.
Loss = Callable[[Params, Params, Batch], tuple[jax.Array, Metrics]]


@dataclass(frozen=True)
class Program:
    """The jitted functions of a run and what goes into them.

    Attributes:
        objective: The built stage.
        state: Shapes of the training state, with shardings.
        frozen: Shapes of the parameters that are not trained, with shardings.
        batches: Shapes of a global batch, with shardings, by medium.
        step: step(state, frozen, batch) -> (state, metrics); it donates the state.
        loss: loss(trained, frozen, batch) -> (loss, terms), for evaluation.
        mesh: Where all of it lies.
    """

    objective: Objective
    state: State
    frozen: Params
    batches: Mapping[str, Batch]
    step: Any
    loss: Loss
    mesh: Mesh

    @property
    def shardings(self) -> State:
        """The sharding of each leaf of the state."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.state)

    def lower(self, medium: str | None = None) -> jax.stages.Lowered:
        """The lowered step for batches of a medium (None: the main one); needs the mesh in context."""
        batch = self.batches[medium or next(iter(self.batches))]
        return self.step.lower(self.state, self.frozen, batch)

    def compile(self, media: Iterable[str]) -> dict[str, Step]:
        """The compiled step for each medium; needs the mesh in context."""
        # Ahead of time, so that a step with other shapes is an error and not a second compilation.
        return {medium: self.lower(medium).compile() for medium in media}


Build = Callable[[Experiment, Mesh], Program]  # makes the program of an experiment on a mesh


def program_of(experiment: Experiment, mesh: Mesh) -> Program:
    """Builds the program of an experiment; call it with the mesh in context."""
    objective, recipe = objective_of(experiment), experiment.recipe
    trained, frozen = shapes_of(objective, experiment.dtype)
    # Shapes alone, so a plan for thousands of devices can be made on a machine without any.
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
    step = jit_step(make_step(objective, recipe), state, mesh)
    loss = jax.jit(loss_of(experiment))
    return Program(objective, state, frozen, batches, step, loss, mesh)


def jit_step(step: Callable[..., tuple[State, Metrics]], state: State, mesh: Mesh) -> Any:
    """Jits a step so that the new state takes the old one's buffers and shardings."""
    outputs = (jax.tree.map(lambda leaf: leaf.sharding, state), sharding.replicate(mesh))
    # Donated, because two states at once would take twice the memory. The shardings are fixed, because the
    # compiler might choose others for the new state, which the next step was not compiled for.
    return jax.jit(step, donate_argnums=0, out_shardings=outputs)


def step_of(experiment: Experiment) -> Step:
    """The step as a pure function of (state, frozen, batch)."""
    return make_step(objective_of(experiment), experiment.recipe)


def loss_of(experiment: Experiment) -> Loss:
    """The loss of evaluation as a pure function of (trained, frozen, batch); its key is that of the seed."""

    def loss(trained: Params, frozen: Params, batch: Batch) -> tuple[jax.Array, Metrics]:
        objective = objective_of(experiment)
        evaluated = objective.eval_loss or objective.loss
        key = jax.random.key(experiment.seed)
        return evaluated(joined(trained, frozen), objective.prepare(batch), key)

    return loss
