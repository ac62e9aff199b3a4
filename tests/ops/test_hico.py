"""Merging of tokens: the goldens of the original, and properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.ops.hico import merge_report, merge_schedule, merge_tokens, segment_sum, unmerge
from tests.goldens import Golden

FLOATS = {"rtol": 1e-5, "atol": 1e-6}
merged_of = jax.jit(merge_tokens, static_argnums=(1, 2))


@pytest.mark.golden
def test_s3_tome_merge_decides_and_averages_as_the_original():
    golden = Golden("s3_tome_merge")
    for name, case in golden.config["cases"].items():
        x = golden[f"inputs/{name}/x"]
        assert x.shape == (case["batch"], case["num_tokens"], case["channels"])
        assert list(merge_schedule(case["num_tokens"], case["target"])) == case["r_list"]
        found = merged_of(x, case["target"], case["heads"])
        np.testing.assert_array_equal(found.assignment, golden[f"outputs/{name}/assignment"], err_msg=name)
        np.testing.assert_array_equal(found.sizes, golden[f"outputs/{name}/size"], err_msg=name)
        np.testing.assert_allclose(found.tokens, golden[f"outputs/{name}/merged"], **FLOATS, err_msg=name)
        for step, merges in enumerate(case["r_list"]):
            best = np.sort(golden[f"outputs/{name}/step{step}/node_max"], axis=-1)[:, ::-1]
            np.testing.assert_allclose(found.similarity[step], best[:, :merges], **FLOATS)


@pytest.mark.golden
def test_s3_tome_merge_agrees_after_every_step():
    golden = Golden("s3_tome_merge")
    for name, case in golden.config["cases"].items():
        x, left = golden[f"inputs/{name}/x"], case["num_tokens"]
        for step, merges in enumerate(case["r_list"]):
            left -= merges
            found = merged_of(x, left, case["heads"])
            np.testing.assert_array_equal(found.sizes, golden[f"outputs/{name}/step{step}/size"])
            if step == 0:
                np.testing.assert_allclose(found.tokens, golden[f"outputs/{name}/step0/x"], **FLOATS)
                assert_first_step(golden, name, found.assignment, merges)


def assert_first_step(golden, name, assignment, merges):
    """The even tokens go where the original's ranking and choice send them, the odd ones behind them."""
    order, choice = golden[f"outputs/{name}/step0/edge_idx"], golden[f"outputs/{name}/step0/node_idx"]
    rank, left = np.argsort(order, axis=-1), order.shape[1] - merges
    np.testing.assert_array_equal(assignment[:, ::2], np.where(rank < merges, left + choice, rank - merges))
    odd = assignment[:, 1::2]
    np.testing.assert_array_equal(odd, np.broadcast_to(left + np.arange(odd.shape[1]), odd.shape))


@pytest.mark.golden
def test_s3_tome_merge_has_the_gradient_of_the_means():
    golden = Golden("s3_tome_merge")
    for name, wanted in golden.group("losses").items():
        case, weight = golden.config["cases"][name], golden[f"inputs/{name}/loss_weight"]

        def loss(x, case=case, weight=weight):
            return jnp.sum(merge_tokens(x, case["target"], case["heads"]).tokens * weight)

        value, gradient = jax.jit(jax.value_and_grad(loss))(golden[f"inputs/{name}/x"])
        np.testing.assert_allclose(value, wanted, rtol=1e-5)
        np.testing.assert_allclose(gradient, golden[f"grads/{name}/x"], **FLOATS)


def step_by_step(x, target, heads):
    """One clip (N, C) merged as the original does it, with all its tokens at every step."""
    sizes, groups = np.ones(len(x)), [[i] for i in range(len(x))]
    for merges in merge_schedule(len(x), target):
        metric = x.reshape(len(x), heads, -1).mean(1)
        unit = metric / np.linalg.norm(metric, axis=-1, keepdims=True)
        scores = unit[::2] @ unit[1::2].T
        order = np.argsort(-scores.max(1), kind="stable")
        totals, choice = x * sizes[:, None], scores.argmax(1)
        for even in order[:merges]:
            odd = 2 * choice[even] + 1
            totals[odd] += totals[2 * even]
            sizes[odd] += sizes[2 * even]
            groups[odd] = groups[odd] + groups[2 * even]
        left = [*(2 * order[merges:]), *range(1, len(x), 2)]
        x, sizes, groups = (totals / sizes[:, None])[left], sizes[left], [groups[i] for i in left]
    return x, sizes, groups


