"""Pixels to patches."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from ivjax.ops.resize import resize_matrix

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def patchify(video: jax.Array, tubelet: int, patch: int) -> jax.Array:
    """Cuts video (B, T*tubelet, H, W, 3) into patches (B, N, tubelet*patch*patch*3), time-major.

    Pixels inside a patch are ordered (time, row, column, channel).
    """
    return rearrange(video, "b (t k) (h p) (w q) c -> b (t h w) (k p q c)", k=tubelet, p=patch, q=patch)


def standardise(patches: jax.Array) -> jax.Array:
    """uint8 pixels (..., n*3) -> float32 with ImageNet mean and deviation; floats pass unchanged.

    Done per patch rather than per video, so that masked patches are never touched.
    """
    if not jnp.issubdtype(patches.dtype, jnp.integer):
        return patches
    pixels = patches.shape[-1] // 3
    # The division by 255 is folded into both constants, and the deviation is multiplied, not divided by.
    mean = np.tile(IMAGENET_MEAN * 255, pixels)
    scale = np.tile(1 / (IMAGENET_STD * 255), pixels)
    return (patches.astype(jnp.float32) - mean) * scale


def resize_frames(video: jax.Array, image: tuple[int, int]) -> jax.Array:
    """Resizes video (B, T, H, W, 3) to height and width `image`, bicubically as torch does: float32.

    uint8 pixels come normalised, so that values beyond 0 and 255, which a cubic makes, need not be cut off.
    """
    frames = standardise(video)
    # Two products with small matrices: rows and columns are independent, and products
    # are what accelerators do best.
    down = jnp.asarray(resize_matrix(video.shape[2], image[0], cubic=True), jnp.float32)
    across = jnp.asarray(resize_matrix(video.shape[3], image[1], cubic=True), jnp.float32)
    frames = jnp.einsum("gh,bthwc->btgwc", down, frames.astype(jnp.float32))
    return jnp.einsum("xw,btgwc->btgxc", across, frames)
