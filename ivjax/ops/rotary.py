"""Rotary positions: their frequencies, with the scalings that language models use for long texts."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def plain_frequencies(width: int, base: float) -> np.ndarray:
    """Returns the angles per position (width / 2,) of heads of `width` channels."""
    return base ** (-np.arange(0, width, 2) / width)


def dynamic_frequencies(width: int, base: float, factor: float, trained: int, length: jax.Array) -> jax.Array:
    """Returns the angles of dynamic NTK: (width / 2,) float32.

    Beyond `trained` tokens the base grows with the `length` of the text, so that slow channels turn no
    further than they did in training.
    """
    ratio = jnp.maximum(factor * length / trained - (factor - 1), 1.0)
    # In logarithms, because the base itself leaves the range of float32 for long texts.
    log_base = math.log(base) + jnp.log(ratio) * (width / (width - 2))
    return jnp.exp(-log_base * jnp.arange(0, width, 2) / width)


def yarn_frequencies(
    width: int, base: float, factor: float, trained: int, fast: float = 32.0, slow: float = 1.0
) -> np.ndarray:
    """Returns the angles of YaRN: (width / 2,).

    Channels that turn more than `fast` times in `trained` tokens stay as they are, those below `slow` turns
    are slowed down by `factor`, and a ramp lies between.
    """

    def channel(turns: float) -> float:
        return width * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    # The upper bound is the whole width, not its half, as in the original.
    low, high = max(math.floor(channel(fast)), 0), min(math.ceil(channel(slow)), width - 1)
    ramp = np.clip((np.arange(width // 2) - low) / max(high - low, 1e-3), 0, 1)
    kept = plain_frequencies(width, base)
    return kept * (1 - ramp) + kept / factor * ramp


def yarn_magnitude(factor: float) -> float:
    """Returns the factor of sines and cosines under YaRN; the paper fitted its logarithm."""
    return 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0


def long_rope_magnitude(limit: int, trained: int) -> float:
    """Returns the factor of sines and cosines under LongRoPE, for a model that reads `limit` tokens."""
    return math.sqrt(1 + math.log(limit / trained) / math.log(trained)) if limit > trained else 1.0


def rotate(x: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """Turns heads by their angles: x (B, L, H, D), cosine and sine (B, L, D / 2) float32 -> as x.

    A channel pairs with the one half the width further on.
    """
    # In float32: bfloat16 would lose the low bits of large angles' sines.
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cosine, sine = cosine[:, :, None], sine[:, :, None]
    turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return turned.astype(x.dtype)
