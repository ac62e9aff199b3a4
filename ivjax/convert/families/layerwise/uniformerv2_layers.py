"""UniFormerV2's layers under the names, and in the layout, of the originals' fixtures."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.convert.families.layerwise.watch import watch
from ivjax.experiment.computing import Compute
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.uniformerv2 import UniFormerV2Size
from ivjax.models.uniformerv2.blocks import GlobalBlock, LocalRelation

Params = Mapping[str, Any]
Inputs = Mapping[str, Any]


def run(size: ClassifierSize, params: Params, inputs: Inputs, dtype: Any) -> dict[str, jax.Array]:
    """Patches, blocks, global blocks, the fused feature and the logits."""
    assert isinstance(size.encoder, UniFormerV2Size)
    video, encoder = jnp.asarray(inputs["video"].transpose(0, 2, 3, 4, 1)), params["encoder"]
    tower = size.encoder.build(Compute(dtype), tuple(range(size.encoder.depth)))
    encoded, layers = watch(lambda: tower.encode(dict(encoder), video))
    times, side = size.encoder.class_tokens, size.encoder.grid[1]
    entering = layers["norm_pre"][1]
    streams = [_by_time(tap, times) for tap in encoded.taps]
    patches = layers["patch_embed"][1].reshape(len(video), times, side, side, -1)
    found = {
        "conv1": jnp.moveaxis(patches, -1, 1),
        "tokens_after_ln_pre": entering,
        # The original has tokens before clips and times.
        **{f"after_block{i}": _flat(x).swapaxes(0, 1) for i, x in enumerate(streams)},
        "fused_feature": encoded.pooled,
        "logits": size.build(Compute(dtype)).classify(dict(params), encoded)[0],
    }
    if size.encoder.local:
        found["block0_lmhra1"] = _volume(_local(size.encoder, encoder, entering, dtype), len(video), side)
    return found | _global(size.encoder, encoder, streams, dtype)


def _by_time(tokens: jax.Array, times: int) -> jax.Array:
    """Tokens of clips (B, T + T * L, C), class tokens first -> (B, T, 1 + L, C)."""
    patches = tokens[:, times:].reshape(len(tokens), times, -1, tokens.shape[-1])
    return jnp.concatenate([tokens[:, :times, None], patches], axis=2)


def _flat(tokens: jax.Array) -> jax.Array:
    return tokens.reshape(-1, *tokens.shape[2:])


def _volume(patches: jax.Array, batch: int, side: int) -> jax.Array:
    """Patches (B * T, L, C) -> (B, C, T, h, w)."""
    return jnp.moveaxis(patches.reshape(batch, -1, side, side, patches.shape[-1]), -1, 1)


def _local(size: UniFormerV2Size, params: Params, x: jax.Array, dtype: Any) -> Any:
    first = jax.tree.map(lambda leaf: leaf[0], params["blocks"]["local1"])
    relation = LocalRelation(size.local_width, size.class_tokens, dtype=dtype)
    return relation.apply({"params": first}, x[:, 1:])


def _global(size: UniFormerV2Size, params: Params, streams: Any, dtype: Any) -> dict[str, jax.Array]:
    """What the global blocks read and what they make of the video token, one after the other."""
    side, found = size.grid[1], {}
    batch = len(streams[0])
    query = jnp.broadcast_to(jnp.asarray(params["video_token"], dtype), (batch, 1, size.width))
    for number, layer in enumerate(size.returned):
        block = GlobalBlock(size.global_heads, size.global_mlp, side, dtype=dtype)
        own = jax.tree.map(lambda leaf, n=number: leaf[n], params["globals"])
        before = query

        def apply(
            own: Any = own, block: Any = block, query: Any = before, tokens: Any = streams[layer]
        ) -> Any:
            return block.apply({"params": own}, query, tokens)

        query, layers = watch(apply)
        found[f"dpe{number}"] = jnp.moveaxis(layers["places"][1], -1, 1)
        if number == 0:
            found["dec0_kv_in"] = layers["norm3"][0].swapaxes(0, 1)
        found[f"dec{number}_query_out"] = query.swapaxes(0, 1)
    return found
