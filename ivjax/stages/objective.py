"""The interface of a stage to the train loop: pure functions and the shapes of its batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import jax

from ivjax.experiment.patterns import covers
from ivjax.experiment.rules import Rules
from ivjax.ops.cut import Params

Batch = Mapping[str, jax.Array]  # arrays of a global batch by name, one row per clip
PerClip = dict[str, jax.Array]  # arrays with one row per clip
Metrics = dict[str, jax.Array]  # terms of a loss and other scalars, by name

MOMENTUM = 0.1  # share that a new batch has in running statistics: torch's default for batch norm


class ParameterGroup(NamedTuple):
    """The parameters under `patterns`, but for those under `without`."""

    patterns: tuple[str, ...]
    without: tuple[str, ...] = ()

    def covers(self, path: str) -> bool:
        """Whether a parameter belongs to the group."""
        return covers(self.patterns, path) and not covers(self.without, path)


@dataclass(frozen=True)
class Medium:
    """One kind of batch: shape and dtype of one row of every array in it, and what a row costs.

    `tokens` is the length of the sequence that the trained encoder sees of a clip; `flops` are forward
    and backward per clip, by layer, two per multiply-add. `remedies` are overrides, by array, with which the
    stage does without it, for messages. `modules` has, for layers that `trains` may freeze, their own
    parameters, and then those of what they read, whose gradients pass through them; `flops` has these layers
    as if everything were trained.
    """

    batch: Mapping[str, jax.ShapeDtypeStruct]
    tokens: int
    flops: Mapping[str, float]
    remedies: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, tuple[ParameterGroup, ...]] = field(default_factory=dict)


class Joint(NamedTuple):
    """A loss that compares the clips of a batch with each other, cut where the clips meet.

    Cut so, a batch can be worked off in micro-batches and its gradient still be that of the whole.

    Attributes:
        per_clip: `per_clip(params, batch, key)` returns arrays with one row per clip, each from its own clip
            alone.
        loss: `loss(params, rows, batch, key)` returns the loss and its terms from the rows of the whole
            batch; what is drawn among rows, such as negatives, is drawn here.
    """

    per_clip: Callable[[Params, Batch, jax.Array], PerClip]
    loss: Callable[[Params, PerClip, Batch, jax.Array], tuple[jax.Array, Metrics]]


@dataclass(frozen=True)
class Objective:
    """A stage made ready to train.

    Attributes:
        init: `init(key)` returns fresh parameters.
        loss: `loss(params, batch, key)` returns a float32 loss and its terms: without `joint` a mean over the
            rows of the batch, with it `joint.loss` of `joint.per_clip`.
        media: the kinds of batch that it takes, the main one first.
        rules: how each parameter is split over the mesh, decays and is bounded; the first match decides.
        frozen: patterns of the parameters that are not trained.
        unfreeze: the override that trains them all the same, for messages; empty where there is none.
        frozen_layers: pattern of a stack of layers -> how many of its first layers are not trained.
        rates: factors of the learning rate by path; 1 where there is none.
        running: paths of parameters that no gradient moves: each step moves them by the share `MOMENTUM`
            towards the term of the same name.
        joint: the loss in two halves, where it compares the rows of a batch with each other.
        prepare: adds arrays that depend on the whole batch, such as each token's weight in a mean over all of
            them; called before the batch is cut into micro-batches. With them the loss is a mean over rows.
        eval_loss: the loss on clips that are not trained on: without dropout and drop-path, batch norms by
            their running statistics, masks as in training (None: `loss`, which has none of these).
        grid: the patch grid that position tables of weight files are resized to.
        vocabulary: name of a field of words -> the number of words that the stage knows; the ids of that
            field are below it. A stage of several vocabularies states each.
        classes: the option of the stage that says how many classes its labels have -> that number.
    """

    init: Callable[[jax.Array], Params]
    loss: Callable[[Params, Batch, jax.Array], tuple[jax.Array, Metrics]]
    media: Mapping[str, Medium]
    rules: Rules
    frozen: tuple[str, ...] = ()
    unfreeze: str = ""
    # By count and not by path, since a scanned stack is one array per parameter.
    frozen_layers: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    # Kept among the parameters, so that checkpoints, averages and weight files hold them like any other.
    running: tuple[str, ...] = ()
    joint: Joint | None = None
    prepare: Callable[[Batch], Batch] = lambda batch: batch
    eval_loss: Callable[[Params, Batch, jax.Array], tuple[jax.Array, Metrics]] | None = None
    grid: tuple[int, int, int] | None = None
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)

    @property
    def main(self) -> Medium:
        """The first medium."""
        return next(iter(self.media.values()))

    def frozen_layers_of(self, path: str) -> int:
        """Returns how many first layers of the stack at `path` are not trained; 0 for most parameters."""
        return max((n for pattern, n in self.frozen_layers.items() if covers([pattern], path)), default=0)


def joint_loss(joint: Joint) -> Callable[[Params, Batch, jax.Array], tuple[jax.Array, Metrics]]:
    """The loss of a whole batch at once."""
    return lambda params, batch, key: joint.loss(params, joint.per_clip(params, batch, key), batch, key)
