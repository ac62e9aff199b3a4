"""Denoising diffusion of vectors: the cosine schedule, noisy targets, and the loss of noise and variance.

Predictions are of the noise, and of where the logarithm of the variance lies between its two bounds.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

STEPS = 1000  # of the process


class Process(NamedTuple):
    """Tables (STEPS,) float32 of a diffusion process."""

    signal: np.ndarray  # the share of the target in a noisy vector
    noise: np.ndarray  # the share of the noise
    log_beta: np.ndarray  # the largest logarithm of the variance
    log_posterior: np.ndarray  # the least
    from_target: np.ndarray  # the posterior mean's factor of the target
    from_noisy: np.ndarray  # and of the noisy vector


def cosine_betas() -> np.ndarray:
    """Variances (STEPS,) float64 that a step adds, by the cosine schedule."""

    def kept(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    return np.array([min(1 - kept((i + 1) / STEPS) / kept(i / STEPS), 0.999) for i in range(STEPS)])


def cosine_process() -> Process:
    """Returns the process of the cosine schedule."""
    betas = cosine_betas()
    # In float64 until the end: the product of a thousand factors ends near 1e-9.
    kept = np.cumprod(1 - betas)
    before = np.append(1.0, kept[:-1])
    posterior = betas * (1 - before) / (1 - kept)
    # The first step's posterior has no variance, whose logarithm would be infinite.
    posterior[0] = posterior[1]
    tables = (
        np.sqrt(kept),
        np.sqrt(1 - kept),
        np.log(betas),
        np.log(posterior),
        betas * np.sqrt(before) / (1 - kept),
        (1 - before) * np.sqrt(1 - betas) / (1 - kept),
    )
    return Process(*(table.astype(np.float32) for table in tables))


_PROCESS = cosine_process()


def noisy(target: jax.Array, noise: jax.Array, times: jax.Array) -> jax.Array:
    """Targets and noise (..., D) at timesteps (...) -> noisy vectors (..., D)."""
    return _at(_PROCESS.signal, times) * target + _at(_PROCESS.noise, times) * noise


def denoising_terms(
    target: jax.Array, noise: jax.Array, times: jax.Array, predicted: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the mean squared error of the noise, and the variational bound in bits, each (...).

    target, noise (..., D), times (...), predicted (..., 2 D): the noise, then the place of the variance.
    """
    guess, place = jnp.split(predicted.astype(jnp.float32), 2, axis=-1)
    error = jnp.mean(jnp.square(noise - guess), axis=-1)
    least, most = _at(_PROCESS.log_posterior, times), _at(_PROCESS.log_beta, times)
    share = (place + 1) / 2
    log_variance = share * most + (1 - share) * least
    # The bound teaches the variance alone.
    mean_error = _mean_error(target, noise, times, jax.lax.stop_gradient(guess))
    divergence = 0.5 * (
        -1.0
        + log_variance
        - least
        + jnp.exp(least - log_variance)
        + jnp.square(mean_error) * jnp.exp(-log_variance)
    )
    mean = _posterior_mean(target, noise, times) + mean_error
    likelihood = _discretised_likelihood(target, mean, 0.5 * log_variance)
    # The last step of a sample, which is the first one here, has no posterior to be compared with.
    bits = jnp.where(times == 0, -jnp.mean(likelihood, -1), jnp.mean(divergence, -1)) / math.log(2.0)
    return error, bits


def _posterior_mean(target: jax.Array, noise: jax.Array, times: jax.Array) -> jax.Array:
    return _at(_PROCESS.from_target, times) * target + _at(_PROCESS.from_noisy, times) * noisy(
        target, noise, times
    )


def _mean_error(target: jax.Array, noise: jax.Array, times: jax.Array, guess: jax.Array) -> jax.Array:
    """The model's posterior mean less the true one: only the guess of the target differs in them."""
    # Guessed target less target, both from the same noisy vector. Written so, no large numbers cancel.
    off = _at(_PROCESS.noise / _PROCESS.signal, times) * (noise - guess)
    return _at(_PROCESS.from_target, times) * off


def _discretised_likelihood(target: jax.Array, mean: jax.Array, log_scale: jax.Array) -> jax.Array:
    """Log-probability of the bin of width 2/255 around each target under a Gaussian (all (..., D))."""
    centred, inverse = target - mean, jnp.exp(-log_scale)
    upper = _normal_cdf(inverse * (centred + 1 / 255))
    lower = _normal_cdf(inverse * (centred - 1 / 255))
    # The bins at the ends of [-1, 1] are open; as in the originals also for pixels beyond these ends.
    inner = jnp.where(target > 0.999, _log(1 - lower), _log(upper - lower))
    return jnp.where(target < -0.999, _log(upper), inner)


def _log(x: jax.Array) -> jax.Array:
    return jnp.log(jnp.maximum(x, 1e-12))


def _normal_cdf(x: jax.Array) -> jax.Array:
    """The usual approximation by tanh, which the originals take."""
    return 0.5 * (1 + _tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@jax.custom_jvp
def _tanh(x: jax.Array) -> jax.Array:
    """tanh as torch has it in float32, gradient included: the loss takes differences of values near 1."""
    # XLA's own is off by several units in its last place.
    return jnp.sign(x) * (1 - 2 * jax.nn.sigmoid(-2 * jnp.abs(x)))


@_tanh.defjvp
def _tanh_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    found = _tanh(*primals)
    return found, (1 - found * found) * tangents[0]


def _at(table: np.ndarray, times: jax.Array) -> jax.Array:
    return jnp.asarray(table)[times][..., None]
