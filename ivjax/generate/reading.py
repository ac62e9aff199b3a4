"""Reads one prompt after the other chunk by chunk; what a prompt shares with the one before is kept."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.data_pipelines.dialogue.items import NO_PLACE, DialogueTokens
from ivjax.errors import UserError
from ivjax.generate.decoding import ENDED, Decoded, Decoding, RunCache, chosen, decode, places_in
from ivjax.generate.generator import row_keys
from ivjax.generate.prompts import padded_length, tokens_in
from ivjax.generate.watching import Watched
from ivjax.models.decoder.cache import Cache, empty_cache
from ivjax.models.dialogue.model import DialogueModel
from ivjax.ops.cut import Params

_LEAST = 16  # tokens that are read at once, at least: shorter pieces are filled up


@dataclass(frozen=True, eq=False)
class Prompt:
    """The text that an answer follows, with the visual tokens in it.

    Attributes:
        ids: token ids (L,) int32, 0 where a visual token stands.
        places: number of the visual token that stands here, (L,) int32; -1 for words.
        visual: visual tokens (n, C).
        keys: (L,) int64; equal numbers are equal tokens, words from 0 and visual tokens below.
    """

    ids: np.ndarray
    places: np.ndarray
    visual: np.ndarray
    keys: np.ndarray

    @classmethod
    def of(cls, tokens: DialogueTokens, watched: Watched | None, width: int) -> "Prompt":
        """Returns the prompt of a conversation's tokens about what was watched."""
        visual = np.zeros((0, width), np.float32) if watched is None else watched.visual
        keys = tokens.ids.astype(np.int64)
        seen = tokens.places != NO_PLACE
        if watched is not None:
            keys[seen] = -1 - watched.serials[tokens.places[seen]]
        return cls(tokens.ids, tokens.places, visual, keys)

    def __len__(self) -> int:
        return len(self.ids)

    def start(self, count: int) -> "Prompt":
        """Returns the first `count` tokens."""
        return Prompt(self.ids[:count], self.places[:count], self.visual, self.keys[:count])


def shared_start(rows: Sequence[np.ndarray]) -> int:
    """Returns how many numbers at their beginning all rows have in common."""
    least = min(map(len, rows))
    differ = np.any([row[:least] != rows[0][:least] for row in rows], axis=0)
    return int(np.argmax(differ)) if differ.any() else least


