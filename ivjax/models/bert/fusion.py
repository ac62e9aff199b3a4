"""BERT with fusion layers: the first blocks read a text, the last ones also look at what is seen or heard."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.bert.fusion_sizes import FusionBertSize
from ivjax.models.bert.tower import BertBlock
from ivjax.models.cross_attention import EPSILON, CrossAttention
from ivjax.models.layers import KERNEL_STD, dense, gelu, layer_norm
from ivjax.models.stacks import scan_layers
from ivjax.models.tower import TextTower
from ivjax.ops.cut import Params
from ivjax.ops.randomness import Dropout


class WordHead(nn.Module):
    """Guesses words from states; the word embeddings are its last kernel."""

    size: FusionBertSize
    dtype: Any

    @nn.compact
    def __call__(self, states: jax.Array, word_embed: jax.Array) -> jax.Array:
        """states (B, L, C), word_embed (V, C) -> logits (B, L, V) float32."""
        x = gelu(dense(self.size.width, self.dtype, "fc")(states), "erf")
        x = layer_norm("norm", self.dtype, EPSILON)(x)
        bias = self.param("bias", nn.initializers.zeros, (self.size.vocabulary,))
        kernel = word_embed.T.astype(self.dtype)
        return cast(jax.Array, jnp.dot(x, kernel, preferred_element_type=jnp.float32) + bias)


class FusionBert(nn.Module):
    """Embeddings, blocks, cross-attention of the last of them, projection and head."""

    size: FusionBertSize
    compute: Compute

    def setup(self) -> None:
        size, dtype = self.size, jnp.dtype(self.compute.dtype)
        normal = nn.initializers.normal(KERNEL_STD)
        self.word_embed = self.param("word_embed", normal, (size.vocabulary, size.width))
        self.place_embed = self.param("place_embed", normal, (size.places, size.width))
        # A text alone is of the first type; the second one is for pairs of sentences.
        self.type_embed = self.param("type_embed", normal, (2, size.width))
        self.norm_embed = nn.LayerNorm(EPSILON, dtype=dtype)
        self.block = BertBlock(size.width, size.heads, size.mlp_width, dtype, parent=None)
        self.across = CrossAttention(size.heads, size.width, size.seen, dtype, parent=None)
        word, seen = jnp.zeros((1, 1, size.width)), jnp.zeros((1, 1, size.seen))
        self.blocks = self.param("blocks", _draw, self.block, size.depth, word)
        self.cross = self.param("cross", _draw, self.across, size.fusion, word, seen)
        self.proj = nn.DenseGeneral(size.out, dtype=dtype, kernel_init=normal)
        if size.words:
            self.words = WordHead(size, dtype)

    def read(self, ids: jax.Array, drop: Dropout | None = None, whole: jax.Array | None = None) -> jax.Array:
        """ids (B, L) -> states (B, L, C) of the layers that read words alone; see FusionTower.read."""
        x = self.word_embed[ids] + self.place_embed[: ids.shape[1]] + self.type_embed[0]
        x = self.norm_embed(x.astype(self.compute.dtype))
        x = x if drop is None else drop(x, "embed")
        segments = _segments(ids if whole is None else whole, self.size.pad)

        def layer(params: Params, x: jax.Array, number: jax.Array) -> jax.Array:
            here = None if drop is None else drop.at(number)
            return cast(jax.Array, self.block.apply({"params": params}, x, segments, here))

        return self._run(layer, x, (self._blocks(0, self.size.text_blocks),), 0)

    def fuse(
        self, states: jax.Array, ids: jax.Array, seen: jax.Array, drop: Dropout | None = None
    ) -> jax.Array:
        """states (B, L, C) of texts ids (B, L), seen (G, n, D) -> states (B, L, C) of the last layer.

        B / G texts that follow each other look at one row of `seen`.
        """
        states = states.astype(self.compute.dtype)
        segments, seen = _segments(ids, self.size.pad), seen.astype(states.dtype)
        # Words look at media one by one, so those of several texts may stand in one row: keys and values of
        # a clip are made once for all of its texts, and cost more than the texts themselves.
        rows = (len(seen), -1, states.shape[-1])

        def layer(params: Params, across: Params, x: jax.Array, number: jax.Array) -> jax.Array:
            own, here = {"params": params}, None if drop is None else drop.at(number)
            x = cast(jax.Array, self.block.apply(own, x, segments, here, method="attend"))
            found = cast(jax.Array, self.across.apply({"params": across}, x.reshape(rows), seen, here))
            return cast(jax.Array, self.block.apply(own, found.reshape(x.shape), here, method="feed"))

        first = self.size.text_blocks
        return self._run(layer, states, (self._blocks(first, self.size.depth), self.cross), first)

    def embed(self, states: jax.Array) -> jax.Array:
        """States (B, L, C) of the layers that read words alone -> embeddings (B, out)."""
        # Stage 2's own projection, and not BERT's pooler with its tanh.
        return cast(jax.Array, self.proj(states[:, 0]))

    def guess(self, states: jax.Array) -> jax.Array:
        """States (B, L, C) of the last layer -> logits of words (B, L, V) float32."""
        return cast(jax.Array, self.words(states, self.word_embed))

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Touches all parameters, for `init`; ids (B, L) -> embeddings (B, out)."""
        states = self.read(ids)
        if self.size.words:
            self.guess(states)
        return self.embed(states)

    def _blocks(self, first: int, last: int) -> Params:
        return cast(Params, jax.tree.map(lambda leaf: leaf[first:last], self.blocks))

    def _run(self, layer: Any, x: jax.Array, stacks: tuple[Params, ...], first: int) -> jax.Array:
        """Scans `layer` over stacked parameters; `first` is the number of the first of these layers."""
        numbers = first + jnp.arange(len(jax.tree.leaves(stacks[0])[0]))

        def numbered(x: jax.Array, per_layer: Any) -> jax.Array:
            params, number = per_layer
            return cast(jax.Array, layer(*params, x, number))

        return scan_layers(numbered, x, (stacks, numbers), self.compute, first)


