"""Clip-level HiCo: merges the most similar tokens of a clip, step by step, down to a fixed number.

The schedule is static, so all shapes are. The decisions carry no gradient; the merged tokens are weighted
means, and the gradient is theirs.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ivjax.ops.layout import constrain, one_device, platform


class Merged(NamedTuple):
    """The tokens of clips after merging.

    Attributes:
        tokens: (B, K, C), means of the tokens that were merged into each.
        sizes: (B, K) float32, how many tokens each stands for.
        assignment: (B, N) int32, the output token that each input token went into.
        similarity: for each step (B, r) float32, the cosines of the pairs that it merged, best first.
    """

    tokens: jax.Array
    sizes: jax.Array
    assignment: jax.Array
    similarity: tuple[jax.Array, ...]


def merge_schedule(tokens: int, target: int) -> tuple[int, ...]:
    """Returns how many tokens each step merges, at most half of those that are left."""
    if not 1 <= target <= tokens:
        raise ValueError(f"{tokens} tokens cannot be merged to {target}; the target must be 1 to {tokens}")
    steps = []
    while tokens > target:
        steps.append(min(tokens - target, tokens // 2))
        tokens -= steps[-1]
    return tuple(steps)


def merge(x: jax.Array, target: int, heads: int) -> Merged:
    """Merges the tokens of each clip: x (B, N, C) -> (B, target, C).

    A step splits the tokens by their places into even and odd ones. Each even token picks the most similar
    odd one, by the cosine of their means over `heads`, and the even tokens with the highest cosines are
    merged into their choice. The order afterwards: the even tokens that are left, by falling cosine, then all
    odd ones as they were. Of equal cosines the earlier token wins, both as choice and in the order.
    """
    # Over clips alone: a clip's tokens are all compared with each other.
    x = constrain(x, "batch", None, None)
    batch, count, width = x.shape
    if heads < 1 or width % heads:
        raise ValueError(f"tokens of {width} channels do not divide into {heads} heads")
    # The mean over heads is linear in the tokens and a merge is a weighted mean. So the metric of merged
    # tokens is the merged metric: all decisions are made on it alone, and the wide tokens are summed once, at
    # the end.
    metric = head_means(jax.lax.stop_gradient(x), heads, jnp.float32)
    sizes = jnp.ones((batch, count), jnp.float32)
    assignment = jnp.broadcast_to(jnp.arange(count, dtype=jnp.int32), (batch, count))
    similarity = []
    for merges in merge_schedule(count, target):
        places, best = _places(metric, merges)
        weighted = jnp.concatenate([metric * sizes[..., None], sizes[..., None]], axis=-1)
        sums = segment_sum(weighted, places, metric.shape[1] - merges)
        metric, sizes = sums[..., :-1] / sums[..., -1:], sums[..., -1]
        assignment = jnp.take_along_axis(places, assignment, axis=1)
        similarity.append(best)
    tokens = segment_sum(x, assignment, target) / sizes[..., None]
    return Merged(tokens.astype(x.dtype), sizes, assignment, tuple(similarity))


def head_means(x: jax.Array, heads: int, dtype: jax.typing.DTypeLike | None = None) -> jax.Array:
    """Returns means over heads, whose channels follow each other: (B, N, C) -> (B, N, C / heads)."""
    batch, count, width = x.shape
    if platform() == "tpu":
        # A reshape that splits channels copies all tokens there: in bfloat16 to eight times the traffic.
        parts = [part.astype(jnp.float32) for part in jnp.split(x, heads, axis=2)]
        return (functools.reduce(jnp.add, parts) / heads).astype(x.dtype if dtype is None else dtype)
    split = x.reshape(batch, count, heads, width // heads)
    if platform() == "cpu":
        # A reduction into which XLA fuses a reshape of bfloat16 takes 12 times as long.
        split = jax.lax.optimization_barrier(split)
    return jnp.mean(split, axis=2, dtype=dtype)


@jax.custom_vjp
def unmerge(tokens: jax.Array, assignment: jax.Array) -> jax.Array:
    """Returns for each input token the output token that it went into: (B, K, C), (B, N) -> (B, N, C)."""
    if platform() == "tpu":
        # By the compiler's estimate a tenth of a gather's time, and exact: one factor of each sum is 1.
        one_hot = _one_hot(assignment, tokens.shape[1], tokens.dtype)
        return jnp.einsum("bkn,bkc->bnc", one_hot, tokens, precision="highest")
    return jnp.take_along_axis(tokens, assignment[..., None], axis=1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def segment_sum(x: jax.Array, places: jax.Array, count: int) -> jax.Array:
    """Sums rows by place: x (B, N, C), places (B, N) in [0, count) -> (B, count, C) float32."""
    if platform() == "cpu":
        if one_device():
            return _row_by_row(x, places, count)
        x = x.astype(jnp.float32)
    # A product with a one-hot matrix, which is exact. Compiled for a TPU v5e it takes about as long as
    # reading x once. A scatter-add sorts first there; on a GPU the order of its sums changes from run to run.
    one_hot = _one_hot(places, count, x.dtype)
    return jnp.einsum("bkn,bnc->bkc", one_hot, x, precision="highest", preferred_element_type=jnp.float32)


def _one_hot(places: jax.Array, count: int, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Whether each row goes to each place: (B, N) -> (B, count, N)."""
    return (places[:, None] == jnp.arange(count, dtype=places.dtype)[:, None]).astype(dtype)


