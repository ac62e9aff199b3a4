"""The Q-Former: a BERT whose learned queries also look at a vision tower's tokens.

It is post-norm. Queries and words attend to each other, and have MLPs of their own.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.bridge import Bridge, Question
from ivjax.models.cross_attention import EPSILON, CrossAttention
from ivjax.models.layers import dense, layer_norm
from ivjax.models.qformer.layers import CROSS, QFormerLayer
from ivjax.models.qformer.sizes import QFormerSize
from ivjax.models.sizes import Grid
from ivjax.models.stacks import checkpointed
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain
from ivjax.ops.randomness import Dropout, drop_path, folded, several


class QFormer(nn.Module):
    """Embeddings, layers, and the linear layer behind them."""

    size: QFormerSize
    compute: Compute

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        ids: jax.Array | None,
        mask: jax.Array | None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """tokens (B, N, D), ids and mask (B, L) or None -> (B, n, out) of the n queries.

        `keys` (B,) are those of the rows' dropout, in training.
        """
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        start = nn.initializers.normal(0.02)
        queries = self.param("query_tokens", start, (1, size.queries, size.hidden))
        if size.extra_queries:
            # They start at zero, as in the originals.
            shape = (1, size.extra_queries, size.hidden)
            extra = self.param("extra_query_tokens", nn.initializers.zeros, shape)
            queries = jnp.concatenate([queries, extra], axis=1)
        x, key_mask = jnp.broadcast_to(queries, (len(tokens), *queries.shape[1:])), None
        if size.reads_text:
            words = self.param("word_embed", start, (size.vocabulary, size.hidden))
            places = self.param("place_embed", start, (size.places, size.hidden))
            if ids is not None and mask is not None:
                # Queries have no places. Words count from the first slot, also where padding stands there.
                x = jnp.concatenate([x, words[ids] + places[: ids.shape[1]]], axis=1)
                all_queries = jnp.ones((len(ids), queries.shape[1]), bool)
                key_mask = jnp.concatenate([all_queries, mask > 0], axis=1)
        x = layer_norm("norm", dtype, EPSILON)(x.astype(dtype))
        tokens = layer_norm("input_norm", dtype, EPSILON)(tokens)
        if self.is_initializing():
            # Drawn without being run. In a call, Flax would draw a `param` again to compare its shapes, and
            # to trace all draws takes longer than to trace the layers.
            layer, cross = QFormerLayer(size, parent=None), _cross(size, jnp.float32)
            self.param("blocks", lambda key: _draw(layer, key, size.depth))
            self.param("cross", lambda key: _draw(cross, key, size.crosses))
        else:
            x = run_layers(size, self.compute, dict(self.variables["params"]), x, tokens, key_mask, keys=keys)
        return dense(size.out, dtype, "proj")(x[:, : queries.shape[1]])


class _Layers(NamedTuple):
    """Layers on a leading axis: their parameters, their numbers, and their multipliers of drop path."""

    params: Params
    number: jax.Array
    keep: jax.Array | None


def _left_out(size: QFormerSize, keys: jax.Array | None) -> tuple[Dropout | None, jax.Array | None]:
    """The dropout of rows with keys (B,), and the multipliers (depth, 4, B) of their drop path."""
    if keys is None:
        return None, None
    keep = drop_path(folded(keys, 0), size.drop_path, size.depth, branches=4)
    return Dropout(folded(keys, 1), size.dropout) if size.dropout else None, keep


def run_layers(
    size: QFormerSize,
    compute: Compute,
    params: Params,
    x: jax.Array,
    tokens: jax.Array | None,
    mask: jax.Array | None,
    said: bool = False,
    keys: jax.Array | None = None,
) -> jax.Array:
    """Runs all layers on queries and words x (B, n + L, C), with the tower's tokens (B, N, D).

    Args:
        size: the size.
        compute: precision, and what is computed again in the backward pass.
        params: the stacks `blocks` and `cross`.
        x: all queries, and words behind them; without `tokens`, words alone.
        tokens: the tower's tokens.
        mask: (B, n + L), the keys that are seen; None for all.
        said: whether the words are said one by one: queries do not see them, and a word no later ones.
        keys: (B,), those of the rows' dropout and drop path, in training.
    """
    dtype, every = jnp.dtype(compute.dtype), size.cross_every
    layer, cross = QFormerLayer(size, dtype, parent=None), _cross(size, dtype)
    count = 0 if tokens is None else size.queries + size.extra_queries
    said_after = count if said else None
    drop, keep = _left_out(size, keys)
    x = x if drop is None else drop(x, "embed")

    def group(x: jax.Array, layers: _Layers, cross_params: Params) -> jax.Array:
        """A few layers, of which the first looks at the tower's tokens."""
        for place in range(len(layers.number)):
            own = jax.tree.map(lambda leaf, n=place: leaf[n], layers)
            variables, here = {"params": own.params}, None if drop is None else drop.at(own.number)
            x = cast(jax.Array, layer.apply(variables, x, mask, said_after, here, own.keep, method="joint"))
            queries, words = x[:, :count], x[:, count:]
            if place == 0 and tokens is not None:
                across = {"params": cross_params}
                queries = cast(jax.Array, cross.apply(across, queries, tokens, here, own.keep, CROSS))
            x = cast(jax.Array, layer.apply(variables, queries, words, here, own.keep, method="apart"))
        return x

    whole = size.depth // every
    layers = _Layers(params["blocks"], jnp.arange(size.depth), keep)
    # A scan over groups, because not all layers are alike.
    grouped = jax.tree.map(lambda leaf: leaf[: whole * every].reshape(whole, every, *leaf.shape[1:]), layers)
    run = checkpointed(group, compute.remat, compute.scan and whole > 1)
    stacked = grouped, jax.tree.map(lambda leaf: leaf[:whole], params["cross"])
    unroll = 1 if compute.scan else max(whole, 1)
    x, _ = jax.lax.scan(lambda x, p: (run(x, *p), None), x, stacked, unroll=unroll)
    if whole * every < size.depth:
        rest = jax.tree.map(lambda leaf: leaf[whole * every :], layers)
        x = run(x, rest, jax.tree.map(lambda leaf: leaf[whole], params["cross"]))
    return x


