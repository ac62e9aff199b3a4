"""Prefill and decoding of a language model, with or without visual dropout: pure functions over arrays."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ivjax.generate.prompts import Prompts
from ivjax.generate.sampling import Sampling, choose
from ivjax.models.decoder.cache import Cache, CacheType, empty_cache
from ivjax.models.decoder.dropping import PADDING, VisualDropout, attended
from ivjax.models.decoder.network import LanguageModel, Text, Written
from ivjax.ops.cut import Params
from ivjax.ops.visual_dropout import best_of, compacted, uniform_losses


@dataclass(frozen=True)
class Decoding:
    """How tokens are generated.

    Attributes:
        new: tokens that are generated at most.
        sampling: how each is chosen.
        stops: ids after which a text ends.
        chunk: prompt tokens that go through the layers at a time.
        cache: what keys and values are stored as.
        dropout: which visual tokens are dropped inside the model (None: none).
        visual: visual tokens of every prompt; only `dropout` asks for it.
    """

    new: int = 256
    sampling: Sampling = Sampling()
    stops: tuple[int, ...] = ()
    chunk: int = 1024
    cache: CacheType = "compute"
    dropout: VisualDropout | None = None
    visual: int = 0

    def spans(self, depth: int) -> tuple[tuple[int, int], ...]:
        """Returns the runs of layers between two drops, first layer and the one after the last."""
        edges = (0, *(self.dropout.layers if self.dropout else ()), depth)
        return tuple(zip(edges, edges[1:], strict=False))

    def lengths(self, prompt: int) -> tuple[int, ...]:
        """Returns the length of prompts of `prompt` tokens in each run of layers."""
        if self.dropout is None:
            return (prompt,)
        kept = self.dropout.counts(self.visual)
        return tuple(prompt - self.visual + count for count in kept)


class Span(NamedTuple):
    """The cache of a run of layers, and where the prompts start in it (B,)."""

    cache: Cache
    starts: jax.Array


class Decoded(NamedTuple):
    """A generation under way.

    Attributes:
        spans: caches by run of layers.
        token: (B,) int32, the last token of each row, not yet in the caches.
        count: tokens that were generated.
        done: (B,) bool, whether the text has ended.
        seen: (B, V) bool, which tokens are in the text; None: not asked for.
        keys: (B,) of random numbers, one per row.
    """

    spans: tuple[Span, ...]
    token: jax.Array
    count: jax.Array
    done: jax.Array
    seen: jax.Array | None
    keys: jax.Array


def prefill(
    model: LanguageModel, params: Params, prompts: Prompts, keys: jax.Array, options: Decoding
) -> Decoded:
    """Reads prompts of L tokens and returns the state with the first new token of each."""
    row, spans = _tokens_of(prompts, options), []
    for number, (first, last) in enumerate(options.spans(model.size.depth)):
        if number:
            row = _dropped(model, params, row, options, number)
        starts = row.x.shape[1] - row.there.sum(1, dtype=jnp.int32)
        x, cache = _through(model, params, row.x, starts, options, first, last)
        row = row._replace(x=x)
        spans.append(Span(cache, starts))
    logits = model.logits(params, model.normed(params, row.x[:, -1]))
    rows = len(row.x)
    state = Decoded(
        spans=tuple(spans),
        token=jnp.zeros(rows, jnp.int32),
        count=jnp.zeros((), jnp.int32),
        done=jnp.zeros(rows, bool),
        seen=prompts.seen,
        keys=keys,
    )
    return _chosen(state, logits, options)


def decode(model: LanguageModel, params: Params, state: Decoded, prompt: int, options: Decoding) -> Decoded:
    """Puts the last token of each row into the caches and returns the state with the next one.

    `prompt` is the length L of the prompts. Texts that have ended go on with their first stop token.
    """
    x = model.embed(params, state.token[:, None])
    runs = zip(options.spans(model.size.depth), options.lengths(prompt), state.spans, strict=True)
    spans = []
    for (first, last), length, span in runs:
        slot = length + state.count - 1
        text, written = _standing(model, span, slot, 1, length + options.new)
        x, cache = model.cached_layers(params, x, text, span.cache, written, first, last)
        spans.append(Span(cache, span.starts))
    logits = model.logits(params, model.normed(params, x[:, 0]))
    return _chosen(state._replace(spans=tuple(spans)), logits, options)


def _chosen(state: Decoded, logits: jax.Array, options: Decoding) -> Decoded:
    # By row and step: the numbers that a row draws do not depend on what else is in the batch.
    keys = jax.vmap(jax.random.fold_in, (0, None))(state.keys, state.count)
    token = choose(options.sampling, logits, keys, state.seen)
    stops = jnp.asarray(options.stops, jnp.int32)
    if options.stops:
        token = jnp.where(state.done, stops[0], token)
    seen = state.seen
    if seen is not None:
        seen = seen.at[jnp.arange(len(token)), token].set(True)
    done = state.done | jnp.any(token[:, None] == stops, axis=1)
    return state._replace(token=token, count=state.count + 1, done=done, seen=seen)


def _standing(
    model: LanguageModel, span: Span, slot: jax.Array, count: int, length: int
) -> tuple[Text, Written]:
    """Where `count` tokens from `slot` on stand in a text of at most `length` tokens."""
    slots = span.cache.keys.shape[2]
    places = slot + jnp.arange(count)
    there = jnp.arange(slots) >= span.starts[:, None]
    mine = places >= span.starts[:, None]
    positions = jnp.maximum(places - span.starts[:, None], 0)
    text = Text(model.turns(positions, length), jnp.where(mine, 0, PADDING))
    return text, Written(slot, jnp.where(there, 0, PADDING))


def _through(
    model: LanguageModel,
    params: Params,
    x: jax.Array,
    starts: jax.Array,
    options: Decoding,
    first: int,
    last: int,
) -> tuple[jax.Array, Cache]:
    """Prompts x (B, L, C) through a run of layers, chunk by chunk: (B, L, C), and the cache they fill."""
    size, (batch, length, width) = model.size, x.shape
    # After a drop the length is no multiple of a chunk any more.
    chunk = min(options.chunk, length)
    extra = -length % chunk
    # The last chunk may reach into the slots of new tokens, which overwrite what it leaves there.
    slots = length + max(options.new, extra)
    cache = empty_cache(last - first, batch, slots, size.kv_heads, size.head, model.dtype, options.cache)
    chunks = jnp.pad(x, ((0, 0), (0, extra), (0, 0))).reshape(batch, -1, chunk, width)

    def step(cache: Cache, numbered: tuple[jax.Array, jax.Array]) -> tuple[Cache, jax.Array]:
        number, x = numbered
        text, written = _standing(model, Span(cache, starts), number * chunk, chunk, length + options.new)
        x, cache = model.cached_layers(params, x, text, cache, written, first, last)
        return cache, x

    numbers = jnp.arange(chunks.shape[1])
    cache, out = jax.lax.scan(step, cache, (numbers, jnp.moveaxis(chunks, 1, 0)))
    return jnp.moveaxis(out, 0, 1).reshape(batch, -1, width)[:, :length], cache


class _Row(NamedTuple):
    """The tokens of prompts in a run of layers: embeddings or states, and what is visual.

    Attributes:
        x: (B, L, C).
        there: (B, L) bool, whether it is a token of the prompt.
        visual: (B, L) bool.
        losses: (B, L) int32, the uniform drop that takes it, from 1; 0: none.
    """

    x: jax.Array
    there: jax.Array
    visual: jax.Array
    losses: jax.Array


def _tokens_of(prompts: Prompts, options: Decoding) -> _Row:
    x, length = prompts.x, prompts.x.shape[1]
    there = jnp.arange(length) >= prompts.starts[:, None]
    none = jnp.zeros(there.shape, bool)
    if options.dropout is None or not options.visual:
        return _Row(x, there, none, none.astype(jnp.int32))
    assert prompts.visual is not None, "visual dropout needs to know which tokens are visual"
    losses = uniform_losses(options.visual, options.dropout.ratios, options.dropout.uniform_drops)
    number = jnp.clip(jnp.cumsum(prompts.visual, axis=1) - 1, 0, options.visual - 1)
    return _Row(x, there, prompts.visual, jnp.where(prompts.visual, jnp.asarray(losses)[number], 0))


def _dropped(model: LanguageModel, params: Params, row: _Row, options: Decoding, number: int) -> _Row:
    """The tokens that are left after drop `number`, from 1; prompts still end together."""
    dropout, (rows, length) = options.dropout, row.x.shape[:2]
    assert dropout is not None
    counts = dropout.counts(options.visual)
    if number <= dropout.uniform_drops:
        keep = row.losses != number
    else:
        starts = length - row.there.sum(1, keepdims=True)
        positions = jnp.maximum(jnp.arange(length) - starts, 0)
        text = Text(model.turns(positions, length + options.new), jnp.where(row.there, 0, PADDING))
        last = jnp.full((rows, 1), length - 1, jnp.int32)
        scores = attended(model, params, row.x, text, dropout.layers[number - 1], last, last >= 0)
        quotas = jnp.full((rows, 1), counts[number], jnp.int32)
        keep = ~row.visual | best_of(scores, row.visual, jnp.zeros((rows, length), jnp.int32), quotas)
    left = length - counts[number - 1] + counts[number]
    return _Row(*compacted(keep & row.there, left, tuple(row), (0.0, False, False, 0), right=True))
