"""The language model with visual dropout: segments of layers, and fewer visual tokens after each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ivjax.models.decoder.blocks import DecoderBlock, Text, Turns
from ivjax.models.decoder.network import LanguageModel, stacked_variables
from ivjax.models.decoder.visual_dropout import VisualDropout
from ivjax.ops.cut import Params
from ivjax.ops.visual_dropout import (
    attention_of,
    best_of,
    compacted,
    logits_to,
    positions_in,
)

PADDING = -1  # the segment of what stands behind a row's last text


class Tokens(NamedTuple):
    """What is known of the tokens of packed texts.

    Attributes:
        segments: (B, L) int32, the text that each belongs to, from 0; PADDING behind the last.
        visual: (B, L) bool, whether it is a visual token.
        dropped_by: (B, L) int32, the drop that takes it, for uniform drops (from 1; 0: none).
        asking: (B, L) bool, whether it is the last before an answer.
        labels: (B, L) int32, what the model should have said for it; -100: nothing.
    """

    segments: jax.Array
    visual: jax.Array
    dropped_by: jax.Array
    asking: jax.Array
    labels: jax.Array


# Of each field, what stands behind the last token.
_FILL: tuple[Any, ...] = (PADDING, False, 0, False, -100)


def run_dropping(
    model: LanguageModel,
    params: Params,
    x: jax.Array,
    tokens: Tokens,
    dropout: VisualDropout,
    quotas: jax.Array,
    lengths: tuple[int, ...],
    questions: int,
    keys: jax.Array | None = None,
) -> tuple[jax.Array, Tokens]:
    """Runs all layers on embeddings x (B, L, C); returns the last states (B, l, C) and the tokens left.

    quotas (drops, B, texts): visual tokens of each text after each drop. lengths: the row length after each
    drop, at least that of the longest row. questions: at most so many answers start in a row. keys (B,):
    those of the rows' dropout, given in training alone.
    """
    dropout.check(model.size.depth)
    edges = (0, *dropout.layers, model.size.depth)
    for number, (first, last) in enumerate(zip(edges, edges[1:], strict=False)):
        if number:
            quota, length = quotas[number - 1], lengths[number - 1]
            x, tokens = dropped(model, params, x, tokens, dropout, number, quota, length, questions)
        x = model.layers(params, x, places_of(model, tokens), first, last, keys)
    return x, tokens


def places_of(model: LanguageModel, tokens: Tokens) -> Text:
    """Returns where tokens stand: their positions are counted anew in each text, as after every drop."""
    positions = positions_in(tokens.segments)
    return Text(model.turns(positions, positions.shape[1]), tokens.segments)


def dropped(
    model: LanguageModel,
    params: Params,
    x: jax.Array,
    tokens: Tokens,
    dropout: VisualDropout,
    number: int,
    quotas: jax.Array,
    length: int,
    questions: int,
) -> tuple[jax.Array, Tokens]:
    """Returns the states (B, `length`, C) and the tokens that drop `number`, from 1, leaves.

    quotas (B, texts): visual tokens of each text that stay.
    """
    if number <= dropout.uniform_drops:
        keep = tokens.dropped_by != number
    else:
        asking = jnp.argsort(~tokens.asking, axis=1, stable=True)[:, :questions]
        valid = jnp.take_along_axis(tokens.asking, asking, axis=1)
        text, layer = places_of(model, tokens), dropout.layers[number - 1]
        scores = attended(model, params, x, text, layer, asking, valid)
        keep = ~tokens.visual | best_of(scores, tokens.visual, tokens.segments, quotas)
    x, tokens = compacted(keep & (tokens.segments >= 0), length, (x, tokens), (0.0, Tokens(*_FILL)))
    return x, tokens


def attended(
    model: LanguageModel,
    params: Params,
    x: jax.Array,
    text: Text,
    layer: int,
    asking: jax.Array,
    valid: jax.Array,
    chunk: int | None = None,
) -> jax.Array:
    """Returns how much the tokens at places `asking` (B, R) attend to each token in a layer: (B, L) float32.

    x (B, L, C) is what that layer reads. Only queries that are `valid` (B, R) count. The keys of so many
    tokens are made at a time (None: of all).
    """
    # The next layer's own norm and projections compare the tokens. Without gradient: a choice has none.
    mine = jax.tree.map(lambda leaf: leaf[layer], stacked_variables(params))
    mine, x = jax.lax.stop_gradient((mine, x))
    block = DecoderBlock(model.size, model.dtype)

    def asked(y: jax.Array) -> jax.Array:
        return jnp.take_along_axis(jnp.broadcast_to(y, (len(x), *y.shape[1:])), asking[:, :, None], axis=1)

    # All queries would be as large as the text, and only a few are looked at.
    turned = Turns(*map(asked, text.turns))
    q: Any = block.apply(mine, asked(x), turned, method=DecoderBlock.queries)

    def logits(part: jax.Array, turns: Turns) -> jax.Array:
        k: Any = block.apply(mine, part, turns, method=DecoderBlock.keys)
        return logits_to(q, k)

    if chunk is None or chunk >= x.shape[1]:
        found = logits(x, text.turns)
    else:
        found = _in_chunks(logits, x, text.turns, chunk, (len(q), q.shape[2], q.shape[1]))
    return attention_of(found, asking, valid, text.segments)


def _in_chunks(
    logits: Callable[[jax.Array, Turns], jax.Array],
    x: jax.Array,
    turns: Turns,
    chunk: int,
    shape: tuple[int, int, int],
) -> jax.Array:
    """Logits of `shape` (B, H, R) to all tokens of x (B, L, C), made chunk by chunk: (B, H, R, L) float32."""
    length = x.shape[1]

    def step(number: jax.Array, found: jax.Array) -> jax.Array:
        # The last chunk begins so early that it is whole.
        first = jnp.minimum(number * chunk, length - chunk)
        part, turned = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, chunk, axis=1), (x, turns)
        )
        return jax.lax.dynamic_update_slice_in_dim(found, logits(part, turned), first, axis=3)

    start = jnp.zeros((*shape, length), jnp.float32)
    return jax.lax.fori_loop(0, -(-length // chunk), step, start)
