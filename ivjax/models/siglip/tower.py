"""SigLIP's image tower as a video tower of single frames: a plain ViT, and attention pooling by a probe."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ivjax.experiment.computing import Compute
from ivjax.models.layers import (
    Attention,
    CrossQueryKeyValue,
    Mlp,
    PatchEmbed,
    dense,
    layer_norm,
    scaled_branch,
)
from ivjax.models.siglip.sizes import SiglipSize
from ivjax.models.stacks import enter_block, run_blocks
from ivjax.models.tower import Encoded, VideoTower
from ivjax.ops.attention import attend_with_weights
from ivjax.ops.masking import gather_tokens
from ivjax.ops.video import IMAGENET_MEAN, IMAGENET_STD, patchify, standardise

EPSILON = 1e-6  # of all LayerNorms


class SiglipBlock(nn.Module):
    """Pre-norm block with LayerNorms, biases and the tanh GELU."""

    heads: int
    mlp_width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array | None = None) -> jax.Array:
        """(B, N, C) -> (B, N, C). `keep` (2, B) multiplies the two branches of each sample."""
        x = enter_block(x)
        attention = Attention(self.heads, self.dtype, qk_norm=False, bias=True, name="attn")
        x = x + scaled_branch(attention(layer_norm("norm1", self.dtype, EPSILON)(x)), keep, 0)
        mlp = Mlp(self.mlp_width, x.shape[-1], "tanh", self.dtype, name="mlp")
        return x + scaled_branch(mlp(layer_norm("norm2", self.dtype, EPSILON)(x)), keep, 1)


class ProbePool(nn.Module):
    """Attention pooling whose one query is learned, and an MLP on what it finds."""

    heads: int
    mlp_width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(B, N, C) -> pooled (B, C), and how much each token counts, mean of the heads (B, N) float32."""
        batch, _, width = x.shape
        probe = self.param("probe", nn.initializers.normal(0.02), (1, 1, width)).astype(self.dtype)

        probe = jnp.broadcast_to(probe, (batch, 1, width))
        found, weights = attend_with_weights(
            *CrossQueryKeyValue(self.heads, self.dtype, name="qkv")(probe, x)
        )
        pooled = dense(width, self.dtype, "proj")(found.reshape(batch, width))
        mlp = Mlp(self.mlp_width, width, "tanh", self.dtype, name="mlp")
        pooled = pooled + mlp(layer_norm("norm", self.dtype, EPSILON)(pooled))
        return pooled, weights.mean(1)[:, 0]


class SiglipEncoder(nn.Module):
    """Patches of a frame through the blocks, and pooled."""

    size: SiglipSize
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
        """Encodes frames; see VideoTower.encode. The tokens are normalised, the taps are not."""
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        patches = patchify(video, 1, size.patch)
        shape = (size.patches, size.width)
        table = self.param("pos_embed", nn.initializers.normal(size.width**-0.5), shape)
        places = table[None]
        if visible is not None:
            patches, places = gather_tokens(patches, visible), table[visible]
        embed = PatchEmbed(1, size.patch, size.width, dtype=dtype, name="patch_embed")
        x = embed(_centred(standardise(patches))) + places.astype(dtype)
        block = SiglipBlock(size.heads, size.mlp_width, dtype, name="blocks")
        x, taps = run_blocks(block, size.depth, x, self.compute, keep, self.taps, wanted)
        x = layer_norm("norm", dtype, EPSILON)(x)
        return Encoded(x, taps, *ProbePool(size.heads, size.mlp_width, dtype, name="head")(x))


def _centred(patches: jax.Array) -> jax.Array:
    """Patches (B, N, pixels * 3) with ImageNet's statistics -> between -1 and 1, as SigLIP reads them."""
    pixels = patches.shape[-1] // 3
    # Half is SigLIP's mean and its deviation, in all colours.
    scale, shift = np.tile(IMAGENET_STD / 0.5, pixels), np.tile((IMAGENET_MEAN - 0.5) / 0.5, pixels)
    return patches.astype(jnp.float32) * scale + shift


class SiglipTower(VideoTower):
    """The encoder as a video tower; errors call it by this name."""


def build(size: SiglipSize, compute: Compute, taps: tuple[int, ...] = ()) -> SiglipTower:
    """Returns the tower of a size; see SiglipSize.build."""
    return SiglipTower(size, SiglipEncoder(size, compute, taps))
