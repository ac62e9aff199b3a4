"""The one attention switch: `attend` picks the kernel for the hardware; no config names one."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from ivjax.ops.blockwise import Places, attend_in_blocks, pad_tokens, visible
from ivjax.ops.layout import ACTIVATION_AXES, activation_spec, one_device, platform, split_over, ways
from ivjax.ops.randomness import Dropout

_LANES = 128  # splash works on blocks of 128 tokens
_MATRIX = 2048 * 2048  # logits of a head that are computed at once where all heads are; beyond it, in blocks
_HEAD_MATRIX = 8192 * 8192  # the same where one head is computed after the other
_SHORT = 128  # below this many queries or keys a fused kernel does not pay


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    causal: bool = False,
    window: int | None = None,
    start: jax.Array | None = None,
    q_segments: jax.Array | None = None,
    kv_segments: jax.Array | None = None,
) -> jax.Array:
    """Scaled dot-product attention: q (B, N, H, D), k and v (B, M, G, D) -> (B, N, H, D).

    H is a multiple of G (grouped heads). With segment ids (B, N) and (B, M) a query sees only the
    keys of its own segment. Logits and softmax are float32.

    Args:
        causal: a query sees no key after its own place.
        window: how many keys up to its own place a query sees, and without `causal` as many after it (None:
            all).
        start: the place of the first query among the keys (None: 0), as keys of a cache go before it.
    """
    if (q_segments is None) != (kv_segments is None):
        raise ValueError("attend needs segment ids for both queries and keys, or for neither")
    kernel, matrix = _choose(q, k), q.shape[1] * k.shape[1]
    # The fused kernels count places of queries and keys from the same beginning.
    if start is None and kernel == "splash":
        return splash(q, k, v, causal, q_segments, kv_segments, window)
    # The partitioner would gather the queries again, where a loop walks along them.
    if causal and start is None and q.shape[1] == k.shape[1] and split_over("tokens", q.shape[1]):
        return _over_context(q, k, v, window, q_segments, kv_segments)
    # cuDNN's is given segments as a mask of all queries and keys, and knows windows of earlier keys alone.
    known = (causal or window is None) and (q_segments is None or matrix <= _HEAD_MATRIX)
    if start is None and kernel == "cudnn" and known:
        return in_pairs(q, k, v, causal, q_segments, kv_segments, "cudnn", window)
    # The loop's hand-written gradient knows neither masks nor grouped heads.
    plain = not causal and window is None and q_segments is None and start is None
    plain = plain and q.shape[2] == k.shape[2]
    # For 8 heads of 4097 tokens it takes half the time of the blocks, forward and backward.
    if kernel == "loop" and plain and matrix <= _HEAD_MATRIX:
        return _head_by_head(q, k, v)
    if start is None and window is None and matrix <= _MATRIX:
        return _dense(q, k, v, causal, q_segments, kv_segments, "xla")
    return _by_places(q, k, v, causal, window, start, q_segments, kv_segments)


def _by_places(q, k, v, causal, window, start, q_segments, kv_segments) -> jax.Array:
    """Attention of queries that stand anywhere among the keys, in a window or not, of any length."""
    if q_segments is None:
        q_segments, kv_segments = (jnp.zeros(x.shape[:2], jnp.int32) for x in (q, k))
    start = jnp.asarray(0 if start is None else start, jnp.int32)
    if q.shape[1] * k.shape[1] > _MATRIX:
        return attend_in_blocks(q, k, v, q_segments, kv_segments, causal, window, start)
    places = Places(causal, window, start)
    seen = visible(places, jnp.arange(q.shape[1]), jnp.arange(k.shape[1]), q_segments, kv_segments)
    return jax.nn.dot_product_attention(q, k, v, mask=seen[:, None], implementation="xla")


def _over_context(q, k, v, window, q_segments, kv_segments) -> jax.Array:
    """Causal attention whose queries are split over `context`: each device looks at the gathered keys.

    Gathered and not sent round a ring, because heads share keys: of a quarter or an eighth as many heads
    there is little to hold, and one gather overlaps with the projections.
    """
    if q_segments is None:
        q_segments, kv_segments = (jnp.zeros(x.shape[:2], jnp.int32) for x in (q, k))
    heads = "heads" if split_over("heads", k.shape[2]) else None
    queries = activation_spec(q.shape, ("batch", "tokens", heads, None))
    keys = activation_spec(k.shape, ("batch", None, heads, None))
    ids = [PartitionSpec(*spec[:2]) for spec in (queries, keys)]

    def local(q, k, v, q_segments, kv_segments):
        start = jax.lax.axis_index("context") * q.shape[1]
        return _by_places(q, k, v, True, window, start, q_segments, kv_segments)

    # The loops of blocks do not say over which axes they vary, so the check of that would refuse them.
    mapped = jax.shard_map(local, in_specs=(queries, keys, keys, *ids), out_specs=queries, check_vma=False)
    return mapped(q, k, v, q_segments, kv_segments)


def attend_with_weights(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Attention of a few queries, with its weights: (B, N, H, D) as `attend`, and (B, H, N, M) float32."""
    # Spelled out, because no fused kernel hands out its weights.
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(logits, axis=-1)
    return jnp.einsum("bhnm,bmhd->bnhd", weights.astype(v.dtype), v), weights


