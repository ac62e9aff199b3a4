"""Multinomial logistic regression: one optimum, found from zero, the same every time."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of L2, from which held-out rows choose
_PARTS = 5  # one of them is held out
_STEPS = 1000  # at most; a few hundred are usual
_FLAT = 5e-6  # the largest slope of a solution; float32 hardly sees less
_MEMORY = 20  # past steps that say how the slope changes

Pair = tuple[jax.Array, jax.Array]


class Regression(NamedTuple):
    """Logits are x @ kernel + bias; `slope` is the largest that is left, 0 at the optimum."""

    kernel: jax.Array  # (D, classes)
    bias: jax.Array  # (classes,)
    slope: jax.Array  # ()

    def logits(self, x: np.ndarray) -> np.ndarray:
        """(n, D) -> (n, classes)."""
        return np.asarray(_logits((self.kernel, self.bias), jnp.asarray(x)))


@functools.partial(jax.jit, static_argnames="classes")
def fit(x: jax.Array, labels: jax.Array, weights: jax.Array, l2: float, classes: int) -> Regression:
    """The optimum for features x (n, D) float32 and labels (n,), of which each counts `weights` (n,).

    What is least there is the weighted mean cross-entropy + l2 / 2 * the squares of all parameters. The
    biases are among these, so that the optimum is one alone, and exists where a class never occurs.
    """
    share = weights.astype(jnp.float32) / weights.sum()

    def loss(params: Pair) -> jax.Array:
        entropies = optax.softmax_cross_entropy_with_integer_labels(_logits(params, x), labels)
        return jnp.vdot(share, entropies) + 0.5 * l2 * sum(jnp.vdot(leaf, leaf) for leaf in params)

    params = jnp.zeros((x.shape[1], classes)), jnp.zeros(classes)
    return Regression(*_descend(loss, params))


def held_out(ids: Sequence[str]) -> np.ndarray:
    """Which fifth of the rows a fit does not see, by digests of their ids: (n,) bool."""
    digests = [hashlib.sha256(name.encode()).digest() for name in ids]
    order = sorted(range(len(ids)), key=lambda number: digests[number])
    found = np.zeros(len(ids), bool)
    found[order[: max(len(ids) // _PARTS, 1)]] = True
    return found


def standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both (n, D) less the mean and over the deviation of the first; a constant feature becomes 0 there."""
    mean, deviation = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    deviation[deviation <= 1e-6 * np.abs(mean)] = np.inf  # nothing but rounding
    first, second = (((side - mean) / deviation).astype(np.float32) for side in (train, test))
    return first, second


def choose_l2(x: np.ndarray, labels: np.ndarray, held: np.ndarray, classes: int) -> float:
    """The strength whose fit without the `held` (n,) rows errs least on them; of equals the surest."""

    def errors(l2: float) -> tuple[int, float]:
        logits = fit(x, labels, ~held, l2, classes).logits(x[held]).astype(np.float64)
        rows = np.arange(len(logits)), labels[held]
        surprise = np.logaddexp.reduce(logits, axis=-1) - logits[rows]
        return int((logits.argmax(-1) != labels[held]).sum()), float(surprise.mean())

    return min(STRENGTHS, key=errors)


def _descend(loss: Callable[[Pair], jax.Array], start: Pair) -> tuple[jax.Array, jax.Array, jax.Array]:
    """L-BFGS until nothing slopes any more: both parameters, and the largest slope."""
    optimizer = optax.lbfgs(memory_size=_MEMORY)
    evaluate = optax.value_and_grad_from_state(loss)

    def unfinished(carry: tuple[Any, ...]) -> jax.Array:
        step, _, _, slope = carry
        return (step < _STEPS) & (slope > _FLAT)

    def descend(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        step, params, state, _ = carry
        value, grads = evaluate(params, state=state)
        updates, state = optimizer.update(grads, state, params, value=value, grad=grads, value_fn=loss)
        slopes = optax.tree_utils.tree_get(state, "grad")
        slope = jnp.max(jnp.array([jnp.abs(leaf).max() for leaf in slopes]))
        return step + 1, optax.apply_updates(params, updates), state, slope

    carry = jnp.int32(0), start, optimizer.init(start), jnp.float32(jnp.inf)
    _, params, _, slope = jax.lax.while_loop(unfinished, descend, carry)
    return *params, slope


def _logits(params: Pair, x: jax.Array) -> jax.Array:
    return jnp.dot(x, params[0], precision="highest") + params[1]
