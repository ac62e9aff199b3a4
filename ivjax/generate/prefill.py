"""Prefill: prompts go through the layers chunk by chunk and fill the caches; visual dropout happens here."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ivjax.generate.decoding import Decoded, Decoding, RunCache, chosen, places_in
from ivjax.generate.prompts import Prompts
from ivjax.models.decoder.blocks import Text
from ivjax.models.decoder.cache import Cache, empty_cache
from ivjax.models.decoder.dropping import PADDING, attended
from ivjax.models.decoder.network import LanguageModel
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain
from ivjax.ops.visual_dropout import best_of, compacted, dropped_by


def prefill(
    model: LanguageModel, params: Params, prompts: Prompts, keys: jax.Array, options: Decoding
) -> tuple[Decoded, jax.Array]:
    """Reads prompts; returns the state with the first new token of each row, and these tokens (B,) int32.

    keys (B,) of random numbers, one per row.
    """
    logits, state = prompt_logits(model, params, prompts, keys, options)
    return chosen(state, logits, options)


def prompt_logits(
    model: LanguageModel, params: Params, prompts: Prompts, keys: jax.Array, options: Decoding
) -> tuple[jax.Array, Decoded]:
    """Reads prompts; returns logits (B, V) of the first new token, and the state before it is chosen."""
    row, caches = _tokens_of(prompts, options), []
    runs = options.runs(model.size.depth)
    for number, layers in enumerate(runs):
        if number:
            row = _dropped(model, params, row, options, number)
        starts = row.x.shape[1] - row.there.sum(1, dtype=jnp.int32)
        # After the last layers only a prompt's last token is asked for: its chunk is kept, not all of them.
        whole = number < len(runs) - 1
        x, cache = _through(model, params, row.x, starts, options, layers, whole)
        row = row._replace(x=x)
        caches.append(RunCache(cache, starts))
    logits = model.logits(params, model.normed(params, row.x[:, -1]))
    rows = len(row.x)
    state = Decoded(
        caches=tuple(caches),
        token=jnp.zeros(rows, jnp.int32),
        generated=jnp.zeros((), jnp.int32),
        done=jnp.zeros(rows, bool),
        seen=prompts.seen,
        keys=keys,
    )
    return logits, state


def _through(
    model: LanguageModel,
    params: Params,
    x: jax.Array,
    starts: jax.Array,
    options: Decoding,
    layers: tuple[int, int],
    whole: bool,
) -> tuple[jax.Array, Cache]:
    """Prompts x (B, L, C) through a run of layers, chunk by chunk, and the cache they fill.

    Returns the states (B, L, C), or only those of the last chunk up to the last token.
    """
    size, (batch, length, _) = model.size, x.shape
    first, last = layers
    # After a drop the length is no multiple of a chunk any more.
    chunk = min(options.chunk, length)
    extra = -length % chunk
    slots = options.slots(length)
    cache = empty_cache(last - first, batch, slots, size.kv_heads, size.head, model.dtype, options.cache)
    x = jnp.pad(x.astype(model.dtype), ((0, 0), (0, extra), (0, 0)))

    def step(carry: tuple[jax.Array, Cache], number: jax.Array) -> tuple[tuple[jax.Array, Cache], None]:
        states, cache = carry
        place = number * chunk
        mine = jax.lax.dynamic_slice_in_dim(states if whole else x, place, chunk, axis=1)
        text, written = places_in(model, RunCache(cache, starts), place, chunk, length + options.new)
        mine, cache = model.cached_layers(params, mine, text, cache, written, first, last)
        # States take the place of what they were made of, so that prompts are in memory once.
        return (
            jax.lax.dynamic_update_slice_in_dim(states, mine, place, axis=1) if whole else mine,
            cache,
        ), None

    start = x if whole else x[:, :chunk]
    (states, cache), _ = jax.lax.scan(step, (start, cache), jnp.arange(x.shape[1] // chunk))
    return states[:, : states.shape[1] - extra], cache


class _Row(NamedTuple):
    """The tokens of prompts in a run of layers: embeddings or states, and what is visual.

    Attributes:
        x: (B, L, C).
        there: (B, L) bool, whether it is a token of the prompt.
        visual: (B, L) bool.
        dropped_by: (B, L) int32, the uniform drop that takes it, from 1; 0: none.
    """

    x: jax.Array
    there: jax.Array
    visual: jax.Array
    dropped_by: jax.Array


def _tokens_of(prompts: Prompts, options: Decoding) -> _Row:
    x, length = constrain(prompts.x, "batch", None, None), prompts.x.shape[1]
    there = jnp.arange(length) >= prompts.starts[:, None]
    none = jnp.zeros(there.shape, bool)
    if options.dropout is None or not options.visual:
        return _Row(x, there, none, none.astype(jnp.int32))
    assert prompts.visual is not None, "visual dropout needs to know which tokens are visual"
    numbers = dropped_by(options.visual, options.dropout.ratios, options.dropout.uniform_drops)
    number = jnp.clip(jnp.cumsum(prompts.visual, axis=1) - 1, 0, options.visual - 1)
    return _Row(x, there, prompts.visual, jnp.where(prompts.visual, jnp.asarray(numbers)[number], 0))


def _dropped(model: LanguageModel, params: Params, row: _Row, options: Decoding, number: int) -> _Row:
    """The tokens that are left after drop `number`, from 1; prompts still end together."""
    dropout, (rows, length) = options.dropout, row.x.shape[:2]
    assert dropout is not None
    counts = dropout.counts(options.visual)
    if number <= dropout.uniform_drops:
        keep = row.dropped_by != number
    else:
        starts = length - row.there.sum(1, keepdims=True)
        positions = jnp.maximum(jnp.arange(length) - starts, 0)
        turns = model.turns(positions, (length + options.new - starts)[..., None])
        text = Text(turns, jnp.where(row.there, 0, PADDING))
        last = jnp.full((rows, 1), length - 1, jnp.int32)
        layer = dropout.layers[number - 1]
        scores = attended(model, params, row.x, text, layer, last, last >= 0, options.chunk)
        quotas = jnp.full((rows, 1), counts[number], jnp.int32)
        keep = ~row.visual | best_of(scores, row.visual, jnp.zeros((rows, length), jnp.int32), quotas)
    left = length - counts[number - 1] + counts[number]
    return _Row(*compacted(keep & row.there, left, tuple(row), (0.0, False, False, 0), right=True))
