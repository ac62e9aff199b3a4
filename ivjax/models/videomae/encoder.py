"""The VideoMAE encoder: a plain ViT over tubelets with a fixed position table and no class token."""

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.layers import Mlp, PatchEmbed, QueryKeyValue, dense, layer_norm, scaled_branch
from ivjax.models.stacks import enter_block, run_blocks
from ivjax.models.tower import Encoded, VideoTower
from ivjax.models.videomae.sizes import AttentionKind, VideoMaeSize
from ivjax.ops.attention import attend, attend_with_weights
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain
from ivjax.ops.masking import gather_tokens
from ivjax.ops.positions import sinusoid_interleaved
from ivjax.ops.video import patchify, standardise

EPSILON = 1e-6  # of all LayerNorms
_MOST = 4.6052  # upper bound of the logarithm of a cosine's factor: ln 100 as the originals round it


class QueryValueAttention(nn.Module):
    """Self-attention whose queries and values have biases and whose keys have none."""

    heads: int
    kind: AttentionKind = "standard"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, N, C) -> (B, N, C)."""
        width = x.shape[-1]
        q, k, v = QueryKeyValue(self.dtype, name="qkv")(x)
        zeros = nn.initializers.zeros
        # A bias of the keys would add the same number to all logits of a query, which a softmax takes out
        # again.
        q = q + self.param("q_bias", zeros, (width,)).astype(self.dtype)
        v = v + self.param("v_bias", zeros, (width,)).astype(self.dtype)
        q, k, v = (y.reshape(*y.shape[:2], self.heads, -1) for y in (q, k, v))
        if self.kind == "cosine":
            q, k = self._directions(q, k)
        q = constrain(q, "batch", "tokens", "heads", None)
        k = constrain(k, "batch", None, "heads", None)
        v = constrain(v, "batch", None, "heads", None)
        if self.kind == "released_head_axis":
            # The originals hand (B, heads, N, D) to a kernel that reads (B, N, heads, D), and reshape
            # without swapping back. Over so few heads no fused kernel pays.
            out, _ = attend_with_weights(*(y.swapaxes(1, 2) for y in (q, k, v)))
        else:
            out = attend(q, k, v)
        return dense(width, self.dtype, "proj")(out.reshape(x.shape))

    def _directions(self, q: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Queries and keys (B, N, H, D) whose logits in `attend` are cosines times the head's factor."""
        # Learned as a logarithm, so that the factor stays positive.
        scale = self.param("scale", nn.initializers.constant(math.log(10)), (self.heads,))
        factor = jnp.exp(jnp.minimum(scale, _MOST)) * q.shape[-1] ** 0.5  # which `attend` divides by
        return (_unit(q) * factor[:, None]).astype(q.dtype), _unit(k).astype(k.dtype)


def _unit(x: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32)
    # 1e-24 is the square of the 1e-12 below which torch's normalize does not divide.
    square = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
    return wide * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


class VideoMaeBlock(nn.Module):
    """Pre-norm block with LayerNorms, the exact GELU, and LayerScale if it is given where to start."""

    heads: int
    mlp_width: int
    layer_scale: float | None = None
    attention: AttentionKind = "standard"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array | None = None) -> jax.Array:
        """(B, N, C) -> (B, N, C). `keep` (2, B) multiplies the two branches of each sample."""
        x = enter_block(x)
        attention = QueryValueAttention(self.heads, self.attention, self.dtype, name="attn")
        mlp = Mlp(self.mlp_width, x.shape[-1], "erf", self.dtype, name="mlp")
        attended = attention(layer_norm("norm1", self.dtype, EPSILON)(x))
        x = x + scaled_branch(attended, keep, 0, self.layer_scale)
        return x + scaled_branch(mlp(layer_norm("norm2", self.dtype, EPSILON)(x)), keep, 1, self.layer_scale)