def attend_with_dropout(
    q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array | None, drop: Dropout, place: str
) -> jax.Array:
    """As `attend`, with dropout of the weights; `seen` (B or 1, N, M) are each query's keys, None: all."""
    # Spelled out: no fused kernel drops weights by keys of the samples, and texts are short.
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    if seen is not None:
        logits = jnp.where(seen[:, None], logits, -jnp.inf)
    weights = drop(jax.nn.softmax(logits, axis=-1), place)
    return jnp.einsum("bhnm,bmhd->bnhd", weights.astype(v.dtype), v)


def _choose(q: jax.Array, k: jax.Array) -> str:
    backend, width = platform(), q.shape[-1]
    if backend == "cpu":
        # The loop joins clips and heads to one axis and walks it. Over several devices that axis is split,
        # and each turn of a loop would have to fetch its slice from another device.
        return "loop" if one_device() else "xla"
    if min(q.shape[1], k.shape[1]) < _SHORT:
        return "xla"
    if backend == "tpu":
        return "splash"
    # cuDNN's attention takes half precision only, in heads of a multiple of 8 channels, at most 128. It
    # raises on anything else instead of falling back.
    fits_cudnn = q.dtype != jnp.float32 and width % 8 == 0 and width <= 128
    return "cudnn" if fits_cudnn else "xla"


def _dense(
    q, k, v, causal, q_segments, kv_segments, implementation, q_lengths=None, kv_lengths=None, window=None
) -> jax.Array:
    mask = None
    if q_segments is not None:
        mask = (q_segments[:, :, None] == kv_segments[:, None, :])[:, None]
    return jax.nn.dot_product_attention(
        q,
        k,
        v,
        mask=mask,
        is_causal=causal,
        query_seq_lengths=q_lengths,
        key_value_seq_lengths=kv_lengths,
        local_window_size=None if window is None else (window - 1, 0 if causal else window - 1),
        implementation=implementation,
    )


def in_pairs(q, k, v, causal, q_segments, kv_segments, implementation, window=None) -> jax.Array:
    """Attention on an even number of tokens, as cuDNN needs for gradients; lengths hide the padding."""
    queries, keys = q.shape[1], k.shape[1]
    if queries % 2 == 0 and keys % 2 == 0:
        return _dense(q, k, v, causal, q_segments, kv_segments, implementation, window=window)
    q, k, v = (pad_tokens(x, 2) for x in (q, k, v))
    if q_segments is not None:
        # Segments count from 0, so padding is in none of them; -1 and -2 differ, so that
        # it does not see itself either.
        q_segments, kv_segments = pad_tokens(q_segments, 2, value=-1), pad_tokens(kv_segments, 2, value=-2)
    q_lengths, kv_lengths = (jnp.full(len(q), length, jnp.int32) for length in (queries, keys))
    out = _dense(
        q, k, v, causal, q_segments, kv_segments, implementation, q_lengths, kv_lengths, window=window
    )
    return out[:, :queries]


def _head_by_head(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """A loop over clips and heads: on a CPU one head's logits stay in cache, a batched product's do not."""
    heads = (x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3]) for x in (q, k, v))
    out = _looped(*heads)
    return out.reshape(q.shape[0], q.shape[2], q.shape[1], q.shape[3]).swapaxes(1, 2)