def _draw(key: jax.Array, layer: nn.Module, count: int, *inputs: jax.Array) -> Params:
    """Parameters of `count` layers, each by a key of its own."""
    found: Params = jax.vmap(lambda key: layer.init(key, *inputs)["params"])(jax.random.split(key, count))
    return found


def _segments(ids: jax.Array, pad: int) -> jax.Array:
    # Padding is a segment of its own. In the original padding sees the text, which nobody reads.
    return (ids != pad).astype(jnp.int32)


class FusionTower(TextTower):
    """BERT with fusion layers by the protocol of text towers, and with what stage 2 asks of it."""

    def encode(self, params: Params, ids: jax.Array) -> jax.Array:
        """Token ids (B, L) -> embeddings (B, out), not normalised."""
        return self.embed(params, self.read(params, ids))

    @property
    def gives_words(self) -> bool:
        """See TextTower."""
        return True

    def word_states(self, params: Params, ids: jax.Array) -> jax.Array:
        """See TextTower: states of the layers that read words alone."""
        return self.read(params, ids)

    def read(
        self,
        params: Params,
        ids: jax.Array,
        drop: Dropout | None = None,
        whole: jax.Array | None = None,
    ) -> jax.Array:
        """Token ids (B, L) -> states (B, L, C) of the layers that read words alone.

        `whole` (B, L) is the text without words hidden in `ids`, which says what is padding: the id of
        padding may stand in `ids` in place of a hidden word.
        """
        return self._call("read", params, ids, drop, whole)

    def fuse(
        self,
        params: Params,
        states: jax.Array,
        ids: jax.Array,
        seen: jax.Array,
        drop: Dropout | None = None,
    ) -> jax.Array:
        """States of `read` (B, L, C), the ids (B, L), tokens seen (G, n, D) -> the last states (B, L, C).

        B / G texts that follow each other look at one row of `seen`.
        """
        return self._call("fuse", params, states, ids, seen, drop)

    def embed(self, params: Params, states: jax.Array) -> jax.Array:
        """States of `read` (B, L, C) -> embeddings (B, out), not normalised."""
        return self._call("embed", params, states)

    def guess(self, params: Params, states: jax.Array) -> jax.Array:
        """States of `fuse` (B, L, C) -> logits of words (B, L, V) float32."""
        return self._call("guess", params, states)

    def _call(self, method: str, params: Params, *arguments: Any) -> jax.Array:
        return cast(jax.Array, self.module.apply({"params": params}, *arguments, method=method))


def build(size: FusionBertSize, compute: Compute) -> FusionTower:
    """Returns the tower of a size; see FusionBertSize.build."""
    return FusionTower(size, FusionBert(size, compute))
