"""Random draws as a pure function of (seed, sample index, purpose): never of rank, worker or device."""

import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp


def sample_keys(key: jax.Array, index: jax.Array, purpose: str) -> jax.Array:
    """One key per sample (B,), from the run's key, the global sample index (B,) and what it is for."""
    # Python's own hash of a text changes from process to process.
    key = jax.random.fold_in(key, zlib.crc32(purpose.encode()))
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)


def exponential(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Exp(1) draws (B, *shape), each sample's from its own key."""
    return jax.vmap(lambda key: jax.random.exponential(key, shape))(keys)


def drop_path(keys: jax.Array, rate: float, depth: int, branches: int = 2) -> jax.Array | None:
    """Multipliers (depth, branches, B) of residual branches: 0, or 1 / (1 - rate of the layer).

    The rate rises linearly from 0 in the first layer to `rate` in the last. None when `rate` is 0.
    """
    if rate == 0.0:
        return None
    rates = jnp.linspace(0.0, rate, depth)[:, None]
    # Drawn for all layers at once, because the scan over layers takes its per-layer values as an array; the
    # layer axis leads for the same reason.
    draws = jax.vmap(lambda key: jax.random.uniform(key, (depth, branches)))(keys)
    return jnp.where(draws >= rates, 1.0 / (1.0 - rates), 0.0).transpose(1, 2, 0)


class Dropout(NamedTuple):
    """Dropout of numbers in a network. What is dropped depends on a sample's key and a place alone.

    Attributes:
        keys: (B,), one per sample.
        rate: the share that is dropped.
    """

    keys: jax.Array
    rate: float

    def __call__(self, x: jax.Array, place: str) -> jax.Array:
        """Drops numbers of x (B, ...) and scales the others; each `place` of a network draws its own."""
        number = zlib.crc32(place.encode())
        draw = lambda key: jax.random.bernoulli(jax.random.fold_in(key, number), 1 - self.rate, x.shape[1:])  # noqa: E731
        return jnp.where(jax.vmap(draw)(self.keys), x / (1 - self.rate), 0).astype(x.dtype)

    def at(self, layer: jax.Array | int) -> "Dropout":
        """Returns the dropout of a layer."""
        return Dropout(jax.vmap(jax.random.fold_in, in_axes=(0, None))(self.keys, layer), self.rate)


def dropout(keys: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """x (B, ...) without a share `rate` of its entries, the others enlarged; each row by its own key (B,)."""
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(kept, x / (1 - rate), 0)


def several(keys: jax.Array, count: int) -> jax.Array:
    """Returns `count` other keys (B, count) for each row's key (B,), for its clips for example."""
    return jax.vmap(lambda key: jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count)))(keys)


def folded(keys: jax.Array, number: jax.Array | int) -> jax.Array:
    """Returns other keys (B,) for the same rows, by a number such as that of a layer."""
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
