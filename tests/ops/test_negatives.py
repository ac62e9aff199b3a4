"""Hard negatives: drawn by cosine among rows of other ids, the same on any mesh, and fetched round a ring."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from ivjax.ops.negatives import draw_negatives, drawn, negative_weights, take_rows
from ivjax.ops.randomness import sample_keys
from tests.goldens import Golden, close

ROWS = 16


@pytest.fixture(scope="module")
def embedded():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, ROWS, 6)).astype(np.float32)
    return left, right, rng.integers(0, 9, ROWS).astype(np.int32)


def draw(left, right, ids, group=None):
    keys = sample_keys(jax.random.key(1), jnp.arange(ROWS), "negatives")
    return draw_negatives(left, right, ids, jnp.float32(3.0), keys, group)


@pytest.mark.golden
def test_retrieval_metrics_weights_of_negatives_are_the_originals():
    golden = Golden("retrieval_metrics")
    found = jnp.exp(negative_weights(golden["inputs/hn_sim"], golden["inputs/hn_idx"]))
    close(found, golden["outputs/hn_weights"])


def test_a_negative_is_never_of_the_same_id_and_is_drawn_in_proportion_to_its_weight(embedded):
    left, right, ids = embedded
    found = jax.jit(draw)(left, right, ids)
    assert (ids[found.right] != ids).all() and (ids[found.left] != ids).all() and (found.found == 1).all()
    weights = jnp.log(jnp.array([[[0.5, 0.0, 0.3, 0.2]] * 4]))
    keys = sample_keys(jax.random.key(0), jnp.arange(4 * 1000), "negatives").reshape(1000, 4)
    chosen = jax.jit(jax.vmap(lambda keys: drawn(weights, keys[None], "left")))(keys)
    shares = np.bincount(np.asarray(chosen).reshape(-1), minlength=4) / 4000
    np.testing.assert_allclose(shares, [0.5, 0.0, 0.3, 0.2], atol=0.03)


def test_rows_of_one_id_have_no_negative(embedded):
    left, right, ids = embedded
    assert (draw(left, right, np.zeros_like(ids)).found == 0).all()


def test_a_group_draws_as_if_it_were_alone(embedded):
    left, right, ids = embedded
    whole = draw(left, right, ids, group=4)
    keys = sample_keys(jax.random.key(1), jnp.arange(ROWS), "negatives")
    for first in range(0, ROWS, 4):
        part = slice(first, first + 4)
        alone = draw_negatives(left[part], right[part], ids[part], jnp.float32(3.0), keys[part])
        np.testing.assert_array_equal(whole.right[part], alone.right + first)
        np.testing.assert_array_equal(whole.left[part], alone.left + first)
    np.testing.assert_array_equal(take_rows(left, whole.right, group=4), left[whole.right])


def test_easy_rows_draw_among_all_others_alike_and_the_rest_what_looks_most_alike():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, ROWS, 6)).astype(np.float32)
    ids, steps = np.arange(ROWS, dtype=np.int32), 400
    keys = sample_keys(jax.random.key(1), jnp.arange(steps * ROWS), "negatives").reshape(steps, ROWS)

    def draws(easy):
        # At so large a scale a row by cosine is always the most alike.
        draw = functools.partial(draw_negatives, left, right, ids, jnp.float32(1e4), easy=easy)
        return jax.jit(jax.vmap(draw))(keys)

    hard, some, any_other = (draws(easy) for easy in (0.0, 0.25, 1.0))
    for side in ("right", "left"):
        most = getattr(hard, side)
        assert (most == most[0]).all()
        other = 1 - np.mean(getattr(some, side) == most)
        np.testing.assert_allclose(other, 0.25 * (ROWS - 2) / (ROWS - 1), atol=0.03)
        counts = np.bincount(np.asarray(getattr(any_other, side)).reshape(-1), minlength=ROWS)
        np.testing.assert_allclose(counts / (steps * ROWS), 1 / ROWS, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [{"data": 4, "fsdp": 2}])
def test_rows_are_drawn_and_fetched_alike_on_a_mesh_with_their_gradient(embedded, shape):
    left, right, ids = embedded

    def loss(right, group):
        found = draw(left, right, ids, group)
        return jnp.sum(jnp.sin(take_rows({"x": right}, found.right, group)["x"] * left))

    for group in (None, 4):
        wanted = jax.value_and_grad(functools.partial(loss, group=group))(right)
        names = tuple(shape)
        mesh = jax.make_mesh(tuple(shape.values()), names, axis_types=(AxisType.Auto,) * len(names))
        with jax.set_mesh(mesh):
            rows = jax.NamedSharding(mesh, jax.P(names))
            found = jax.jit(jax.value_and_grad(functools.partial(loss, group=group)))(
                jax.device_put(right, rows)
            )
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, wanted)
