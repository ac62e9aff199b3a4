"""The layers of a Q-Former, without their cross-attention."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.models.cross_attention import EPSILON
from ivjax.models.layers import Mlp, QueryKeyValue, dense, scaled_branch
from ivjax.models.qformer.sizes import QFormerSize
from ivjax.models.stacks import enter_block
from ivjax.ops.attention import attend, attend_with_dropout
from ivjax.ops.layout import constrain
from ivjax.ops.randomness import Dropout

# The branches of a layer, each of which drop path drops by itself.
SELF, CROSS, QUERIES, WORDS = range(4)


class JointAttention(nn.Module):
    """Self-attention of queries and words."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        said_after: int | None = None,
        drop: Dropout | None = None,
    ) -> jax.Array:
        """x (B, N, C), mask (B, N): the keys that are seen, None for all -> (B, N, C).

        With `said_after` that many queries see no words, and words no later ones: they are said one by one.
        `drop` is of this layer, in training.
        """
        q, k, v = QueryKeyValue(self.dtype, bias=True, name="qkv")(x)
        q, k, v = (y.reshape(*y.shape[:2], self.heads, -1) for y in (q, k, v))
        q, k, v = (constrain(y, "batch", None, "heads", None) for y in (q, k, v))
        if drop is not None:
            out = attend_with_dropout(q, k, v, _seen(x.shape[1], mask, said_after), drop, "self")
            return drop(dense(x.shape[-1], self.dtype, "proj")(out.reshape(x.shape)), "self_out")
        if said_after is not None:
            start = jnp.asarray(said_after, jnp.int32)
            said = attend(q[:, said_after:], k, v, causal=True, start=start)
            out = jnp.concatenate([attend(*(y[:, :said_after] for y in (q, k, v))), said], axis=1)
            return dense(x.shape[-1], self.dtype, "proj")(out.reshape(x.shape))
        # Every query sees the keys of segment 0. The originals add -10000 to the others' logits instead.
        segments = None if mask is None else jnp.where(mask, 0, 1).astype(jnp.int32)
        all_zero = None if mask is None else jnp.zeros(x.shape[:2], jnp.int32)
        out = attend(q, k, v, q_segments=all_zero, kv_segments=segments).reshape(x.shape)
        return dense(x.shape[-1], self.dtype, "proj")(out)


def _seen(tokens: int, mask: jax.Array | None, said_after: int | None) -> jax.Array | None:
    """The keys that each token sees (B or 1, N, N); None: all."""
    if said_after is None:
        return None if mask is None else (mask > 0)[:, None, :]
    query, key = jnp.arange(tokens)[:, None], jnp.arange(tokens)[None]
    return ((key < said_after) | (key <= query))[None]


class QFormerLayer(nn.Module):
    """Everything of a layer but its cross-attention."""

    size: QFormerSize
    dtype: Any = jnp.float32

    def setup(self) -> None:
        size = self.size
        self.attn = JointAttention(size.heads, self.dtype)
        self.norm1 = nn.LayerNorm(EPSILON, dtype=self.dtype)
        self.mlp_query = Mlp(size.mlp_width, size.hidden, "erf", self.dtype)
        self.norm2_query = nn.LayerNorm(EPSILON, dtype=self.dtype)
        if size.reads_text:
            self.mlp = Mlp(size.mlp_width, size.hidden, "erf", self.dtype)
            self.norm2 = nn.LayerNorm(EPSILON, dtype=self.dtype)

    def joint(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        said_after: int | None = None,
        drop: Dropout | None = None,
        keep: jax.Array | None = None,
    ) -> jax.Array:
        """Self-attention of queries and words: (B, N, C) -> (B, N, C).

        `drop` and `keep` (4, B) are of this layer, in training.
        """
        x = enter_block(x)
        attended = self.attn(x, mask, said_after, drop)
        return cast(jax.Array, self.norm1(x + scaled_branch(attended, keep, SELF)))

    def apart(
        self,
        queries: jax.Array,
        words: jax.Array,
        drop: Dropout | None = None,
        keep: jax.Array | None = None,
    ) -> jax.Array:
        """The MLPs: queries (B, n, C), words (B, L, C), one of them maybe none -> (B, n + L, C)."""

        def through(x: jax.Array, mlp: Mlp, norm: nn.LayerNorm, which: int) -> jax.Array:
            y = mlp(x)
            y = y if drop is None else drop(y, f"mlp {which}")
            return cast(jax.Array, norm(x + scaled_branch(y, keep, which)))

        found = []
        if queries.shape[1]:
            found.append(through(queries, self.mlp_query, self.norm2_query, QUERIES))
        if words.shape[1]:
            found.append(through(words, self.mlp, self.norm2, WORDS))
        return found[0] if len(found) == 1 else jnp.concatenate(found, axis=1)

    def draw(self) -> None:
        """Touches all parameters, for `init`."""
        x = jnp.zeros((1, 1, self.size.hidden))
        self.apart(self.joint(x, None), x if self.size.reads_text else x[:, :0])
