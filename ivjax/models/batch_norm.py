"""Batch norm: by the statistics of the batch in training, which a step moves the running ones towards."""

import flax.linen as nn
import jax
import jax.numpy as jnp

STATISTICS = "statistics"  # the collection of what training has to keep of its batches


class BatchNorm(nn.Module):
    """Batch norm of tokens (B, n, C) over clips and tokens, in float32.

    In training it normalises by the batch, over all devices, and sows the batch's mean and unbiased
    variance under its own name; else by the running ones, which are parameters that only the step changes.
    """

    affine: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        x, shape = x.astype(jnp.float32), x.shape[-1:]
        mean = self.param("mean", nn.initializers.zeros, shape)
        variance = self.param("variance", nn.initializers.ones, shape)
        if training:
            count = x.shape[0] * x.shape[1]
            # Over the whole batch, since under jit a mean is one over all devices; torch's plain
            # batch norm sees one process.
            mean, variance = x.mean((0, 1)), x.var((0, 1))
            self._keep("mean", mean)
            # torch normalises by the biased variance, but keeps the unbiased one.
            self._keep("variance", variance * count / max(count - 1, 1))
        # The originals' two kinds of batch norm have different epsilons.
        x = (x - mean) * jax.lax.rsqrt(variance + (1e-5 if self.affine else 1e-6))
        if not self.affine:
            return x
        scale = self.param("scale", nn.initializers.ones, shape)
        return x * scale + self.param("bias", nn.initializers.zeros, shape)

    def _keep(self, name: str, value: jax.Array) -> None:
        # The latest value replaces the one before: Flax would otherwise collect a tuple.
        self.sow(STATISTICS, name, jax.lax.stop_gradient(value), lambda _, new: new, lambda: 0)
