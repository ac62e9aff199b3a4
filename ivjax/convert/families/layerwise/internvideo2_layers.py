"""The stage-1 student's layers under the names, and in the layout, of the original's fixtures."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.convert.families.layerwise.encoders_layers import embedded
from ivjax.experiment.computing import Compute


def run(size: Any, params: Mapping[str, Any], inputs: Mapping[str, Any], dtype: Any) -> dict[str, jax.Array]:
    """Patch embedding, residual streams, pooled feature and the heads' predictions."""
    video = jnp.asarray(inputs["video"].transpose(0, 2, 3, 4, 1))
    # Fixtures hold masks as bool or as uint8, of which `~` would make something else.
    visible = jnp.asarray(np.stack([np.flatnonzero(row == 0) for row in inputs["mask"]]), jnp.int32)
    compute = Compute(dtype)
    tower = size.encoder.build(compute, tuple(range(size.encoder.depth)))
    encoded = tower.encode(params["encoder"], video, visible[:, 1:] - 1)
    found = {"patch_embed": embedded(size.encoder, params["encoder"], video, dtype)}
    found |= {f"after_block_{i}": tap for i, tap in enumerate(encoded.taps)} | {"pooled": encoded.pooled}
    predicted = size.build(compute).predict(params, video, visible)
    heads = {"x_clip_align": predicted.clip, "x_align": predicted.pooled, "x_mae_align": predicted.mae}
    return found | {name: value for name, value in heads.items() if value is not None}
