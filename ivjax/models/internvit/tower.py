"""InternViT as a video tower: a ViT whose frames do not see each other, without a final norm."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.internvit.sizes import InternVitSize
from ivjax.models.layers import Attention, Mlp, PatchEmbed, RMSNorm, layer_norm, mean_over, scaled_branch
from ivjax.models.stacks import enter_block, run_blocks
from ivjax.models.tower import Encoded, VideoTower
from ivjax.ops.masking import gather_tokens
from ivjax.ops.resize import resize_matrix
from ivjax.ops.video import patchify, standardise


class InternVitBlock(nn.Module):
    """Pre-norm block with LayerScale; its norms are LayerNorms or RMSNorms."""

    size: InternVitSize
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array | None = None) -> jax.Array:
        """(B, N, C) -> (B, N, C). `keep` (2, B) multiplies the two branches of each sample."""
        x, size = enter_block(x), self.size
        attention = Attention(
            size.heads, self.dtype, size.qk_norm, size.qkv_bias, epsilon=size.epsilon, name="attn"
        )
        mlp = Mlp(size.mlp_width, size.width, size.gelu, self.dtype, name="mlp")
        x = x + scaled_branch(attention(self._norm("norm1")(x)), keep, 0, size.layer_scale)
        return x + scaled_branch(mlp(self._norm("norm2")(x)), keep, 1, size.layer_scale)

    def _norm(self, name: str) -> nn.Module:
        if self.size.norm == "layer":
            return layer_norm(name, self.dtype, self.size.epsilon)
        return RMSNorm(self.size.epsilon, self.dtype, name=name)


class InternVit(nn.Module):
    """Tokens of a clip's frames through the blocks."""

    size: InternVitSize
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
        """Encodes a clip; see VideoTower.encode.

        In `visible` and `wanted` the class tokens of all frames go first. Of each frame equally many patches
        are visible, because frames are rows of one batch.
        """
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        batch, frames = video.shape[:2]
        # Frames become rows of a larger batch.
        patches = patchify(video.reshape(-1, 1, *video.shape[2:]), 1, size.patch)
        table = self._table()
        places, cls_place = table[:, 1:], table[:, :1]
        if visible is not None:
            seen = _by_frame(visible, size.frames, size.grid[1] * size.grid[2])
            patches, places = gather_tokens(patches, seen), places[0][seen]
        embed = PatchEmbed(1, size.patch, size.width, dtype=dtype, name="patch_embed")
        cls = self.param("cls_token", nn.initializers.normal(0.02), (1, 1, size.width)) + cls_place
        cls = jnp.broadcast_to(cls.astype(dtype), (len(patches), 1, size.width))
        x = jnp.concatenate([cls, embed(standardise(patches)) + places.astype(dtype)], axis=1)
        if keep is not None:
            keep = jnp.repeat(keep, frames, axis=2)
        # Tokens of several frames are only in the tower's order once their frames are joined.
        inside = wanted if frames == 1 else None
        block = InternVitBlock(size, dtype, name="blocks")
        x, taps = run_blocks(block, size.depth, x, self.compute, keep, self.taps, inside)
        pooled = mean_over(x[:, 0].reshape(batch, frames, -1), axis=1)
        if frames > 1:
            x, taps = _joined(x, frames), jax.vmap(lambda tap: _joined(tap, frames))(taps)
            if wanted is not None:
                taps = jax.vmap(gather_tokens, in_axes=(0, None))(taps, wanted)
        return Encoded(x, taps, pooled, None)

    def _table(self) -> jax.Array:
        """Positions of the class token and of a frame's patches (1, 1 + L, C)."""
        size = self.size
        (rows, columns), (_, height, width) = size.table_grid, size.grid
        shape = (1, 1 + rows * columns, size.width)
        table = self.param("pos_embed", nn.initializers.normal(0.02), shape)
        if (rows, columns) == (height, width):
            return table
        down = jnp.asarray(resize_matrix(rows, height, cubic=True), jnp.float32)
        across = jnp.asarray(resize_matrix(columns, width, cubic=True), jnp.float32)
        grid = table[0, 1:].reshape(rows, columns, size.width)
        resized = jnp.einsum("hr,wc,rcd->hwd", down, across, grid).reshape(1, -1, size.width)
        return jnp.concatenate([table[:, :1], resized], axis=1)


def _by_frame(visible: jax.Array, frames: int, patches: int) -> jax.Array:
    """Tokens (B, T + n) of clips of T frames, class tokens first -> patches (B * T, n / T) of each frame."""
    seen = (visible[:, frames:] - frames).reshape(len(visible), frames, -1)
    inside = seen - patches * jnp.arange(frames)[:, None]
    return inside.reshape(len(visible) * frames, -1)


def _joined(x: jax.Array, frames: int) -> jax.Array:
    """Tokens of frames (B * T, 1 + L, C) -> those of clips (B, T + T * L, C), class tokens first."""
    x = x.reshape(-1, frames, *x.shape[1:])
    patches = x[:, :, 1:].reshape(len(x), -1, x.shape[-1])
    return jnp.concatenate([x[:, :, 0], patches], axis=1)


class InternVitTower(VideoTower):
    """The encoder as a video tower; errors call it by this name."""


def build(size: InternVitSize, compute: Compute, taps: tuple[int, ...] = ()) -> InternVitTower:
    """Returns the tower of a size; see InternVitSize.build."""
    return InternVitTower(size, InternVit(size, compute, taps))
