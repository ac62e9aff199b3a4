"""What merging of tokens is compared with: the originals' form of it, its scores alone, and pooling."""

import functools

import jax
import jax.numpy as jnp

from ivjax.ops.hico import head_means, merge_schedule, pair_cosines


def step_by_step(x: jax.Array, target: int, heads: int) -> jax.Array:
    """Merges tokens as the originals do, all channels at every step: x (B, N, C) -> (B, target, C)."""
    batch, count, _ = x.shape
    sizes = jnp.ones((batch, count, 1), jnp.float32)
    for merges in merge_schedule(count, target):
        metric = head_means(jax.lax.stop_gradient(x), heads)
        scores = pair_cosines(metric.astype(jnp.float32))
        best, choice = scores.max(-1), scores.argmax(-1)
        order = jnp.argsort(-best, axis=-1, stable=True)
        merged, left = order[:, :merges], order[:, merges:]
        into = jnp.take_along_axis(choice, merged, axis=1)

        total = functools.partial(_summed, merged=merged, left=left, into=into)
        x, sizes = total(x * sizes.astype(x.dtype)), total(sizes)
        x = x / sizes.astype(x.dtype)
    return x


def _summed(tokens: jax.Array, merged: jax.Array, left: jax.Array, into: jax.Array) -> jax.Array:
    """Adds even tokens to odd ones; the even tokens that are left come first, as in `hico.merge`."""
    even, odd = tokens[:, ::2], tokens[:, 1::2]
    moved = jnp.take_along_axis(even, merged[..., None], axis=1)
    odd = jax.vmap(lambda odd, place, row: odd.at[place].add(row))(odd, into, moved)
    return jnp.concatenate([jnp.take_along_axis(even, left[..., None], axis=1), odd], axis=1)


def scores_alone(x: jax.Array, target: int, heads: int) -> jax.Array:
    """Returns the best cosines (B,) of the products that merging makes, of tokens that nobody merges."""
    metric, found = x[..., : x.shape[2] // heads].astype(jnp.float32), jnp.zeros(len(x))
    for merges in merge_schedule(x.shape[1], target):
        # Each product is used, so that no compiler leaves it out.
        found = found + pair_cosines(metric).max((1, 2))
        metric = metric[:, merges:]
    return found


def pooled(x: jax.Array, target: int, heads: int) -> jax.Array:
    """Returns means of neighbours, one pass over the tokens: (B, N, C) -> (B, about target, C)."""
    batch, count, width = x.shape
    each = -(-count // target)
    x = jnp.pad(x, ((0, 0), (0, -count % each), (0, 0)))
    # The barrier for the same reason as in `head_means`.
    return jax.lax.optimization_barrier(x.reshape(batch, -1, each, width)).mean(2)
