"""Stacks of equal blocks: parameters on a leading layer axis, run by one scan, computed again as asked."""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ivjax.experiment.computing import Compute, Remat
from ivjax.ops.layout import constrain
from ivjax.ops.masking import gather_tokens

BLOCK_INPUT = "block_input"


def enter_block(x: jax.Array) -> jax.Array:
    """The input of a block (B, N, C): its layout, and the name under which `offload` parks it."""
    # Pinned at every block. Between two pins the partitioner may follow the layout of the kernels
    # instead, and gather all tokens.
    return checkpoint_name(constrain(x, "batch", "tokens", None), BLOCK_INPUT)


def checkpointed(function: Callable[..., Any], policy: Remat, looped: bool) -> Callable[..., Any]:
    """`function` under a rematerialisation policy, inside a scan that stays a loop if `looped`.

    none: XLA keeps what the backward pass needs. dots: keep matrix products, recompute the rest.
    full: keep only each block's input. offload: as full, with the inputs parked in host memory.
    """
    policies = jax.checkpoint_policies
    # `dots` leaves out products with a batch axis: those are the logits of attention, N x N numbers each. A
    # ViT-L step on TPU v5e (1024 tokens, 4 clips a chip) needs 1.2 GiB of temporaries with `full`, 3.0 with
    # `dots`, and does not fit 15.75 with `none`.
    choice = {
        "dots": policies.dots_with_no_batch_dims_saveable,
        "full": policies.nothing_saveable,
        "offload": policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[BLOCK_INPUT],
            offload_src="device",
            offload_dst="pinned_host",
        ),
    }
    if policy == "none":
        return function
    # XLA merges equal computations, and so undoes a recomputation that lies beside what it repeats. The
    # barrier against that would only cost in a loop, whose backward pass is another loop.
    return jax.checkpoint(function, policy=choice[policy], prevent_cse=not looped)


def scan_layers(
    layer: Callable[[jax.Array, Any], jax.Array], x: jax.Array, stacked: Any, compute: Compute, first: int = 0
) -> jax.Array:
    """Runs `layer(x, per_layer)` along the leading axis of `stacked`: x -> the last x.

    For layers that are no Flax block by themselves. `first` is the number that the first of them has in its
    network, by which `compute.remat_blocks` says what is computed again.
    """
    count = len(jax.tree.leaves(stacked)[0])
    kept = compute.remat_blocks
    cut = count if kept is None else min(max(kept - first, 0), count)
    # A scan has one policy for all of its layers, so two policies are two scans.
    for begin, end, policy in ((0, cut, compute.remat), (cut, count, "none")):
        if begin == end:
            continue
        own = stacked
        if (begin, end) != (0, count):
            own = jax.tree.map(lambda leaf, begin=begin, end=end: leaf[begin:end], stacked)
        run = checkpointed(layer, cast(Remat, policy), compute.scan and end - begin > 1)

        def body(x: jax.Array, per_layer: Any, run: Callable[..., Any] = run) -> tuple[jax.Array, None]:
            return run(x, per_layer), None

        x = jax.lax.scan(body, x, own, unroll=1 if compute.scan else end - begin)[0]
    return x


def run_blocks(
    block: nn.Module,
    depth: int,
    x: jax.Array,
    compute: Compute,
    keep: jax.Array | None = None,
    taps: tuple[int, ...] = (),
    wanted: jax.Array | None = None,
    shared: tuple[Any, ...] = (),
) -> tuple[jax.Array, jax.Array]:
    """Runs `block` `depth` times with parameters stacked on a leading layer axis.

    x (B, N, C), keep (depth, 2, B) or None -> the last residual stream (B, N, C) and the streams
    after the layers in `taps` (len(taps), B, N, C), or their tokens `wanted` (B, n) only. Taps leave the
    scan through a buffer with one slot each and a spare slot that the other layers overwrite: the other
    streams are never kept. `compute` says whether the scan is unrolled, and what is computed again. `shared`
    are further arguments of the block, the same in all layers.
    """
    return run_collecting(block, depth, x, compute, "", keep, taps, wanted, shared)[:2]


def run_collecting(
    block: nn.Module,
    depth: int,
    x: jax.Array,
    compute: Compute,
    collection: str,
    keep: jax.Array | None = None,
    taps: tuple[int, ...] = (),
    wanted: jax.Array | None = None,
    shared: tuple[Any, ...] = (),
) -> tuple[jax.Array, jax.Array, dict[str, Any]]:
    """As run_blocks, and what the blocks sow into `collection` ("": none), stacked on a leading axis."""
    if block.is_initializing():
        return *_drawn(block, depth, x, taps, wanted, shared), {}
    # A scan of jax's own rather than Flax's, because Flax's cannot run a slice of a
    # stack, which two policies need.
    params = block.variables["params"]
    slot = jnp.array([taps.index(i) if i in taps else len(taps) for i in range(depth)], jnp.int32)
    # Tokens are taken inside the scan, so that a tapped stream is never kept whole.
    shape = x.shape if wanted is None else (*wanted.shape, x.shape[-1])
    # Without taps there is no buffer, not even the spare slot.
    carry = x, jnp.zeros((len(taps) + 1 if taps else 0, *shape), x.dtype)
    apply = block.clone(parent=None, name=None).apply

    def applied(params: Any, *inputs: Any) -> Any:
        if not collection:
            return apply({"params": params}, *inputs), {}
        out, sown = apply({"params": params}, *inputs, mutable=[collection])
        return out, sown[collection]

    def layers(carry: Any, first: int, last: int, policy: Remat) -> Any:
        """The layers from `first` to before `last`."""
        # The compiler unrolls a loop of a single turn by itself.
        looped = compute.scan and last - first > 1
        run = checkpointed(applied, policy, looped)

        def layer(carry: Any, per_layer: Any) -> tuple[Any, Any]:
            (x, tapped), (params, keep, slot) = carry, per_layer
            x, sown = run(params, x, keep, *shared)
            if taps:
                tap = x if wanted is None else gather_tokens(x, wanted)
                tapped = jax.lax.dynamic_update_index_in_dim(tapped, tap, slot, axis=0)
            return (x, tapped), sown

        stacked = params, keep, slot
        if (first, last) != (0, depth):
            stacked = jax.tree.map(lambda leaf: leaf[first:last], stacked)
        # Unrolled layers compile slower, but spare a CPU the copies of the stacked buffers.
        return jax.lax.scan(layer, carry, stacked, unroll=1 if compute.scan else last - first)

    # A scan has one policy for all of its layers, so two policies are two scans.
    cut = depth if compute.remat_blocks is None else min(compute.remat_blocks, depth)
    sown = []
    for first, last, policy in ((0, cut, compute.remat), (cut, depth, "none")):
        if first < last:
            carry, found = layers(carry, first, last, cast(Remat, policy))
            sown.append(found)
    collected = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *sown) if sown else {}
    return carry[0], carry[1][: len(taps)], collected


def _drawn(
    block: nn.Module,
    depth: int,
    x: jax.Array,
    taps: tuple[int, ...],
    wanted: jax.Array | None,
    shared: tuple[Any, ...],
) -> tuple[jax.Array, jax.Array]:
    """Draws the stacked parameters: a scan that Flax lifts gives every layer a key of its own."""
    stacked = nn.scan(
        lambda block, x, _: (block(x, None, *shared), None),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=depth,
    )
    x, _ = stacked(block, x, None)
    shape = x.shape if wanted is None else (*wanted.shape, x.shape[-1])
    return x, jnp.zeros((len(taps), *shape), x.dtype)
