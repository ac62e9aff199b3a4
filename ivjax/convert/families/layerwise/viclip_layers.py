"""ViCLIP's layers under the names, and in the layout, of the original's fixtures."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ivjax.convert.families.layerwise.watch import after_blocks, watch
from ivjax.experiment.computing import Compute
from ivjax.models.viclip.towers import ClipBlock

Arrays = Mapping[str, Any]


def run(size: Any, params: Arrays, inputs: Arrays, dtype: Any) -> dict[str, Any]:
    """All layers that a fixture can hold: clips whole and masked, images, captions."""
    found: dict[str, Any] = _vision(size.vision, params["vision"], inputs["video"], None, dtype, "full")
    if "mask" in inputs:
        found |= _vision(size.vision, params["vision"], inputs["video"], inputs["mask"], dtype, "masked")
    if "image" in inputs:
        tower, image = size.vision.build(Compute(dtype)), _channels_last(inputs["image"])
        found["image_features"] = tower.encode(params["vision"], image).pooled
    return found | _text(size.text, params["text"], jnp.asarray(inputs["text_ids"], jnp.int32), dtype)


def _vision(
    size: Any, params: Arrays, video: np.ndarray, mask: np.ndarray | None, dtype: Any, group: str
) -> dict[str, Any]:
    tower = size.build(Compute(dtype))
    visible = _all_tokens(video, size) if mask is None else _visible(mask, size.grid[0])
    seen = None if mask is None else jnp.asarray(visible[:, 1:] - 1, jnp.int32)
    encoded, layers = watch(lambda: tower.encode(params, _channels_last(video), seen))
    order = np.argsort(_place_major(visible, size.grid), axis=1)[:, :, None]
    before, x = layers["norm_pre"]
    blocks = after_blocks(partial(ClipBlock, size.heads, dtype=dtype), params["blocks"], x)
    streams = {"ln_pre_in": before, "ln_pre_out": x}
    streams |= {f"vision_block{i}_out": block for i, block in enumerate(blocks)}
    found = {f"{group}/{name}": jnp.take_along_axis(y, order, axis=1) for name, y in streams.items()}
    if mask is None:
        patches = layers["patch_embed"][1].reshape(len(video), *size.grid, -1)
        found = {"conv1": jnp.moveaxis(patches, -1, 1)} | found
    return found | {f"{group}/vision_features": encoded.pooled}


def _text(size: Any, params: Arrays, ids: jax.Array, dtype: Any) -> dict[str, Any]:
    features = size.build(Compute(dtype)).encode(params, ids)
    words, places = jnp.asarray(params["word_embed"]), jnp.asarray(params["place_embed"])
    x = (words[ids] + places[: ids.shape[1]]).astype(dtype)
    blocks = after_blocks(partial(ClipBlock, size.heads, causal=True, dtype=dtype), params["blocks"], x)
    found = {f"text_block{i}_out": block for i, block in enumerate(blocks)}
    norm = nn.LayerNorm(epsilon=1e-5, dtype=dtype).apply({"params": params["norm"]}, blocks[-1])
    return found | {"text_ln_final": norm, "text_features": features}


def _channels_last(video: np.ndarray) -> jax.Array:
    """(B, T, 3, H, W) -> (B, T, H, W, 3)."""
    return jnp.moveaxis(jnp.asarray(video), 2, -1)


def _all_tokens(video: np.ndarray, size: Any) -> np.ndarray:
    return np.tile(np.arange(1 + size.patches), (len(video), 1))


def _visible(mask: np.ndarray, times: int) -> np.ndarray:
    """The original numbers patches place by place; its mask (B, N) -> visible tokens (B, 1 + n) here."""
    ours = mask.reshape(len(mask), -1, times).transpose(0, 2, 1).reshape(len(mask), -1)
    return np.stack([[0, *(1 + np.flatnonzero(row == 0))] for row in ours])


def _place_major(visible: np.ndarray, grid: tuple[int, int, int]) -> np.ndarray:
    """Token numbers of this project (time-major) -> those of the original; the class token is 0 in both."""
    times, rows, columns = grid
    time, place = np.divmod(visible - 1, rows * columns)
    return np.where(visible == 0, 0, 1 + place * times + time)
