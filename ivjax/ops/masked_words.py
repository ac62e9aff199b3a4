"""Masked words: which tokens are hidden, what stands in their place, and the loss of guessing them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class WordDraws(NamedTuple):
    """Random draws for each token (B, L).

    Attributes:
        masked: whether it is to be guessed.
        replaced: whether the mask token stands in its place.
        random: whether, if that does not, a random word does.
        words: that word.
    """

    masked: jax.Array
    replaced: jax.Array
    random: jax.Array
    words: jax.Array


def draw_words(keys: jax.Array, length: int, probability: float, vocabulary: int) -> WordDraws:
    """Draws for texts of `length` tokens, by one key per text (B,)."""

    def of_text(key: jax.Array) -> WordDraws:
        masked, replaced, random, words = jax.random.split(key, 4)
        # Of what is hidden eight tenths become the mask token, and half of the rest a random word.
        return WordDraws(
            jax.random.bernoulli(masked, probability, (length,)),
            jax.random.bernoulli(replaced, 0.8, (length,)),
            jax.random.bernoulli(random, 0.5, (length,)),
            jax.random.randint(words, (length,), 0, vocabulary),
        )

    return jax.vmap(of_text)(keys)


def mask_words(
    ids: jax.Array, draws: WordDraws, mask: int, kept: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Returns texts (B, L) with some tokens hidden, and which they are, (B, L) bool.

    mask: id of the token that stands in their place. kept: ids that are never hidden.
    """
    hidden = draws.masked
    for number in kept:
        hidden = hidden & (ids != number)
    shown = jnp.where(draws.random, draws.words.astype(ids.dtype), ids)
    return jnp.where(hidden, jnp.where(draws.replaced, mask, shown), ids), hidden


def hidden_words_loss(logits: jax.Array, ids: jax.Array, hidden: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns for each text the sum of the cross entropies of its hidden tokens, and how many are right.

    logits (B, L, V), ids and hidden (B, L) -> twice (B,) float32.
    """
    wide = logits.astype(jnp.float32)
    losses = jax.nn.logsumexp(wide, axis=-1) - jnp.take_along_axis(wide, ids[..., None], axis=-1)[..., 0]
    right = (wide.argmax(-1) == ids) & hidden
    return jnp.sum(losses * hidden, axis=-1), jnp.sum(right, axis=-1, dtype=jnp.float32)
