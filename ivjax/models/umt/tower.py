"""UMT's vision encoder as a video tower."""

import math

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.umt.sizes import UmtSize
from ivjax.models.videomae.encoder import VideoMaeEncoder, VideoMaeTower
from ivjax.ops.positions import sinusoid_interleaved
from ivjax.ops.resize import resize_grid


class UmtEncoder(VideoMaeEncoder):
    """VideoMAE's encoder with a fixed position table that is resized to the clip's grid."""

    size: UmtSize

    def _table(self, times: int) -> jax.Array:
        size, (_, rows, columns) = self.size, self.size.grid
        made = size.table
        table = sinusoid_interleaved(math.prod(made), size.width)
        if times == 1:
            # An image has the first frame's places, and no mean of all frames'.
            table, made = table[: made[1] * made[2]], (1, *made[1:])
        return jnp.asarray(resize_grid(table, made, (times, rows, columns)))[None]


class UmtTower(VideoMaeTower):
    """The encoder as a video tower; errors call it by this name."""


def build(size: UmtSize, compute: Compute, taps: tuple[int, ...] = ()) -> UmtTower:
    """Returns the tower of a size; see UmtSize.build."""
    return UmtTower(size, UmtEncoder(size, compute, taps))
