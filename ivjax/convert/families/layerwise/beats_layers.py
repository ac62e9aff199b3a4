"""BEATs' layers under the names, and in the layout, of the original's fixtures."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.convert.families.layerwise.watch import watch
from ivjax.experiment.computing import Compute
from ivjax.models.beats import BeatsSize
from ivjax.models.beats.network import SoundBlock, distance_classes


def run(size: BeatsSize, params: Mapping[str, Any], inputs: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """Patches, places, and the tokens after each block, of filter banks `fbank`."""
    tower = size.build(Compute(dtype))
    tokens, layers = watch(lambda: tower.encode(dict(params), jnp.asarray(inputs["fbank"])))
    before = layers["norm_patches"]
    x = layers["norm"][1]
    classes = distance_classes(x.shape[1], size.buckets, size.distance)
    bias = jnp.asarray(params["distances"])[classes].transpose(2, 0, 1)
    found = {
        "after_layer_norm": before[1],
        "pos_conv": layers["places"][1].swapaxes(1, 2),
        "encoder_in": x,
        "position_bias": bias,
        "relative_buckets": jnp.asarray(classes),
    }
    block = SoundBlock(size, dtype)
    for number in range(size.depth):
        own = jax.tree.map(lambda leaf, n=number: leaf[n], params["blocks"])
        x = block.apply({"params": own}, x, bias)
        found[f"layer{number}_out"] = x
    return found | {"features": tokens, "pooled": tokens.mean(1)}
