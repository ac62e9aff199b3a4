"""The loss of features, and their normalisation; sums are in float32."""

import jax
import jax.numpy as jnp


def l2_normalise(x: jax.Array) -> jax.Array:
    """Divides by the L2 norm of the last axis, in float32, without an epsilon as the originals do."""
    wide = x.astype(jnp.float32)
    return wide * jax.lax.rsqrt(jnp.sum(jnp.square(wide), axis=-1, keepdims=True))


def alignment_loss(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Mean of 2 - 2 <student, teacher> over all leading axes; |s - t|^2 when both are unit vectors."""
    # The same formula for features that are not normalised, when it is no squared
    # distance: so do the originals.
    product = jnp.sum(student.astype(jnp.float32) * teacher.astype(jnp.float32), axis=-1)
    return jnp.mean(2.0 - 2.0 * product)
