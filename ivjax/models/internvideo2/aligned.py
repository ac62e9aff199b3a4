"""The InternVideo2 encoder that stands beside texts: clips and images in one space with them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2.aligned_sizes import AlignedSize
from ivjax.models.internvideo2.encoder import Encoder, PositionTable, with_scaled_residuals
from ivjax.models.layers import dense, layer_norm
from ivjax.models.tower import VideoTower
from ivjax.ops.cut import Params


class Align(nn.Module):
    """A norm and a linear layer."""

    out: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, C) -> (B, out)."""
        return dense(self.out, self.dtype, "proj")(layer_norm("norm", self.dtype)(x))


class AlignedEncoder(Encoder):
    """As Encoder, with positions of images and a layer behind the pooling."""

    size: AlignedSize

    def table(self, frames: int) -> jax.Array:
        """The position table (1, 1 + N, C) of clips, or of images where there is one frame."""
        size, clips = self.size, super().table(frames)
        own = None
        if size.images == "table":
            grid = (1, *size.grid[1:])
            # Drawn for clips too, so that `init` has it whatever it traces.
            own = PositionTable(grid, size.width, "joint", name="img_pos_embed")()
        if frames > 1 or size.frames == 1:
            return clips
        return still_table(clips, size.grid) if own is None else own

    def pooled(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Tokens (B, n, C) -> what they pool (B, out), and the weight of each of them (B, n)."""
        pooled, weights = super().pooled(x)
        if self.size.align is not None:
            pooled = Align(self.size.align, jnp.dtype(self.compute.dtype), name="align")(pooled)
        return pooled, weights


def still_table(table: jax.Array, grid: tuple[int, int, int]) -> jax.Array:
    """A table of clips (1, 1 + T*L, C) -> that of images (1, 1 + L, C): the mean over time."""
    patches = table[:, 1:].reshape(1, grid[0], -1, table.shape[-1])
    return jnp.concatenate([table[:, :1], patches.mean(1)], axis=1)


class AlignedTower(VideoTower):
    """The encoder as a video tower."""

    def example(self) -> tuple[Any, ...]:
        """Returns one clip, of which the class token alone is seen."""
        return (*super().example(), jnp.zeros((1, 1), jnp.int32))

    def rescaled(self, params: Params) -> Params:
        """Returns the parameters with residual kernels scaled by depth."""
        return with_scaled_residuals(params)


def build(size: AlignedSize, compute: Compute, taps: tuple[int, ...] = ()) -> AlignedTower:
    """Returns the tower of a size; see AlignedSize.build."""
    return AlignedTower(size, AlignedEncoder(size, compute, taps))
