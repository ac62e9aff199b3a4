"""MobileCLIP's text transformer as a text tower."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.iv2clip.sizes import MobileTextSize
from ivjax.models.layers import Attention, Mlp, dense, layer_norm
from ivjax.models.stacks import enter_block, run_blocks
from ivjax.models.tower import TextTower
from ivjax.ops.resize import resize_matrix


class MobileBlock(nn.Module):
    """Pre-norm block with biases and the exact GELU."""

    size: MobileTextSize
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array | None = None) -> jax.Array:
        """(B, L, C) -> (B, L, C). `keep` is for blocks of other towers."""
        x, size = enter_block(x), self.size
        attention = Attention(
            size.heads, self.dtype, qk_norm=False, bias=True, causal=size.causal, name="attn"
        )
        x = x + attention(layer_norm("norm1", self.dtype)(x))
        mlp = Mlp(size.mlp_width, size.width, "erf", self.dtype, name="mlp")
        return x + mlp(layer_norm("norm2", self.dtype)(x))


class MobileText(nn.Module):
    """A text as one vector: the state at its end token."""

    size: MobileTextSize
    compute: Compute

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        """(B, L) int -> (B, out)."""
        size, dtype, length = self.size, jnp.dtype(self.compute.dtype), ids.shape[1]
        normal = nn.initializers.normal(0.02)
        words = self.param("word_embed", normal, (size.vocabulary, size.width))
        places = self.param("place_embed", normal, (size.context, size.width))
        if length != size.context:
            # A text of another length stretches the table, where CLIP would cut it.
            places = jnp.asarray(resize_matrix(size.context, length, cubic=False), jnp.float32) @ places
        x = (words[ids] + places).astype(dtype)
        x, _ = run_blocks(MobileBlock(size, dtype, name="blocks"), size.depth, x, self.compute)
        # Padding is not masked: a causal text does not see what comes after its end.
        end = jnp.take_along_axis(x, jnp.argmax(ids, axis=-1)[:, None, None], axis=1)[:, 0]
        return dense(size.out, dtype, "proj", bias=False)(layer_norm("norm", dtype)(end))


class MobileTower(TextTower):
    """The tower by the protocol of text towers."""

    def example(self) -> tuple[Any, ...]:
        """Returns one text of full length, for which no table is stretched."""
        return (jnp.zeros((1, self.size.context), jnp.int32),)


def build(size: MobileTextSize, compute: Compute) -> MobileTower:
    """Returns the tower of a size; see MobileTextSize.build."""
    return MobileTower(size, MobileText(size, compute))