def _cross(size: QFormerSize, dtype: Any) -> CrossAttention:
    return CrossAttention(size.heads, size.hidden, size.width, dtype, parent=None)


def _draw(layer: nn.Module, key: jax.Array, count: int) -> Params:
    """Parameters of `count` layers, each by a key of its own."""
    keys = jax.random.split(key, count)
    found: Params = jax.vmap(lambda key: layer.init(key, method="draw")["params"])(keys)
    return found


@dataclass(frozen=True)
class QFormerBridge(Bridge):
    """The Q-Former as a bridge, with the linear layer behind it.

    Attributes:
        size: its size.
        module: its layers.
    """

    size: QFormerSize
    module: QFormer

    def init(self, key: jax.Array) -> Params:
        """Fresh float32 parameters as plain nested dicts."""
        found: Params = self.module.init(key, jnp.zeros((1, 1, self.size.width)), None, None)["params"]
        return found

    def project(
        self,
        params: Params,
        tokens: jax.Array,
        grid: Grid,
        question: Question | None = None,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """See Bridge.project. Each segment has all queries; class tokens are seen as well."""
        videos, segments = tokens.shape[:2]
        ids = mask = None
        if question is not None and self.size.reads_text:
            words, places = question[0].shape[1], self.size.places
            if words > places:
                raise UserError(
                    f"the question has {words} tokens and the Q-Former reads {places}; shorten it, or raise "
                    "bridge.places"
                )
            ids, mask = (jnp.repeat(jnp.asarray(part), segments, axis=0) for part in question)
        rows = constrain(tokens.reshape(-1, *tokens.shape[2:]), "batch", None, None)
        keys = None if keys is None else several(keys, segments).reshape(-1)
        found = cast(jax.Array, self.module.apply({"params": params}, rows, ids, mask, keys))
        return found.reshape(videos, -1, found.shape[-1])


def build(size: QFormerSize, compute: Compute) -> QFormerBridge:
    """Returns the bridge of a size; see QFormerSize.build."""
    return QFormerBridge(size, QFormer(size, compute))