class PromptReader:
    """A cache of keys and values that prompts are read into one by one, from its first slot on.

    Memory grows with the longest prompt by its keys and values alone: embeddings are made chunk by chunk.
    """

    def __init__(self, model: DialogueModel, params: Params, options: Decoding, limit: int | None = None):
        """Keeps what all prompts share.

        Args:
            model: the dialogue model.
            params: its parameters.
            options: of generation, without visual dropout, which drops other tokens for each question.
            limit: tokens of a prompt and its new tokens together, at most (None: what memory holds).
        """
        if options.dropout is not None:
            raise UserError("prompts that go on behind others cannot drop visual tokens; leave out dropout")
        options.check(model.size.language)
        self._model, self._params, self._options, self._limit = model, params, options, limit
        self._cache: Cache | None = None
        self._keys = np.zeros(0, np.int64)  # of the tokens in the cache
        self._length = 0  # of the text that they were turned for
        self.reused = 0  # tokens of the last prompt that need not be read again

    def forget(self) -> None:
        """Frees the cache; the next prompt is read whole."""
        self._cache, self._keys = None, np.zeros(0, np.int64)

    def read(self, prompt: Prompt, advance: Callable[[int], None] | None = None) -> jax.Array:
        """Returns logits (1, V) of the token behind a prompt; `reused` says how much of it was known.

        `advance` is told how many tokens have been read since it was called last.
        """
        self._check(prompt)
        length = len(prompt) + self._options.new
        kept = self._kept(prompt, length)
        self._make_room(length, kept)
        self.reused, self._length = kept, length
        self._keys = prompt.keys[:kept]
        logits = jnp.zeros(0)
        for start, count in self._pieces(kept, len(prompt)):
            # One chunk ahead of the device and no more: their embeddings would lie there side by side.
            logits.block_until_ready()
            logits = self._extend(prompt, start, count, every=False)
            self._keys = prompt.keys[: start + count]
            if advance is not None:
                advance(count if start > kept else start + count)
        return logits

    def warm_up(self, prompt: Prompt) -> None:
        """Compiles what reading such a prompt needs, and forgets it again."""
        length, chunk = len(prompt) + self._options.new, self._options.chunk
        self._make_room(length, 0)
        self._length = length
        for count in {min(chunk, len(prompt)), min(self._small, len(prompt))}:
            self._extend(prompt, 0, count, every=False).block_until_ready()
        self._same_turns(length)
        self._keys = np.zeros(0, np.int64)

    def log_likelihood(self, prompt: Prompt, logits: jax.Array, answer: np.ndarray) -> float:
        """Returns the log of the probability of an answer's tokens (n,), behind a prompt that was just read.

        `logits` (1, V) are those of `read`. An answer has at most as many tokens as `new` and a chunk.
        """
        most = min(self._options.new, self._options.chunk)
        if not 0 < len(answer) <= most:
            raise UserError(
                f"an answer has {len(answer)} tokens; it must have 1 to {most}, so raise new, or shorten it"
            )
        rows = [np.asarray(logits)]
        if len(answer) > 1:
            words = np.concatenate([prompt.ids, answer[:-1]]).astype(np.int32)
            places = np.concatenate([prompt.places, np.full(len(answer) - 1, NO_PLACE, np.int32)])
            longer = Prompt(words, places, prompt.visual, words.astype(np.int64))
            found = self._extend(longer, len(prompt), len(answer) - 1, every=True)
            rows.append(np.asarray(found)[0, : len(answer) - 1])
        wide = np.concatenate(rows).astype(np.float64)
        wide -= wide.max(-1, keepdims=True)
        logs = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
        return float(logs[np.arange(len(answer)), answer].sum())

    def stream(
        self, prompt: Prompt, seed: int = 0, advance: Callable[[int], None] | None = None
    ) -> Generator[int]:
        """Yields new tokens, the stop token included, while the next one is under way; see `read`."""
        options, model = self._options, self._model.language
        logits = self.read(prompt, advance)
        seen = None
        if options.sampling.repetition_penalty != 1:
            words = prompt.ids[prompt.places == NO_PLACE]
            seen = jnp.asarray(tokens_in([words], model.size.vocabulary))
        assert self._cache is not None
        zero = jnp.zeros((1,), jnp.int32)
        cache, self._cache = self._cache, None  # its buffers are given to the program
        state = Decoded(
            (RunCache(cache, zero),), zero, jnp.zeros((), jnp.int32), zero > 0, seen, row_keys(seed, [0])
        )
        fed: list[int] = []
        try:
            state, told = _run_chosen(state, logits, options)
            for _ in range(options.new - 1):
                told.copy_to_host_async()
                state, following = _run_decode(model, self._params["language"], state, len(prompt), options)
                token = int(told[0])
                fed.append(token)
                yield token
                if token in options.stops:
                    return
                told = following
            if int(told[0]) != ENDED:
                yield int(told[0])
        finally:
            self._cache = state.caches[0].cache
            self._keys = np.concatenate([prompt.keys, np.array(fed, np.int64)])

    def _check(self, prompt: Prompt) -> None:
        if not len(prompt):
            raise UserError("the prompt is empty; ask a question")
        new, limit = self._options.new, self._limit
        if limit is not None and len(prompt) + new > limit:
            raise UserError(
                f"the prompt has {len(prompt):,} tokens, which with {new:,} new ones exceed the limit of "
                f"{limit:,}; show fewer frames, ask for fewer new tokens or raise the limit"
            )

    def _kept(self, prompt: Prompt, length: int) -> int:
        """How many tokens of a prompt are in the cache already; the last one is always read again."""
        if self._cache is None or not self._same_turns(length):
            return 0
        return min(shared_start([prompt.keys, self._keys]), len(prompt) - 1)

    def _same_turns(self, length: int) -> bool:
        """Whether positions turn in texts of this length as in the one that is in the cache."""
        position = jnp.ones((1, 1), jnp.int32)
        now, before = (self._model.language.turns(position, each) for each in (length, self._length))
        return all(np.array_equal(a, b) for a, b in zip(now, before, strict=True))

    def _make_room(self, length: int, kept: int) -> None:
        """Makes a cache that has room for `length` tokens, with what is kept of the one before."""
        chunk = self._options.chunk
        # The last piece of a prompt may be filled up, into slots that are written again later.
        needed = length + max(chunk, _LEAST)
        if self._cache is not None and self._cache.slots >= needed:
            return
        slots = padded_length(needed, chunk)
        size, dtype = self._model.size.language, self._model.language.dtype
        if not kept:
            self._cache = None  # freed before the new one is made
        fresh = empty_cache(size.depth, 1, slots, size.kv_heads, size.head, dtype, self._options.cache)
        self._cache = fresh if self._cache is None else _run_copy(fresh, self._cache)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yields first token and number of the tokens that are read at a time: whole chunks, then the rest.

        A short rest is read in small pieces, so that there are two programs, whatever lengths are met.
        """
        chunk, small = self._options.chunk, self._small
        while start < stop:
            rest = stop - start
            count = min(chunk if rest > chunk // 2 else small, rest)
            yield start, count
            start += count

    @property
    def _small(self) -> int:
        return max(self._options.chunk // 8, min(_LEAST, self._options.chunk))

    def _extend(self, prompt: Prompt, start: int, count: int, every: bool) -> jax.Array:
        """Reads `count` tokens of a prompt; returns logits of the last one (1, V), or of all (1, m, V)."""
        full = self._small if count <= self._small else self._options.chunk
        if every:  # the logits of all are large, and most answers are short
            full = max(_LEAST, 1 << (count - 1).bit_length())
        ids, places = (part[start : start + count] for part in (prompt.ids, prompt.places))
        ids, places = np.pad(ids, (0, full - count)), np.pad(places, (0, full - count), constant_values=-1)
        visual = np.zeros((full, self._model.size.language.width), prompt.visual.dtype)
        visual[places >= 0] = prompt.visual[places[places >= 0]]
        there = np.where(places >= 0, np.arange(full), NO_PLACE).astype(np.int32)
        cache, self._cache = self._cache, None
        logits, self._cache = _run_extended(
            self._model,
            self._params,
            cache,
            ids[None],
            visual[None],
            there[None],
            start,
            self._length,
            count,
            every,
        )
        return logits


def _extended(
    model: DialogueModel,
    params: Params,
    cache: Cache,
    ids: jax.Array,
    visual: jax.Array,
    places: jax.Array,
    slot: jax.Array,
    length: jax.Array,
    count: jax.Array,
    every: bool,
) -> tuple[jax.Array, Cache]:
    """Puts tokens (1, m) into a cache from `slot` on; returns logits of the token `count` - 1, or of all."""
    language, words = model.language, params["language"]
    run = RunCache(cache, jnp.zeros((1,), jnp.int32))
    text, written = places_in(language, run, slot, ids.shape[1], length)
    x = model.embed(params, ids, visual, places)
    x, cache = language.cached_layers(words, x, text, cache, written, 0, language.size.depth)
    if not every:
        x = jax.lax.dynamic_slice_in_dim(x, count - 1, 1, axis=1)[:, 0]
    return language.logits(words, language.normed(words, x)), cache


def _copied(fresh: Cache, old: Cache) -> Cache:
    """A larger cache with what is in another one."""
    return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice(a, b, (0,) * a.ndim), fresh, old)


# Compiled once for each model, number of slots and length of a piece. Caches are updated in place.
_run_extended = jax.jit(_extended, static_argnums=(0, 9), donate_argnums=2)
_run_copy = jax.jit(_copied, donate_argnums=0)
_run_chosen = jax.jit(chosen, static_argnums=2, donate_argnums=0)
# The length of a prompt is no constant here: nothing is dropped, so no shape depends on it.
_run_decode = jax.jit(decode, static_argnums=(0, 4), donate_argnums=2)
