"""Options of the computation, and of the steps that gradients become."""

from dataclasses import dataclass
from typing import Literal

from ivjax.experiment.run_options import AdamW
from ivjax.experiment.schedules import Schedule

Remat = Literal["none", "dots", "full", "offload"]  # what of a block is kept for the backward pass

Dtype = Literal["float32", "bfloat16"]  # what a model computes in


@dataclass(frozen=True)
class Compute:
    """Options of a stage's computation.

    Attributes:
        dtype: precision of the forward pass.
        remat: what of each block is computed again in the backward pass.
        remat_blocks: how many of the first blocks `remat` holds for (None: all).
        scan: whether the blocks are one scanned loop or unrolled.
    """

    dtype: Dtype = "bfloat16"
    remat: Remat = "none"
    # A ViT-L step for 16 TPU v5e compiles in 45 s scanned and 98 s unrolled, and its
    # program has 16 against 320 MiB.
    scan: bool = True
    remat_blocks: int | None = None


@dataclass(frozen=True)
class Recipe:
    """Options that turn gradients into steps.

    Attributes:
        optimizer: the optimizer's options.
        schedule: the learning rate of each step.
        steps: optimizer steps of the run.
        accumulate: slices of a batch whose gradients are summed.
        ema: decay of the moving average of the parameters (None: no average).
        seed: seed of all random numbers.
    """

    optimizer: AdamW
    schedule: Schedule
    steps: int
    accumulate: int = 1
    ema: float | None = None
    seed: int = 0
