"""What a stage hands to the train loop: pure functions and the shapes of its batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax

from ivjax.experiment import experiment
from ivjax.experiment.computing import Compute

Params = dict[str, Any]
Batch = Mapping[str, jax.Array]
Rows = dict[str, jax.Array]
Metrics = dict[str, jax.Array]

MOMENTUM = 0.1  # of running statistics: the part that a new batch has in them


@dataclass(frozen=True)
class Medium:
    """One kind of batch: shape and dtype of one row of every array in it, and what a row costs.

    `tokens` is the length of the sequence that the trained encoder sees of a clip; `flops` are forward
    and backward per clip, by part, two per multiply-add.
    """

    batch: Mapping[str, jax.ShapeDtypeStruct]
    tokens: int
    flops: Mapping[str, float]


class Joint(NamedTuple):
    """A loss that compares the rows of a batch with each other, cut where the rows meet.

    `rows(params, batch, key)` gives arrays with one row per clip, each from its own clip alone;
    `loss(params, rows, batch)` looks at the rows of the whole batch. Cut so, a batch can be worked off in
    parts and its gradient still be that of the whole.
    """

    rows: Callable[[Params, Batch, jax.Array], Rows]
    loss: Callable[[Params, Rows, Batch], tuple[jax.Array, Metrics]]


@dataclass(frozen=True)
class Objective:
    """A stage made ready to train.

    `loss(params, batch, key)` returns a float32 loss and its terms: without `joint` a mean over the rows,
    with it `joint.loss` of `joint.rows`. `frozen` are patterns of paths of parameters that are not trained;
    `held` are patterns of stacks of layers -> how many of the first ones are not. `running` are paths of
    parameters that no gradient moves: after each step they come `MOMENTUM` nearer to the term of their name.
    `media` are the kinds of batch that it takes, the main one first; `bounds` clamp parameters after each
    step, by path. `grid` is the patch grid that position tables of weight files are resized to, and every
    token id of a batch is below `vocabulary`.
    """

    init: Callable[[jax.Array], Params]
    loss: Callable[[Params, Batch, jax.Array], tuple[jax.Array, Metrics]]
    media: Mapping[str, Medium]
    frozen: tuple[str, ...] = ()
    held: Mapping[str, int] = field(default_factory=dict)
    running: tuple[str, ...] = ()
    joint: Joint | None = None
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    grid: tuple[int, int, int] | None = None
    vocabulary: int | None = None

    @property
    def main(self) -> Medium:
        """The first medium."""
        return next(iter(self.media.values()))


def joint_loss(joint: Joint) -> Callable[[Params, Batch, jax.Array], tuple[jax.Array, Metrics]]:
    """The loss of a whole batch at once."""
    return lambda params, batch, key: joint.loss(params, joint.rows(params, batch, key), batch)


class Stage(experiment.Stage, Protocol):
    """A typed, frozen description of what is trained."""

    def build(self, compute: Compute) -> Objective:
        """Checks the stage and returns its pure functions."""
        ...

    def model(self, compute: Compute) -> nn.Module:
        """The model whose parameters are trained."""
        ...

    def parts(self) -> Mapping[str, Any]:
        """Sizes of the encoders that can stand alone, by branch of the parameter tree."""
        ...
