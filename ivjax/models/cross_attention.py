"""Cross-attention as BERT has it, which the Q-Former and stage 2's fusion layers share."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.models.layers import dense, layer_norm, scaled_branch
from ivjax.ops.attention import attend, attend_with_dropout
from ivjax.ops.layout import constrain
from ivjax.ops.randomness import Dropout

EPSILON = 1e-12  # of BERT's norms


class CrossAttention(nn.Module):
    """Attention of queries or words to tokens of media, with its residual and norm, which come after it."""

    heads: int
    hidden: int
    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        seen: jax.Array,
        drop: Dropout | None = None,
        keep: jax.Array | None = None,
        which: int = 0,
    ) -> jax.Array:
        """x (B, n, C), seen (B, N, D) -> (B, n, C).

        `drop` is of this layer, and keep[which] (B,) multiplies what attention adds to each sample.
        """
        q, k, v = (
            dense(self.hidden, self.dtype, name)(y).reshape(*y.shape[:2], self.heads, -1)
            for name, y in (("q", x), ("k", seen), ("v", seen))
        )
        q, k, v = (constrain(y, "batch", None, "heads", None) for y in (q, k, v))
        attended = attend(q, k, v) if drop is None else attend_with_dropout(q, k, v, None, drop, "cross")
        out = dense(self.hidden, self.dtype, "proj")(attended.reshape(x.shape))
        out = out if drop is None else drop(out, "cross_out")
        out = scaled_branch(out, keep, which)
        return cast(jax.Array, layer_norm("norm", self.dtype, EPSILON)(x + out))

    def draw(self) -> None:
        """Touches all parameters, for `init`."""
        self(jnp.zeros((1, 1, self.hidden)), jnp.zeros((1, 1, self.width)))