# The gradient is written by hand, because jax's own gradient of the loop would keep the weights (N, M) of
# every head for the backward pass, as much memory as without a loop.
@jax.custom_vjp
def _looped(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention (heads, N, D), one head after the other."""
    return _looped_forward(q, k, v)[0]


def _looped_forward(q, k, v):
    def head(qkv):
        q, k, v = qkv
        logits = jnp.dot(q, k.T, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
        # One number per query is kept of the softmax: with it the backward pass makes the weights again.
        total = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
        return jnp.dot(jnp.exp(logits - total).astype(v.dtype), v), total

    out, totals = jax.lax.map(head, (q, k, v))
    return out, (q, k, v, totals, out)


def _looped_backward(saved, gradient):
    """Computes all three gradients in one loop, which recomputes the weights."""

    def head(args):
        q, k, v, total, out, g = args
        wide = functools.partial(jnp.dot, preferred_element_type=jnp.float32)
        scale = q.shape[-1] ** -0.5
        weights = jnp.exp(wide(q, k.T) * scale - total)
        # The softmax's gradient needs, for each query, the sum over keys of weight times gradient. It equals
        # this product with the output, which is known already.
        centre = jnp.sum(g.astype(jnp.float32) * out, axis=-1, keepdims=True)
        d_logits = (weights * (wide(g, v.T) - centre) * scale).astype(q.dtype)
        return jnp.dot(d_logits, k), jnp.dot(d_logits.T, q), jnp.dot(weights.astype(v.dtype).T, g)

    return jax.lax.map(head, (*saved, gradient))


_looped.defvjp(_looped_forward, _looped_backward)


def splash(
    q, k, v, causal, q_segments, kv_segments, window: int | None = None, interpret: bool = False
) -> jax.Array:
    """Pallas splash attention for TPU; pads tokens to whole blocks and hides the padding by segment.

    Under a mesh it runs per device (rows over the batch axes, heads over `tensor`, queries of causal
    attention over `context`), since XLA cannot partition a hand-written kernel.
    """
    batch, queries, heads, width = q.shape
    names = ("batch", "tokens" if causal else None, "heads", None)
    shards = math.prod(ways(axis) for axis in ACTIVATION_AXES["tokens"]) if causal else 1
    q_ids = jnp.zeros((batch, queries), jnp.int32) if q_segments is None else q_segments
    kv_ids = jnp.zeros((batch, k.shape[1]), jnp.int32) if kv_segments is None else kv_segments
    # Segments count from 0, so the padding is in a segment of its own.
    q_ids, kv_ids = pad_tokens(q_ids, _LANES * shards, value=-1), pad_tokens(kv_ids, _LANES, value=-1)
    # Every query head gets its own copy of its group's keys, so that heads can be split freely.
    k, v = (jnp.repeat(x, heads // x.shape[2], axis=2) for x in (k, v))
    # The kernel does not scale its logits, so the queries are scaled.
    q = pad_tokens(q * jnp.asarray(width**-0.5, q.dtype), _LANES * shards)
    k, v = (pad_tokens(x, _LANES) for x in (k, v))
    tokens = activation_spec(q.shape, names)
    split = ways("tensor") if split_over("heads", heads) else 1
    kernel = _splash_kernel((q.shape[1], k.shape[1]), heads // split, causal, window, shards, interpret)
    if one_device():
        return _splash_local(kernel, q, k, v, q_ids, kv_ids)[:, :queries]
    keys = activation_spec(k.shape, ("batch", None, "heads", None))
    ids = [PartitionSpec(*spec[:2]) for spec in (tokens, keys)]
    # What the kernel knows of blocks of queries is split as they are.
    blocks = NamedSharding(jax.sharding.get_abstract_mesh(), PartitionSpec(None, tokens[1]))
    specs = (kernel.manual_sharding_spec(blocks), tokens, keys, keys, *ids)
    # A Pallas kernel does not say over which axes its result varies, so the check of that would refuse it.
    mapped = jax.shard_map(_splash_local, in_specs=specs, out_specs=tokens, check_vma=False)
    return mapped(kernel, q, k, v, q_ids, kv_ids)[:, :queries]


def _splash_kernel(shape, heads, causal, window, shards, interpret):
    # Imported where it is used: no other platform needs Pallas' TPU modules.
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernels,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_mask as masks,
    )

    mask: masks.Mask = (masks.CausalMask if causal else masks.FullMask)(shape)
    if window is not None:
        mask = masks.LocalMask(shape, (window - 1, 0 if causal else window - 1), offset=0)
    every = masks.MultiHeadMask([mask] * heads)
    return kernels.make_splash_mha(every, head_shards=1, q_seq_shards=shards, interpret=interpret)


def _splash_local(kernel, q, k, v, q_ids, kv_ids):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels

    def one_clip(q, k, v, q_ids, kv_ids):
        return kernel(q, k, v, segment_ids=kernels.SegmentIds(q_ids, kv_ids))

    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    # The kernel takes the heads of one clip first; `attend` has tokens first, as cuDNN wants them.
    return jax.vmap(one_clip)(q, k, v, q_ids, kv_ids).swapaxes(1, 2)
