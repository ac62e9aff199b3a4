"""Pixel shuffle: squares of neighbouring tokens become one token with all of their channels."""

from typing import Literal

import jax
from einops import rearrange

ShuffleVersion = Literal["v1", "v2"]  # InternVL's first version swaps rows and columns


def pixel_shuffle(x: jax.Array, side: int = 2, version: ShuffleVersion = "v2") -> jax.Array:
    """Joins squares of side x side tokens: (n, H, W, C) -> (n, H / side, W / side, side * side * C).

    Inside a token rows of the square go first, then columns, then channels. `v1` is InternVL's first version,
    whose output has rows and columns swapped, and so the shape (n, W / side, H / side, side * side * C).
    """
    order = "n i j" if version == "v2" else "n j i"
    return rearrange(x, f"n (i di) (j dj) c -> {order} (di dj c)", di=side, dj=side)
