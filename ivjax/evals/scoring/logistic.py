"""Multinomial logistic regression: one optimum, found from zero, the same every time."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of L2, from which a held-out fifth chooses
_FOLDS = 5  # one of them is held out
_MOST_STEPS = 1000  # a few hundred are usual
_FLAT = 5e-6  # largest gradient entry at a solution; rounding in float32 hides smaller ones
_MEMORY = 20  # past steps that L-BFGS keeps

Pair = tuple[jax.Array, jax.Array]


class Regression(NamedTuple):
    """A fitted classifier: logits are x @ kernel + bias.

    Attributes:
        kernel: (D, classes).
        bias: (classes,).
        slope: () the largest entry of the gradient where the fit ended; 0 at the optimum.
    """

    kernel: jax.Array
    bias: jax.Array
    slope: jax.Array

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Returns (n, classes) for features (n, D)."""
        return np.asarray(_logits((self.kernel, self.bias), jnp.asarray(x)))


# Rows are left out by a weight of zero, so that all fits have one shape and compile once.
@functools.partial(jax.jit, static_argnames="classes")
def fit(x: jax.Array, labels: jax.Array, weights: jax.Array, l2: float, classes: int) -> Regression:
    """Returns the optimum for features x (n, D) float32, labels (n,) and weights (n,) of the rows.

    It minimises the weighted mean cross-entropy + l2 / 2 * the squares of all parameters. The biases are
    among these, so that there is exactly one optimum, also where a class never occurs.
    """
    share = weights.astype(jnp.float32) / weights.sum()

    def loss(params: Pair) -> jax.Array:
        entropies = optax.softmax_cross_entropy_with_integer_labels(_logits(params, x), labels)
        return jnp.vdot(share, entropies) + 0.5 * l2 * sum(jnp.vdot(leaf, leaf) for leaf in params)

    # From zero and not from noise: with one optimum the start only decides the path, and so the last digits.
    params = jnp.zeros((x.shape[1], classes)), jnp.zeros(classes)
    return Regression(*_descend(loss, params))


def held_out(ids: Sequence[str]) -> np.ndarray:
    """Returns the fifth of the rows that a fit does not see, by digests of their ids: (n,) bool."""
    # By digest and not by place, so that the order of the clips does not matter.
    digests = [hashlib.sha256(name.encode()).digest() for name in ids]
    order = sorted(range(len(ids)), key=lambda number: digests[number])
    found = np.zeros(len(ids), bool)
    found[order[: max(len(ids) // _FOLDS, 1)]] = True
    return found


def standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both (n, D), standardised by mean and deviation of `train`; a constant feature becomes 0."""
    # float64: summing many float32 features of a large mean loses what their deviation is made of.
    mean, deviation = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    # What varies less than this is rounding, and would be blown up.
    deviation[deviation <= 1e-6 * np.abs(mean)] = np.inf
    first, second = (((side - mean) / deviation).astype(np.float32) for side in (train, test))
    return first, second


def choose_l2(x: np.ndarray, labels: np.ndarray, held: np.ndarray, classes: int) -> float:
    """Returns the L2 strength whose fit without the `held` (n,) rows makes the fewest errors on them.

    Ties go to the lower held-out cross-entropy.
    """

    def errors(l2: float) -> tuple[int, float]:
        logits = fit(x, labels, ~held, l2, classes).logits(x[held]).astype(np.float64)
        rows = np.arange(len(logits)), labels[held]
        surprise = np.logaddexp.reduce(logits, axis=-1) - logits[rows]
        return int((logits.argmax(-1) != labels[held]).sum()), float(surprise.mean())

    # Few held-out clips often tie in errors; the cross-entropy tells the fits apart.
    return min(STRENGTHS, key=errors)


def _descend(loss: Callable[[Pair], jax.Array], start: Pair) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Runs L-BFGS until the gradient is flat; returns both parameters and its largest entry."""
    optimizer = optax.lbfgs(memory_size=_MEMORY)
    evaluate = optax.value_and_grad_from_state(loss)

    def unfinished(carry: tuple[Any, ...]) -> jax.Array:
        step, _, _, slope = carry
        return (step < _MOST_STEPS) & (slope > _FLAT)

    def descend(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        step, params, state, _ = carry
        value, grads = evaluate(params, state=state)
        updates, state = optimizer.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        # The line search has evaluated the gradient at the new parameters; it need not be computed again.
        slopes = optax.tree_utils.tree_get(state, "grad")
        slope = jnp.max(jnp.array([jnp.abs(leaf).max() for leaf in slopes]))
        return step + 1, optax.apply_updates(params, updates), state, slope

    carry = jnp.int32(0), start, optimizer.init(start), jnp.float32(jnp.inf)
    _, params, _, slope = jax.lax.while_loop(unfinished, descend, carry)
    return *params, slope


def _logits(params: Pair, x: jax.Array) -> jax.Array:
    # The default precision of TPUs is bfloat16, in which L-BFGS finds no flat gradient.
    return jnp.dot(x, params[0], precision="highest") + params[1]