class VideoMaeEncoder(nn.Module):
    """Tokens of a clip through the blocks."""

    size: VideoMaeSize
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

        video (B, T, H, W, 3): uint8, or float that is already normalised. visible (B, n): the patches that
        are seen, ascending; None for all. keep (depth, 2, B): drop-path multipliers. wanted (B, m): which of
        the tokens the taps keep; None for all. The tokens are normalised, and so is the last layer's tap,
        unless the size says that there is no such norm.
        """
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        patches = patchify(video, size.tubelet, size.patch)
        table = self._table(video.shape[1] // size.tubelet)
        if visible is not None:
            patches, table = gather_tokens(patches, visible), table[0][visible]
        embed = PatchEmbed(size.tubelet, size.patch, size.width, dtype=dtype, name="patch_embed")
        x = embed(standardise(patches)) + table.astype(dtype)
        block = VideoMaeBlock(
            size.heads, size.mlp_width, size.layer_scale, size.attention, dtype, name="blocks"
        )
        x, taps = run_blocks(block, size.depth, x, self.compute, keep, self.taps, wanted)
        if not size.final_norm:
            return Encoded(x, taps, None, None)
        norm = layer_norm("norm", dtype, EPSILON)
        # The originals' teacher normalises its last layer, and returns the earlier ones as they are.
        if (last := size.depth - 1) in self.taps:
            place = self.taps.index(last)
            taps = taps.at[place].set(norm(taps[place]))
        return Encoded(norm(x), taps, None, None)

    def _table(self, times: int) -> jax.Array:
        """Positions (1, N, C) of all patches of a clip of so many times."""
        size = self.size
        start = jnp.asarray(sinusoid_interleaved(size.patches, size.width))[None]
        if size.positions == "fixed":
            return start
        # A parameter only where a file brings a table of another length, which the originals then train.
        return self.param("pos_embed", lambda _: start)


class _SomeBlocks(nn.Module):
    """Some of an encoder's blocks."""

    size: VideoMaeSize
    compute: Compute

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        block = VideoMaeBlock(
            size.heads, size.mlp_width, size.layer_scale, size.attention, dtype, name="blocks"
        )
        return run_blocks(block, size.depth, x, self.compute)[0]


@dataclass(frozen=True)
class VideoMaeTower(VideoTower):
    """The encoder as a video tower; errors call it by this name.

    It can be run in stretches, between which something else may change the tokens: `entering`, then `through`
    all blocks, then `leaving`, give what `encode` does.

    Attributes:
        size: its size.
        module: the encoder.
    """

    size: VideoMaeSize
    module: VideoMaeEncoder

    def entering(self, params: Params, video: jax.Array) -> jax.Array:
        """Clips (B, T, H, W, 3) -> the tokens (B, N, C) before the first block."""
        below = {name: branch for name, branch in params.items() if name not in ("blocks", "norm")}
        size = replace(self.size, depth=0, final_norm=False)
        encoder = self.module.clone(size=size, taps=())
        return cast(Encoded, encoder.apply({"params": {**below, "blocks": {}}}, video)).tokens

    def through(self, params: Params, x: jax.Array, first: int, last: int) -> jax.Array:
        """Tokens (B, N, C) after the blocks from `first` to before `last`."""
        stretch = jax.tree.map(lambda leaf: leaf[first:last], params["blocks"])
        blocks = _SomeBlocks(replace(self.size, depth=last - first), self.module.compute)
        return cast(jax.Array, blocks.apply({"params": {"blocks": stretch}}, x))

    def leaving(self, params: Params, x: jax.Array) -> jax.Array:
        """The tokens (B, N, C) that `encode` returns, of those after the last block."""
        if not self.size.final_norm:
            return x
        norm = layer_norm("norm", jnp.dtype(self.module.compute.dtype), EPSILON)
        return cast(jax.Array, norm.apply({"params": params["norm"]}, x))


def build(size: VideoMaeSize, compute: Compute, taps: tuple[int, ...] = ()) -> VideoMaeTower:
    """Returns the tower of a size; see VideoMaeSize.build."""
    return VideoMaeTower(size, VideoMaeEncoder(size, compute, taps))
