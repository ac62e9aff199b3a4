"""The InternVideo-Next encoder: InternVideo2's blocks and pooling, class tokens, normalised patches."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2.encoder import with_scaled_residuals
from ivjax.models.internvideo_next.sizes import NextSize
from ivjax.models.layers import AttentionPool, Block, PatchEmbed, RMSNorm
from ivjax.models.sizes import Grid
from ivjax.models.stacks import run_blocks
from ivjax.models.tower import Encoded, VideoTower
from ivjax.ops import positions
from ivjax.ops.cut import Params
from ivjax.ops.masking import gather_tokens
from ivjax.ops.resize import resize_matrix
from ivjax.ops.video import patchify, standardise


class NextEncoder(nn.Module):
    """Tokens of a clip through the blocks, and pooled."""

    size: NextSize
    compute: Compute
    taps: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        visible: jax.Array | None = None,
        keep: jax.Array | None = None,
        wanted: jax.Array | None = None,
        segments: jax.Array | None = None,
    ) -> Encoded:
        """Encodes a clip.

        The arguments are those of the InternVideo2 encoder, class tokens first in `visible` and `wanted`.
        segments (B, n): tokens see those of their own segment alone; the pooling sees all of them.
        """
        size, dtype, count = self.size, jnp.dtype(self.compute.dtype), self.size.class_tokens
        patches = patchify(video, size.tubelet, size.patch)
        table = clip_table(learned_table(self, "pos_embed", size), size)
        if visible is not None:
            patches = gather_tokens(patches, visible[:, count:] - count)
            table = table[0][visible]
        # Pixels are normalised patch by patch, and once more what they become.
        patches = RMSNorm(dtype=dtype, name="norm_pixels")(standardise(patches))
        embedded = PatchEmbed(size.tubelet, size.patch, size.width, dtype=dtype, name="patch_embed")(patches)
        cls = self.param("cls_token", nn.initializers.normal(0.02), (1, count, size.width))
        cls = jnp.broadcast_to(cls.astype(dtype), (len(video), count, size.width))
        embedded = RMSNorm(dtype=dtype, name="norm_patches")(embedded)
        x = jnp.concatenate([cls, embedded], axis=1) + table.astype(dtype)
        block = Block(size.heads, size.mlp_width, size.layer_scale, size.gelu, dtype, name="blocks")
        x, taps = run_blocks(block, size.depth, x, self.compute, keep, self.taps, wanted, shared=(segments,))
        pool = AttentionPool(size.pool_heads, size.pool_width, dtype, name="clip_projector")
        return Encoded(x, taps, *pool(x))


def learned_table(module: nn.Module, name: str, size: NextSize) -> jax.Array:
    """A module's learned position table (1, class tokens + N, C), which starts from sin-cos codes."""

    def start(_: jax.Array) -> jax.Array:
        codes = positions.sincos_3d(size.width, *size.table_grid)
        return jnp.asarray(np.concatenate([np.zeros((size.class_tokens, size.width), np.float32), codes]))[
            None
        ]

    return module.param(name, start)


def clip_table(table: jax.Array, size: NextSize) -> jax.Array:
    """A position table on the grid of the clips: linear in time, the rows of class tokens as they are."""
    old: Grid = size.table_grid
    if old[0] == size.grid[0]:
        return table
    first, places = table[:, : size.class_tokens], table[:, size.class_tokens :]
    matrix = jnp.asarray(resize_matrix(old[0], size.grid[0], cubic=False), jnp.float32)
    places = jnp.einsum("st,btlc->bslc", matrix, places.reshape(1, old[0], -1, size.width))
    return jnp.concatenate([first, places.reshape(1, -1, size.width)], axis=1)


class NextTower(VideoTower):
    """The encoder as a video tower; errors call it by this name."""

    def example(self) -> tuple[Any, ...]:
        """Returns one clip, of which the class tokens alone are seen."""
        return (*super().example(), jnp.arange(self.size.class_tokens)[None])

    def rescaled(self, params: Params) -> Params:
        """Returns the parameters with residual kernels scaled by depth."""
        return with_scaled_residuals(params)


def build(size: NextSize, compute: Compute, taps: tuple[int, ...] = ()) -> NextTower:
    """Returns the tower of a size; see NextSize.build."""
    return NextTower(size, NextEncoder(size, compute, taps))