@pytest.mark.parametrize(("tokens", "target", "heads"), [(9, 9, 1), (9, 1, 2), (31, 6, 4), (40, 20, 1)])
def test_equals_a_merge_step_by_step(tokens, target, heads):
    x = np.random.default_rng(tokens).normal(size=(3, tokens, 8)).astype("f")
    found = merged_of(x, target, heads)
    for clip, row in enumerate(x):
        merged, sizes, groups = step_by_step(row.astype("d"), target, heads)
        np.testing.assert_allclose(found.tokens[clip], merged, **FLOATS)
        np.testing.assert_array_equal(found.sizes[clip], sizes)
        for place, group in enumerate(groups):
            np.testing.assert_array_equal(np.flatnonzero(found.assignment[clip] == place), sorted(group))


def test_ties_go_to_the_earlier_token():
    # Six equal tokens: each even one picks the first odd one, and the first even ones are merged.
    found = merged_of(np.ones((1, 6, 4), "f"), 4, 2)
    np.testing.assert_array_equal(found.assignment, [[1, 1, 1, 2, 0, 3]])
    np.testing.assert_array_equal(found.sizes, [[1, 3, 1, 1]])


def test_sizes_and_means_account_for_every_token():
    x = np.random.default_rng(0).normal(size=(2, 50, 12)).astype("f")
    found = merged_of(x, 7, 3)
    np.testing.assert_array_equal(found.sizes.sum(1), [50, 50])
    np.testing.assert_allclose((found.tokens * found.sizes[..., None]).sum(1), x.sum(1), rtol=1e-4, atol=1e-5)
    back = unmerge(found.tokens, found.assignment)
    for clip in range(2):
        np.testing.assert_array_equal(back[clip], found.tokens[clip][found.assignment[clip]])


def test_bfloat16_tokens_are_averaged_in_float32():
    x = jax.random.normal(jax.random.key(0), (1, 64, 16), jnp.bfloat16)
    found = merged_of(x, 8, 2)
    assert found.tokens.dtype == jnp.bfloat16
    wide = merged_of(x.astype(jnp.float32), 8, 2)
    np.testing.assert_array_equal(found.assignment, wide.assignment)
    np.testing.assert_array_equal(found.tokens, wide.tokens.astype(jnp.bfloat16))


def test_sums_of_all_forms_are_equal_with_equal_gradients(monkeypatch):
    x = jax.random.normal(jax.random.key(0), (2, 20, 5))
    places = jax.random.randint(jax.random.key(1), (2, 20), 0, 6)
    weight = jax.random.normal(jax.random.key(2), (2, 6, 5))

    def run():
        return jax.value_and_grad(lambda x: jnp.sum(segment_sum(x, places, 6) * weight))(x)

    looped = run()
    monkeypatch.setattr("ivjax.ops.hico.platform", lambda: "tpu")
    for mine, other in zip(looped, run(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(looped[1], jnp.take_along_axis(weight, places[..., None], axis=1))


def test_a_mesh_merges_its_clips_without_communication():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jax.random.normal(jax.random.key(0), (8, 32, 16))
    spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    with jax.set_mesh(mesh):
        step = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(merge_tokens(x, 8, 2).tokens))))
        compiled = step.lower(spread).compile()
        value, gradient = compiled(spread)
    assert not any(word in compiled.as_text() for word in ("all-gather", "all-to-all", "collective-permute"))
    alone = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(merge_tokens(x, 8, 2).tokens))))(x)
    np.testing.assert_allclose(value, alone[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, alone[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("clip", "across"), [("abba", 1), ("aabb", 0)])
def test_the_report_tells_whether_merges_cross_frames(clip, across):
    # Two frames of two tokens; equal letters are equal tokens, and each pair of them is merged.
    tokens = np.stack([np.eye(2, dtype="f")["ab".index(letter)] for letter in clip])[None]
    report = merge_report(merged_of(tokens, 2, 1), frames=2)
    np.testing.assert_allclose(
        [report["similarity"], report["largest"], report["across_frames"]], [1, 2, across]
    )


@pytest.mark.parametrize("target", [0, 17])
def test_an_impossible_target_is_refused(target):
    with pytest.raises(ValueError, match="16 tokens cannot be merged"):
        merge_tokens(jnp.ones((1, 16, 4)), target, 1)
