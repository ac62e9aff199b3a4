"""Merging of tokens: the goldens of the original, and properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.bench import hico_forms
from ivjax.ops import hico
from ivjax.ops.hico import (
    Merged,
    head_means,
    merge_report,
    merge_schedule,
    segment_sum,
    unmerge,
)
from tests.goldens import Golden

FLOATS = {"rtol": 1e-5, "atol": 1e-6}
merged_of = jax.jit(hico.merge, static_argnums=(1, 2))


def merges_of(golden, name, case):
    """What is merged of a case of the fixture after each step, compiled as one program."""
    left = np.subtract(case["num_tokens"], np.cumsum(case["r_list"], dtype=int)).tolist()
    steps = jax.jit(lambda x: [hico.merge(x, target, case["heads"]) for target in left])
    return steps(golden[f"inputs/{name}/x"])


@pytest.mark.golden
def test_s3_tome_merge_decides_and_averages_as_the_original():
    golden = Golden("s3_tome_merge")
    for name, case in golden.config["cases"].items():
        assert golden[f"inputs/{name}/x"].shape == (case["batch"], case["num_tokens"], case["channels"])
        assert list(merge_schedule(case["num_tokens"], case["target"])) == case["r_list"]
        found = merged_of(golden[f"inputs/{name}/x"], case["target"], case["heads"])
        np.testing.assert_array_equal(found.assignment, golden[f"outputs/{name}/assignment"], err_msg=name)
        np.testing.assert_array_equal(found.sizes, golden[f"outputs/{name}/size"], err_msg=name)
        np.testing.assert_allclose(found.tokens, golden[f"outputs/{name}/merged"], **FLOATS, err_msg=name)
        for step, count in enumerate(case["r_list"]):
            best = np.sort(golden[f"outputs/{name}/step{step}/node_max"], axis=-1)[:, ::-1]
            np.testing.assert_allclose(found.similarity[step], best[:, :count], **FLOATS)


@pytest.mark.slow
@pytest.mark.golden
def test_s3_tome_merge_agrees_after_every_step():
    golden = Golden("s3_tome_merge")
    for name, case in golden.config["cases"].items():
        merges = merges_of(golden, name, case)
        count = case["num_tokens"]
        assignment = np.tile(np.arange(count), (case["batch"], 1))
        for step, (found, merged) in enumerate(zip(merges, case["r_list"], strict=True)):
            np.testing.assert_array_equal(found.sizes, golden[f"outputs/{name}/step{step}/size"])
            places = places_after(golden, f"outputs/{name}/step{step}", count, merged)
            assignment, count = np.take_along_axis(places, assignment, axis=1), count - merged
            np.testing.assert_array_equal(found.assignment, assignment, err_msg=f"{name}, step {step}")
        first = golden[f"outputs/{name}/step0/x"]
        np.testing.assert_allclose(merges[0].tokens, first, **FLOATS)


def places_after(golden, step, count, merged):
    """Where the original's ranking and choice send each of `count` tokens: even ones, and odd ones behind."""
    order, choice = golden[f"{step}/edge_idx"], golden[f"{step}/node_idx"]
    rank, left = np.argsort(order, axis=-1), order.shape[1] - merged
    places = np.empty((len(order), count), int)
    places[:, ::2] = np.where(rank < merged, left + choice, rank - merged)
    places[:, 1::2] = left + np.arange(count // 2)
    return places


@pytest.mark.golden
def test_s3_tome_merge_has_the_gradient_of_the_means():
    golden = Golden("s3_tome_merge")
    for name, wanted in golden.group("losses").items():
        case, weight = golden.config["cases"][name], golden[f"inputs/{name}/loss_weight"]

        def loss(x, case=case, weight=weight):
            return jnp.sum(hico.merge(x, case["target"], case["heads"]).tokens * weight)

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


def test_tokens_and_sizes_are_those_of_the_assignment():
    x = np.random.default_rng(0).normal(size=(2, 50, 12)).astype("f")
    found = merged_of(x, 7, 3)
    back = np.asarray(unmerge(found.tokens, found.assignment))
    tokens, sizes, assignment = map(np.asarray, found[:3])
    for clip, places in enumerate(assignment):
        np.testing.assert_array_equal(sizes[clip], np.bincount(places, minlength=7))
        for place in range(7):
            wanted = x[clip, places == place].mean(0)
            np.testing.assert_allclose(tokens[clip, place], wanted, **FLOATS)
        # Every token of a group gets the group's mean back.
        np.testing.assert_array_equal(back[clip], tokens[clip][places])


def test_gradient_is_that_of_a_merge_step_by_step():
    x = jax.random.normal(jax.random.key(3), (2, 31, 8))

    def loss(form):
        return lambda x: jnp.sum(jnp.sin(form(x, 6, 4)))

    mine = jax.jit(jax.grad(loss(lambda *args: hico.merge(*args).tokens)))(x)
    np.testing.assert_allclose(mine, jax.jit(jax.grad(loss(hico_forms.step_by_step)))(x), **FLOATS)


def test_bfloat16_tokens_are_averaged_in_float32():
    x = jax.random.normal(jax.random.key(0), (1, 64, 16), jnp.bfloat16)
    found = merged_of(x, 8, 2)
    assert found.tokens.dtype == jnp.bfloat16
    wide = merged_of(x.astype(jnp.float32), 8, 2)
    np.testing.assert_array_equal(found.assignment, wide.assignment)
    np.testing.assert_array_equal(found.tokens, wide.tokens.astype(jnp.bfloat16))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_forms_of_all_platforms_agree_with_their_gradients(dtype, monkeypatch):
    rng = np.random.default_rng(0)
    x, wide = rng.normal(size=(2, 20, 6)), rng.normal(size=(2, 5, 6))
    x, wide = jnp.asarray(x, dtype), jnp.asarray(wide, dtype)
    places = jnp.asarray(rng.integers(0, 5, (2, 20)))

    def run():
        means = [head_means(x, 3), head_means(x, 3, jnp.float32)]
        sums, pull = jax.vjp(lambda x: segment_sum(x, places, 5), x)
        rows, back = jax.vjp(lambda tokens: unmerge(tokens, places), wide)
        return [*means, sums, *pull(wide.astype(jnp.float32)), rows, *back(x)]

    # By hand, in float32 of what was rounded.
    split = np.asarray(x, "f").reshape(2, 20, 3, 2).mean(2)
    added = np.zeros((2, 5, 6), "f")
    for clip, row in np.ndindex(2, 20):
        added[clip, places[clip, row]] += np.asarray(x[clip, row], "f")
    spread = np.take_along_axis(np.asarray(wide), np.asarray(places)[..., None], axis=1)
    wanted = [split, split, added, spread, spread, added]
    for platform in ("cpu", "gpu", "tpu"):
        monkeypatch.setattr("ivjax.ops.hico.platform", lambda platform=platform: platform)
        found = run()
        assert [each.dtype for each in found] == [dtype, "float32", "float32", dtype, dtype, dtype]
        for mine, hand in zip(found, wanted, strict=True):
            rounding = 1e-6 if mine.dtype == "float32" else 2**-8
            np.testing.assert_allclose(np.asarray(mine, "f"), np.asarray(hand, "f"), rounding, 1e-6)


COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-", "ragged-all")


@pytest.mark.parametrize("backward", [False, True])
def test_clips_on_eight_devices_are_merged_without_communication(backward):
    x = jax.random.normal(jax.random.key(0), (8, 32, 16))

    def forward(x):
        return hico.merge(x, 8, 2)

    def gradient(x):
        # No sum over clips, which would be a collective of the loss: each device starts from its own clips.
        merged, pull = jax.vjp(lambda x: hico.merge(x, 8, 2).tokens, x)
        return pull(jnp.cos(merged))[0]

    step = gradient if backward else forward
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    with jax.set_mesh(mesh):
        compiled = jax.jit(step).lower(spread).compile()
        found = compiled(spread)
    assert not [word for word in COLLECTIVES if word in compiled.as_text()]
    for mine, alone in zip(jax.tree.leaves(found), jax.tree.leaves(jax.jit(step)(x)), strict=True):
        assert len(mine.sharding.device_set) == 8 and mine.addressable_shards[0].data.shape[0] == 1
        np.testing.assert_allclose(mine, alone, **FLOATS)


@pytest.mark.parametrize(("clip", "across"), [("abba", 1), ("aabb", 0)])
def test_the_report_tells_whether_merges_cross_frames(clip, across):
    # Two frames of two tokens; equal letters are equal tokens, and each pair of them is merged.
    tokens = np.stack([np.eye(2, dtype="f")["ab".index(letter)] for letter in clip])[None]
    report = merge_report(merged_of(tokens, 2, 1), frames=2)
    np.testing.assert_allclose(
        [report["similarity"], report["largest"], report["across_frames"]], [1, 2, across]
    )


def test_the_report_counts_tokens_and_frames_of_outputs():
    # By hand, two frames of four tokens: output 0 holds four tokens of both frames, 1 holds two of the first.
    merged = Merged(
        jnp.zeros((1, 4, 2)),
        jnp.array([[4.0, 2, 1, 1]]),
        jnp.array([[0, 0, 1, 1, 0, 0, 2, 3]]),
        (jnp.array([[0.9, 0.7, 0.5]]), jnp.array([[0.1]])),
    )
    report = merge_report(merged, frames=2)
    np.testing.assert_allclose(report["similarity"], 0.55, rtol=1e-6)
    assert report["largest"] == 4 and report["across_frames"] == 0.5
    # 1, 2 to 3, 4 to 7 and 8 tokens.
    np.testing.assert_allclose(report["tokens_per_output"], [0.5, 0.25, 0.25, 0])
    with pytest.raises(ValueError, match="8 tokens are not those of 3 frames"):
        merge_report(merged, frames=3)


def test_a_report_of_nothing_merged_is_finite():
    report = merge_report(merged_of(np.eye(4, dtype="f")[None], 4, 1), frames=2)
    assert report["across_frames"] == 0 and report["largest"] == 1


@pytest.mark.parametrize("target", [0, 17])
def test_an_impossible_target_is_refused(target):
    with pytest.raises(ValueError, match="16 tokens cannot be merged"):
        hico.merge(jnp.ones((1, 16, 4)), target, 1)


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_that_do_not_divide_the_channels_are_refused(heads):
    with pytest.raises(ValueError, match=f"tokens of 4 channels do not divide into {heads} heads"):
        hico.merge(jnp.ones((1, 16, 4)), 8, heads)
