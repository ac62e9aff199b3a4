"""Video-level HiCo: which visual tokens a language model goes on with after some of its layers."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def evenly_spaced(count: int, kept: int) -> np.ndarray:
    """Returns the places of `kept` of `count` tokens, evenly spaced as by torch's integer linspace."""
    if kept < 2:
        return np.zeros(kept, np.int64)
    # In double precision and from both ends, as torch does; a division of integers differs in rare cases.
    step, i = (count - 1) / (kept - 1), np.arange(kept)
    up, down = np.trunc(step * i), np.trunc((count - 1) - step * (kept - 1 - i))
    return np.where(i < kept // 2, up, down).astype(np.int64)


def kept_counts(count: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """Returns how many of `count` visual tokens are left before the first drop and after each.

    The first ratio is 1. Each is one of all tokens, rounded down as in the original.
    """
    return tuple(int(count * ratio) for ratio in ratios)


def dropped_by(count: int, ratios: Sequence[float], drops: int) -> np.ndarray:
    """Returns the number of the drop that takes each visual token, from 1, or 0: (count,) int32.

    Only the first `drops` drops are counted, which are uniform: of them it is known beforehand.
    """
    counts, left = kept_counts(count, ratios), np.arange(count)
    numbers = np.zeros(count, np.int32)
    for drop in range(drops):
        kept = left[evenly_spaced(counts[drop], counts[drop + 1])]
        numbers[np.setdiff1d(left, kept)] = drop + 1
        left = kept
    return numbers


def logits_to(q: jax.Array, k: jax.Array) -> jax.Array:
    """Returns logits of a few queries (B, R, H, D) to keys (B, L, G, D): (B, H, R, L) float32."""
    grouped = q.reshape(*q.shape[:2], k.shape[2], -1, q.shape[-1])
    logits = jnp.einsum("brgad,blgd->bgarl", grouped, k, preferred_element_type=jnp.float32)
    return logits.reshape(len(q), -1, *logits.shape[3:]) * q.shape[-1] ** -0.5


def attention_of(
    logits: jax.Array, asking: jax.Array, valid: jax.Array, segments: jax.Array | None = None
) -> jax.Array:
    """Returns how much a few queries attend to each token, the mean of heads and queries: (B, L) float32.

    Of logits (B, H, R, L) of queries that stand at places `asking` (B, R) and count where `valid` (B, R). A
    query sees the keys of its own segment up to its place.
    """
    seen = jnp.arange(logits.shape[-1]) <= asking[..., None]
    if segments is not None:
        seen &= jnp.take_along_axis(segments, asking, axis=1)[..., None] == segments[:, None]
    weights = jax.nn.softmax(jnp.where(seen[:, None], logits, -jnp.inf), axis=-1).mean(1)
    count = jnp.maximum(valid.sum(1), 1)
    return jnp.einsum("brl,br->bl", weights, valid / count[:, None], precision="highest")


def best_of(scores: jax.Array, candidates: jax.Array, segments: jax.Array, quotas: jax.Array) -> jax.Array:
    """Whether a token is among the best candidates of its segment: (B, L) bool.

    scores (B, L), candidates (B, L) bool, segments (B, L) in [0, S), quotas (B, S): how many are kept. Of
    equal scores the earlier token wins.
    """
    length, count = scores.shape[1], quotas.shape[1]
    # Sorted by segment, then by score; whatever is no candidate comes last.
    group = jnp.where(candidates, segments, count)
    places = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), scores.shape)
    *_, order = jax.lax.sort((group, -scores, places), dimension=1, is_stable=True, num_keys=2)
    rank = jnp.argsort(order, axis=1)
    sizes = jnp.sum(group[..., None] == jnp.arange(count), axis=1)
    before = jnp.cumsum(sizes, axis=1) - sizes
    mine = jnp.clip(segments, 0, count - 1)
    rank = rank - jnp.take_along_axis(before, mine, axis=1)
    return candidates & (rank < jnp.take_along_axis(quotas, mine, axis=1))


def compacted(keep: jax.Array, length: int, arrays: Any, fill: Any, right: bool = False) -> Any:
    """Moves the kept tokens of each row to its front, or to its end, and cuts the rows to `length`.

    keep (B, L) bool; `arrays` is a tree of (B, L, ...), `fill` one of what stands in the places left over.
    Kept tokens stay in order; they go to the end if `right`.
    """
    order = jnp.argsort(keep if right else ~keep, axis=1, stable=True)
    order = order[:, order.shape[1] - length :] if right else order[:, :length]
    there = jnp.take_along_axis(keep, order, axis=1)

    def taken(array: jax.Array, value: Any) -> jax.Array:
        extra = (1,) * (array.ndim - 2)
        found = jnp.take_along_axis(array, order.reshape(*order.shape, *extra), axis=1)
        return jnp.where(there.reshape(*there.shape, *extra), found, jnp.asarray(value, found.dtype))

    return jax.tree.map(taken, arrays, fill)


def positions_in(segments: jax.Array) -> jax.Array:
    """Returns positions that restart in each segment: (B, L) with equal segments side by side -> (B, L)."""
    places = jnp.broadcast_to(jnp.arange(segments.shape[1], dtype=jnp.int32), segments.shape)
    starts = jnp.concatenate(
        [jnp.ones_like(segments[:, :1], bool), segments[:, 1:] != segments[:, :-1]], axis=1
    )
    return places - jax.lax.cummax(jnp.where(starts, places, 0), axis=1)
