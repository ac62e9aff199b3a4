"""InternViT's layers under the names, and in the layout, of the original's fixtures."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.convert.families.layerwise.watch import watch
from ivjax.experiment.computing import Compute
from ivjax.models.internvit import InternVitSize


def run(
    size: InternVitSize, params: Mapping[str, Any], inputs: Mapping[str, Any], dtype: Any
) -> dict[str, jax.Array]:
    """Embeddings, residual streams and the class token of the last one."""
    video = jnp.asarray(inputs["pixel_values"].transpose(0, 2, 3, 1))[:, None]
    tower = size.build(Compute(dtype), tuple(range(size.depth)))
    encoded, layers = watch(lambda: tower.encode(dict(params), video))
    states = {f"hidden_states/{i + 1}": tap for i, tap in enumerate(encoded.taps)}
    return states | {"last_hidden_state": encoded.tokens, "pooler_output": encoded.pooled}
