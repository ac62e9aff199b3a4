"""The next token from logits: the likeliest, or one drawn among the likely."""

import math
from dataclasses import dataclass
from numbers import Integral

import jax
import jax.numpy as jnp

from ivjax.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: draws among so many of the likeliest tokens (None: all).
        top_p: draws among the likeliest tokens that together have this probability (1: all).
        repetition_penalty: divides positive logits of tokens that are in the text already, and multiplies
            negative ones (1: none).
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature must be 0 or more, got {self.temperature}")
        if self.top_k is not None and (not isinstance(self.top_k, Integral) or int(self.top_k) < 1):
            raise UserError(f"top_k must be a whole number of 1 or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not 0 < self.repetition_penalty < math.inf:
            raise UserError(f"repetition_penalty must be above 0, got {self.repetition_penalty}")


def choose(sampling: Sampling, logits: jax.Array, keys: jax.Array, seen: jax.Array | None) -> jax.Array:
    """Returns the next token of each row: (B,) int32.

    logits (B, V) float32, keys (B,) of random numbers, seen (B, V) bool: which tokens are in the text.
    """
    if sampling.repetition_penalty != 1 and seen is not None:
        penalty = sampling.repetition_penalty
        logits = jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = _likeliest(sampling, logits / sampling.temperature)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def _likeliest(sampling: Sampling, logits: jax.Array) -> jax.Array:
    """The logits, those that are not drawn from at -inf."""
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, sampling.top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if sampling.top_p < 1:
        ordered = jnp.sort(logits, axis=-1)[..., ::-1]
        mass = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
        # The first token is always among them, and so is the one that passes the share.
        inside = jnp.concatenate(
            [jnp.ones_like(mass[..., :1], bool), mass[..., :-1] < sampling.top_p], axis=-1
        )
        least = jnp.min(jnp.where(inside, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits
