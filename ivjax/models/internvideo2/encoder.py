"""The InternVideo2 video encoder: a ViT over tubelets with an attention-pooling head."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2.sizes import EncoderSize
from ivjax.models.layers import AttentionPool, Block, PatchEmbed
from ivjax.models.stacks import run_blocks
from ivjax.models.tower import Encoded, VideoTower
from ivjax.ops import positions
from ivjax.ops.cut import Params
from ivjax.ops.masking import gather_tokens
from ivjax.ops.video import patchify, standardise


class PositionTable(nn.Module):
    """Learned position embedding of a (T, H, W) grid, started from sin-cos codes.

    joint: one table (1, [1+]N, C). separable: spatial (1, H*W, C) + temporal (1, T, C), and a row
    of its own for the class token.
    """

    grid: tuple[int, int, int]
    width: int
    kind: Literal["joint", "separable"]
    cls: bool = True

    @nn.compact
    def __call__(self) -> jax.Array:
        """The whole table (1, [1+]N, C), float32."""
        times, rows, columns = self.grid
        if self.kind == "joint":
            # The sin-cos codes are a start only: the originals train the table.
            return self._learned("table", self._start)
        spatial = self._learned("spatial", lambda: positions.sincos_2d(self.width, rows, columns))
        temporal = self._learned("temporal", lambda: positions.sincos_1d(self.width, np.arange(times)))
        table = (temporal[:, :, None] + spatial[:, None]).reshape(1, -1, self.width)
        if not self.cls:
            return table
        return jnp.concatenate([self._learned("cls", lambda: np.zeros((1, self.width))), table], axis=1)

    def _start(self) -> np.ndarray:
        start = positions.sincos_3d(self.width, *self.grid)
        return positions.with_zero_cls(start) if self.cls else start

    def _learned(self, name: str, start: Callable[[], np.ndarray]) -> jax.Array:
        # Flax makes the start again wherever a parameter is used, and some trained tables have widths that
        # have no such codes.
        if self.has_variable("params", name):
            return cast(jax.Array, self.get_variable("params", name))
        return self.param(name, lambda _: jnp.asarray(start(), jnp.float32)[None])


class Encoder(nn.Module):
    """Tokens of a clip through the blocks, and pooled."""

    size: EncoderSize
    compute: Compute
    taps: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self,
        video: jax.Array,
        visible: jax.Array | None = None,
        keep: jax.Array | None = None,
        wanted: jax.Array | None = None,
    ) -> Encoded:
        """Encodes a clip.

        video (B, T, H, W, 3): uint8, or float that is already normalised. visible (B, n): token
        indices, ascending, 0 first (class token); None for all. keep (depth, 2, B): drop-path
        multipliers. wanted (B, m): the tokens that taps are taken at; None for all.
        """
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        patches = patchify(video, size.tubelet, size.patch)
        table = self.table(video.shape[1])
        if visible is not None:
            # The embedding is linear per patch, so masked patches need not be embedded at all.
            patches = gather_tokens(patches, visible[:, 1:] - 1)
            table = table[0][visible]
        embed = PatchEmbed(size.tubelet, size.patch, size.width, dtype=dtype, name="patch_embed")
        cls = self.param("cls_token", nn.initializers.normal(0.02), (1, 1, size.width))
        cls = jnp.broadcast_to(cls.astype(dtype), (video.shape[0], 1, size.width))
        x = jnp.concatenate([cls, embed(standardise(patches))], axis=1) + table.astype(dtype)
        block = Block(size.heads, size.mlp_width, size.layer_scale, size.gelu, dtype, name="blocks")
        x, taps = run_blocks(block, size.depth, x, self.compute, keep, self.taps, wanted)
        return Encoded(x, taps, *self.pooled(x))

    def table(self, frames: int) -> jax.Array:
        """The position table (1, 1 + N, C) of clips of so many frames."""
        return PositionTable(self.size.grid, self.size.width, self.size.positions, name="pos_embed")()

    def pooled(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Tokens (B, n, C) -> what they pool (B, out), and the weight of each of them (B, n)."""
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        return AttentionPool(size.pool_heads, size.pool_width, dtype, name="clip_projector")(x)


@dataclass(frozen=True)
class EncoderTower(VideoTower):
    """The encoder as a video tower."""

    size: EncoderSize
    module: Encoder

    def example(self) -> tuple[Any, ...]:
        """Returns one clip, of which the class token alone is seen."""
        # Shapes of parameters do not depend on the tokens, and one token traces fastest.
        return (*super().example(), jnp.zeros((1, 1), jnp.int32))

    def rescaled(self, params: Params) -> Params:
        """Returns the parameters with residual kernels scaled by depth."""
        return with_scaled_residuals(params)

    def encode_above(
        self, params: Params, video: jax.Array, keep: jax.Array | None, frozen_blocks: int
    ) -> Encoded:
        """As VideoTower.encode_above. A scan goes back through all of its layers or none: here are two."""
        size, module = self.size, self.module

        def layers(first: int, last: int) -> Any:
            blocks = jax.tree.map(lambda leaf: leaf[first:last], params["blocks"])
            return {"params": {**params, "blocks": blocks}}, None if keep is None else keep[first:last]

        below, keep_below = layers(0, frozen_blocks)
        # Nothing to compute again below, because there is no backward pass.
        compute = replace(module.compute, remat="none", remat_blocks=None)
        lower = module.clone(size=replace(size, depth=frozen_blocks), compute=compute)
        # On the inputs as well: then jax sees at once that nothing below is
        # differentiated, and records nothing there.
        stream = cast(Encoded, lower.apply(jax.lax.stop_gradient(below), video, None, keep_below)).tokens
        above, keep_above = layers(frozen_blocks, size.depth)
        count = module.compute.remat_blocks
        compute = replace(
            module.compute, remat_blocks=None if count is None else max(count - frozen_blocks, 0)
        )
        upper = UpperBlocks(replace(size, depth=size.depth - frozen_blocks), compute)
        return cast(Encoded, upper.apply(above, jax.lax.stop_gradient(stream), keep_above))


class UpperBlocks(nn.Module):
    """The last blocks of an encoder and its pooling, on the residual stream before them."""

    size: EncoderSize
    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array | None) -> Encoded:
        """x (B, n, C), keep (depth, 2, B)."""
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        block = Block(size.heads, size.mlp_width, size.layer_scale, size.gelu, dtype, name="blocks")
        x, taps = run_blocks(block, size.depth, x, self.compute, keep)
        pool = AttentionPool(size.pool_heads, size.pool_width, dtype, name="clip_projector")
        return Encoded(x, taps, *pool(x))


def build(size: EncoderSize, compute: Compute, taps: tuple[int, ...] = ()) -> EncoderTower:
    """Returns the tower of a size; see EncoderSize.build."""
    return EncoderTower(size, Encoder(size, compute, taps))


def with_scaled_residuals(params: Params) -> Params:
    """An encoder's fresh parameters, the output kernels of layer i divided by sqrt(2 (i + 1))."""
    blocks = params["blocks"]

    def scaled(branch: str, layer: str) -> Params:
        kernel = blocks[branch][layer]["kernel"]
        depth = jnp.arange(1, kernel.shape[0] + 1, dtype=kernel.dtype)
        # BEiT's rescaling, which the originals call: deep residual streams start no wider than shallow ones.
        factor = (2 * depth) ** -0.5
        return blocks[branch] | {layer: blocks[branch][layer] | {"kernel": kernel * factor[:, None, None]}}

    return params | {"blocks": blocks | {"attn": scaled("attn", "proj"), "mlp": scaled("mlp", "fc2")}}