# Sums and `unmerge` are each other's gradients. Derived ones would be a scatter-add on every platform.
def _unmerge_forward(tokens, assignment):
    # The dtype and the number of places travel as an empty array, because residuals must be arrays.
    return unmerge(tokens, assignment), (assignment, jnp.zeros((0, tokens.shape[1]), tokens.dtype))


def _unmerge_backward(saved, gradient):
    assignment, like = saved
    return segment_sum(gradient, assignment, like.shape[1]).astype(like.dtype), None


def _segment_sum_forward(x, places, count):
    return segment_sum(x, places, count), (places, jnp.zeros((0,), x.dtype))


def _segment_sum_backward(count, saved, gradient):
    places, like = saved
    return unmerge(gradient.astype(like.dtype), places), None


unmerge.defvjp(_unmerge_forward, _unmerge_backward)
segment_sum.defvjp(_segment_sum_forward, _segment_sum_backward)


def _row_by_row(x: jax.Array, places: jax.Array, count: int) -> jax.Array:
    """The sums on one CPU: a loop that adds each row in place.

    At 8 clips of 1024 tokens of 4096 channels it takes 14 ms, a scatter-add 113 and a one-hot product 92.
    """
    batch, length, width = x.shape
    rows = x.reshape(batch * length, width)
    # One loop over the rows of all clips: one for each clip would copy the clip first.
    places = (places + count * jnp.arange(batch, dtype=places.dtype)[:, None]).reshape(-1)

    def add(i: jax.Array, sums: jax.Array) -> jax.Array:
        # Without the barrier the compiler casts all rows to float32 before the loop, and rounds each back.
        all_rows, at = jax.lax.optimization_barrier((rows, i))
        row = jax.lax.dynamic_slice(all_rows, (at, 0), (1, width)).astype(jnp.float32)
        row += jax.lax.dynamic_slice(sums, (places[i], 0), (1, width))
        return jax.lax.dynamic_update_slice(sums, row, (places[i], 0))

    sums = jax.lax.fori_loop(0, len(rows), add, jnp.zeros((batch * count, width), jnp.float32))
    return sums.reshape(batch, count, width)


def pair_cosines(metric: jax.Array) -> jax.Array:
    """Returns the cosines of even and odd tokens: (B, p, D) float32 -> (B, evens, odds)."""
    # No epsilon, as in the original.
    unit = metric / jnp.linalg.norm(metric, axis=-1, keepdims=True)
    # In true float32 everywhere: rounded cosines would flip decisions.
    return jnp.einsum("bid,bjd->bij", unit[:, ::2], unit[:, 1::2], precision="highest")


def _places(metric: jax.Array, merges: int) -> tuple[jax.Array, jax.Array]:
    """The place of each token after a step (B, p), and the cosines of the pairs it merges (B, merges)."""
    scores = pair_cosines(metric)
    _, evens, odds = scores.shape
    best, choice = jnp.max(scores, axis=-1), jnp.argmax(scores, axis=-1).astype(jnp.int32)
    # A stable sort: of equal similarities the earlier token comes first, on every platform.
    order = jnp.argsort(-best, axis=-1, stable=True)
    rank = jnp.argsort(order, axis=-1).astype(jnp.int32)
    left = evens - merges
    moved = jnp.where(rank < merges, left + choice, rank - merges)
    stays = jnp.broadcast_to(left + jnp.arange(odds, dtype=jnp.int32), (len(metric), odds))
    # Even and odd take turns again; of an odd number of tokens the last one is even.
    stays = jnp.pad(stays, ((0, 0), (0, evens - odds)))
    places = jnp.stack([moved, stays], axis=-1).reshape(len(metric), -1)[:, : metric.shape[1]]
    return places, jnp.take_along_axis(best, order[:, :merges], axis=1)


def merge_report(merged: Merged, frames: int) -> dict[str, jax.Array]:
    """Returns what merging did, as means over clips of `frames` frames with equally many tokens.

    similarity: the mean cosine of the pairs that were merged; largest: tokens in the largest output token;
    tokens_per_output: (bins,) the shares of output tokens that stand for 1, 2 to 3, 4 to 7 ... tokens;
    across_frames: the share of output tokens of several tokens that hold more than one frame.
    """
    count, target = merged.assignment.shape[1], merged.sizes.shape[1]
    if frames < 1 or count % frames:
        raise ValueError(f"{count} tokens are not those of {frames} frames, which have equally many each")
    pairs = jnp.concatenate([jnp.zeros((len(merged.sizes), 0)), *merged.similarity], axis=1)
    by_frame = merged.assignment.reshape(-1, frames, count // frames)
    # Whether an output token holds a token of a frame: (B, frames, K).
    holds = jax.vmap(jax.vmap(lambda places: jnp.zeros(target, bool).at[places].set(True)))(by_frame)
    joined = merged.sizes > 1
    crossing = jnp.sum(joined & (jnp.sum(holds, axis=1) > 1), axis=1)
    # The place of the highest bit: a logarithm could round down at a power of two.
    bins = 31 - jax.lax.clz(merged.sizes.astype(jnp.int32))
    return {
        "similarity": jnp.mean(pairs),
        "largest": jnp.mean(jnp.max(merged.sizes, axis=1)),
        "tokens_per_output": jnp.mean(jax.nn.one_hot(bins, count.bit_length()), axis=(0, 1)),
        "across_frames": jnp.mean(crossing / jnp.maximum(jnp.sum(joined, axis=1), 1)),
    }
