"""BERT as a text tower: every token sees every other, and norms come after what they normalise."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.bert.sizes import BertSize
from ivjax.models.cross_attention import EPSILON
from ivjax.models.layers import KERNEL_STD, Mlp, QueryKeyValue, dense, layer_norm
from ivjax.models.stacks import enter_block, run_blocks
from ivjax.models.tower import TextTower
from ivjax.ops.attention import attend, attend_with_dropout
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain
from ivjax.ops.randomness import Dropout


class TextAttention(nn.Module):
    """Self-attention of texts that are filled up: tokens see those of their own segment."""

    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, segments: jax.Array | None, drop: Dropout | None = None) -> jax.Array:
        """x (B, L, C), segments (B, L) or None for one -> (B, L, C). `drop` is of this layer."""
        q, k, v = QueryKeyValue(self.dtype, bias=True, name="qkv")(x)
        q, k, v = (y.reshape(*y.shape[:2], self.heads, -1) for y in (q, k, v))
        q = constrain(q, "batch", "tokens", "heads", None)
        k = constrain(k, "batch", None, "heads", None)
        v = constrain(v, "batch", None, "heads", None)
        if drop is None:
            out = attend(q, k, v, q_segments=segments, kv_segments=segments)
        else:
            seen = None if segments is None else segments[:, :, None] == segments[:, None, :]
            out = attend_with_dropout(q, k, v, seen, drop, "self")
        out = dense(x.shape[-1], self.dtype, "proj")(out.reshape(x.shape))
        return out if drop is None else drop(out, "self_out")


class BertBlock(nn.Module):
    """Attention and an MLP, each added to its input and then normalised; the exact GELU."""

    width: int
    heads: int
    mlp_width: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.attn = TextAttention(self.heads, self.dtype)
        self.norm1 = nn.LayerNorm(EPSILON, dtype=self.dtype)
        self.mlp = Mlp(self.mlp_width, self.width, "erf", self.dtype)
        self.norm2 = nn.LayerNorm(EPSILON, dtype=self.dtype)

    def __call__(
        self, x: jax.Array, segments: jax.Array | None = None, drop: Dropout | None = None
    ) -> jax.Array:
        """x (B, L, C), segments (B, L) -> (B, L, C)."""
        return self.feed(self.attend(x, segments, drop), drop)

    def attend(self, x: jax.Array, segments: jax.Array | None, drop: Dropout | None = None) -> jax.Array:
        """The first half: words look at each other."""
        x = enter_block(x)
        return cast(jax.Array, self.norm1(x + self.attn(x, segments, drop)))

    def feed(self, x: jax.Array, drop: Dropout | None = None) -> jax.Array:
        """The second half: the MLP."""
        hidden = self.mlp(x)
        return cast(jax.Array, self.norm2(x + (hidden if drop is None else drop(hidden, "mlp_out"))))


class BertEncoder(nn.Module):
    """Texts through all blocks, and the state of their first token as one vector."""

    size: BertSize
    compute: Compute

    @nn.compact
    def __call__(self, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        """ids (B, L) int -> states of all tokens (B, L, C), embeddings (B, out)."""
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        normal = nn.initializers.normal(KERNEL_STD)
        words = self.param("word_embed", normal, (size.vocabulary, size.width))
        places = self.param("place_embed", normal, (size.places, size.width))
        # A text alone is of the first type; the second one is for pairs of sentences.
        types = self.param("type_embed", normal, (2, size.width))
        x = words[ids] + places[: ids.shape[1]] + types[0]
        x = layer_norm("norm_embed", dtype, EPSILON)(x.astype(dtype))
        # Padding is a segment of its own. In the original padding sees the text, which nobody reads.
        segments = (ids != size.pad).astype(jnp.int32)
        block = BertBlock(size.width, size.heads, size.mlp_width, dtype, name="blocks")
        # What varies by layer elsewhere, the drop-path multipliers, is the same for all layers here.
        per_layer = jnp.broadcast_to(segments, (size.depth, *segments.shape))
        x, _ = run_blocks(block, size.depth, x, self.compute, per_layer)
        # Stage 2's own projection, and not BERT's pooler with its tanh.
        return x, dense(size.out, dtype, "proj")(x[:, 0])


class BertTower(TextTower):
    """The encoder by the protocol of text towers; stage 2 also reads the states of all tokens."""

    def encode(self, params: Params, ids: jax.Array) -> jax.Array:
        """Token ids (B, L) -> embeddings (B, out), not normalised."""
        return self._run(params, ids)[1]

    def tokens(self, params: Params, ids: jax.Array) -> jax.Array:
        """Token ids (B, L) -> the last states of all tokens (B, L, C); those of padding mean nothing."""
        return self._run(params, ids)[0]

    def _run(self, params: Params, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.module.apply({"params": params}, ids)  # type: ignore[return-value]


def build(size: BertSize, compute: Compute) -> BertTower:
    """Returns the tower of a size; see BertSize.build."""
    return BertTower(size, BertEncoder(size, compute))
