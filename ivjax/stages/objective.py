"""What a stage hands to the train loop: pure functions and the shape of one clip."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import jax

from ivjax.models.layers import Remat

Params = dict[str, Any]
Batch = Mapping[str, jax.Array]
Metrics = dict[str, jax.Array]


@dataclass(frozen=True)
class Compute:
    """How a stage computes: precision of the forward pass, what is recomputed, scan or unrolled."""

    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    remat: Remat = "none"
    scan: bool = True


@dataclass(frozen=True)
class Objective:
    """A stage made ready to train.

    `loss(params, batch, key)` returns a float32 mean over the rows of the batch and its terms.
    `batch` gives shape and dtype of one row of every array that the loss reads.
    """

    init: Callable[[jax.Array], Params]
    loss: Callable[[Params, Batch, jax.Array], tuple[jax.Array, Metrics]]
    batch: Mapping[str, jax.ShapeDtypeStruct]
    tokens: int  # sequence length per clip that the trained encoder sees
    flops: Mapping[str, float]  # forward + backward per clip, by part, two per multiply-add


class Stage(Protocol):
    """A typed, frozen description of what is trained."""

    def build(self, compute: Compute) -> Objective:
        """Checks the stage and returns its pure functions."""
        ...
