"""Decoding of a language model, with or without visual dropout: one token of each row at a time."""

from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.generate.sampling import Sampling, choose
from ivjax.models.decoder.blocks import Text, Written
from ivjax.models.decoder.cache import Cache, CacheType
from ivjax.models.decoder.dropping import PADDING
from ivjax.models.decoder.network import LanguageModel
from ivjax.models.decoder.sizes import LanguageSize
from ivjax.models.decoder.visual_dropout import VisualDropout
from ivjax.ops.cut import Params
from ivjax.ops.layout import constrain

ENDED = -1  # stands for the tokens of a row whose text has ended


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

    def __post_init__(self) -> None:
        for name in ("new", "chunk"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or int(value) < 1:
                raise UserError(f"{name} must be a whole number of 1 or more, got {value}")
        # A list would be refused by jit, which compiles for these options.
        if not isinstance(self.stops, tuple):
            raise UserError(f"stops must be a tuple of ids, such as (2,), got {self.stops!r}")
        if self.cache not in get_args(CacheType):
            raise UserError(f"cache must be {' or '.join(get_args(CacheType))}, got {self.cache!r}")

    def check(self, size: LanguageSize) -> None:
        """Raises if a model of that size cannot generate so."""
        for stop in self.stops:
            if not 0 <= stop < size.vocabulary:
                raise UserError(
                    f"stop token {stop} is no token of the model, whose ids are 0 to {size.vocabulary - 1}"
                )
        if self.dropout is not None:
            self.dropout.check(size.depth)

    def runs(self, depth: int) -> tuple[tuple[int, int], ...]:
        """Returns the runs of layers between two drops, first layer and the one after the last."""
        edges = (0, *(self.dropout.layers if self.dropout else ()), depth)
        return tuple(zip(edges, edges[1:], strict=False))

    def lengths(self, prompt: int) -> tuple[int, ...]:
        """Returns the length of prompts of `prompt` tokens in each run of layers."""
        if self.dropout is None:
            return (prompt,)
        kept = self.dropout.counts(self.visual)
        return tuple(prompt - self.visual + count for count in kept)

    def slots(self, length: int) -> int:
        """Returns the tokens that the cache of a run of layers has room for, behind prompts of `length`."""
        # The last chunk may reach into the slots of new tokens, which overwrite what it leaves there.
        return length + max(self.new, -length % min(self.chunk, length))


class RunCache(NamedTuple):
    """The cache of a run of layers, and where the prompts start in it (B,)."""

    cache: Cache
    starts: jax.Array


class Decoded(NamedTuple):
    """A generation under way.

    Attributes:
        caches: by run of layers.
        token: (B,) int32, the last token of each row, not yet in the caches.
        generated: tokens of each row so far.
        done: (B,) bool, whether the text has ended.
        seen: (B, V) bool, which tokens are in the text; None: not asked for.
        keys: (B,) of random numbers, one per row.
    """

    caches: tuple[RunCache, ...]
    token: jax.Array
    generated: jax.Array
    done: jax.Array
    seen: jax.Array | None
    keys: jax.Array


def decode(
    model: LanguageModel, params: Params, state: Decoded, prompt: int, options: Decoding
) -> tuple[Decoded, jax.Array]:
    """Returns the state with one more token of each row, and these tokens (B,) int32.

    `prompt` is the length L of the prompts. Rows that had ended get ENDED.
    """
    logits, state = next_logits(model, params, state, prompt, options)
    return chosen(state, logits, options)


def next_logits(
    model: LanguageModel, params: Params, state: Decoded, prompt: int, options: Decoding
) -> tuple[jax.Array, Decoded]:
    """Puts the last token of each row into the caches; returns logits (B, V) of the next, and the state."""
    x = model.embed(params, state.token[:, None])
    runs = zip(options.runs(model.size.depth), options.lengths(prompt), state.caches, strict=True)
    caches = []
    for (first, last), length, run in runs:
        slot = length + state.generated - 1
        text, written = places_in(model, run, slot, 1, length + options.new)
        x, cache = model.cached_layers(params, x, text, run.cache, written, first, last)
        caches.append(RunCache(cache, run.starts))
    logits = model.logits(params, model.normed(params, x[:, 0]))
    return logits, state._replace(caches=tuple(caches))


def chosen(state: Decoded, logits: jax.Array, options: Decoding) -> tuple[Decoded, jax.Array]:
    """Returns the state with a token for each row from logits (B, V), and these tokens, as `decode` does."""
    # By row and step: the numbers that a row draws do not depend on what else is in the batch.
    keys = jax.vmap(jax.random.fold_in, (0, None))(state.keys, state.generated)
    token = choose(options.sampling, logits, keys, state.seen)
    # Whole on every device, for the host that reads them.
    told = constrain(jnp.where(state.done, ENDED, token), None)
    # A row that has ended goes on with some token, because all rows keep one shape; nobody sees it.
    seen = state.seen
    if seen is not None:
        seen = seen.at[jnp.arange(len(token)), token].set(True)
    done = state.done | jnp.any(token[:, None] == jnp.asarray(options.stops, jnp.int32), axis=1)
    return state._replace(token=token, generated=state.generated + 1, done=done, seen=seen), told


def places_in(
    model: LanguageModel, run: RunCache, slot: jax.Array, count: int, length: jax.Array | int
) -> tuple[Text, Written]:
    """Returns where `count` tokens from `slot` on stand in texts that end before slot `length`."""
    places = slot + jnp.arange(count)
    starts = run.starts[:, None]
    # Padding before a prompt is a segment of its own, which no token of the prompt sees.
    # Of each row its own length, so that no scaling of positions depends on what else is in the batch.
    turns = model.turns(jnp.maximum(places - starts, 0), length - starts[..., None])
    text = Text(turns, jnp.where(places >= starts, 0, PADDING))
    return text, Written(slot, jnp.where(jnp.arange(run.cache.slots) >= starts, 0, PADDING))
