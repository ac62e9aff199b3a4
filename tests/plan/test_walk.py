"""The walk through traced programs: bytes, multiply-adds and traffic that can be counted by hand."""

import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ivjax.plan import donation, partitioning
from ivjax.plan.census import census
from ivjax.plan.lifetimes import Frame, Value
from ivjax.plan.walk import Walk

FLOAT = 4  # bytes


@pytest.fixture(autouse=True)
def _no_padding(monkeypatch):
    """Bytes are counted by hand here; tests/plan/test_tiles.py pads."""
    monkeypatch.setattr("ivjax.plan.device_costs.padded_count", math.prod)


def array(*shape, split=None, dtype=jnp.float32, rows=False):
    """An argument of a program: its shape, and the mesh axes of each dimension."""
    return jax.ShapeDtypeStruct(shape, dtype), partitioning.of_spec(split or (), len(shape)), rows


def walked(function, *arguments, platform="tpu", like=(), **sizes):
    """The walk through `function`, its frame and its results; `like` are parameters."""
    jaxpr = jax.make_jaxpr(function)(*(aval for aval, _, _ in arguments))
    parameters = {tuple(sorted(aval.shape)): (aval.shape, splits) for aval, splits, _ in like}
    walk = Walk(sizes, parameters, platform)
    frame, values = walk.frame(), []
    for aval, splits, rows in arguments:
        values.append(frame.outside(walk.value(aval, splits)))
        values[-1].of_batch = rows
    results = walk.run(jaxpr.jaxpr, jaxpr.consts, values, frame)
    frame.step(results)
    return walk.costs, frame, results


def test_a_kernel_split_along_the_batch_axis_is_gathered():
    rows, kernel = array(64, 32, split=("fsdp",), rows=True), array(32, 16, split=("fsdp",))
    costs, frame, (result,) = walked(jnp.dot, rows, kernel, fsdp=4)
    whole, out = 32 * 16 * FLOAT, 64 // 4 * 16 * FLOAT
    assert costs.sent == costs.gathered == {"fsdp": whole * 3 / 4}
    assert costs.largest == {"fsdp": whole}
    assert costs.flops == 2 * (64 // 4) * 32 * 16
    assert result.splits == (("fsdp",), ())
    assert frame.peak() == whole + out


def test_two_products_split_over_tensor_need_one_sum_and_no_gather():
    def mlp(x, up, down):
        return x @ up @ down

    arguments = (
        array(8, 32, rows=True),
        array(32, 64, split=(None, "tensor")),
        array(64, 32, split=("tensor",)),
    )
    costs, frame, (result,) = walked(mlp, *arguments, tensor=2)
    assert costs.sent == {"tensor": 2 * (8 * 32 * FLOAT) * 1 / 2}
    assert not costs.gathered
    assert costs.flops == 2 * (2 * 8 * 32 * 64 / 2)
    assert result.splits == ((), ())
    assert frame.peak() == 8 * (64 // 2 + 32) * FLOAT


def test_a_gradient_is_reduce_scattered_over_fsdp_and_summed_over_data():
    rows = (
        array(64, 32, split=(("data", "fsdp"),), rows=True),
        array(64, 16, split=(("data", "fsdp"),), rows=True),
    )
    kernel = array(32, 16, split=("fsdp",))
    product = lambda x, g: x.T @ g  # noqa: E731
    costs, _, (result,) = walked(product, *rows, like=[kernel], data=2, fsdp=4)
    size = 32 * 16 * FLOAT
    assert costs.sent == {"fsdp": size * 3 / 4, "data": 2 * (size / 4) / 2}
    assert result.splits == (("fsdp",), ())
    assert result.bytes == size // 4


def test_on_cpus_a_gradient_is_summed_everywhere_and_sliced():
    rows = array(64, 32, split=("fsdp",), rows=True), array(64, 16, split=("fsdp",), rows=True)
    kernel = array(32, 16, split=("fsdp",))
    product = lambda x, g: x.T @ g  # noqa: E731
    costs, frame, (result,) = walked(product, *rows, like=[kernel], platform="cpu", fsdp=4)
    assert costs.sent == {"fsdp": 2 * 32 * 16 * FLOAT * 3 / 4}
    assert result.splits == (("fsdp",), ())
    assert frame.peak() == 32 * 16 * FLOAT


def test_products_over_batch_dimensions_gather_nothing():
    q, k = array(16, 17, 4, 1, 8, split=("data",)), array(16, 17, 4, 8, split=("data",))
    logits = lambda q, k: jnp.einsum("bqhgd,bkhd->bhqgk", q, k)  # noqa: E731
    costs, _, (result,) = walked(logits, q, k, data=8)
    assert not costs.sent
    assert result.splits[0] == ("data",)
    assert result.bytes == 16 // 8 * 4 * 17 * 17 * FLOAT


def test_scores_of_all_pairs_gather_one_side():
    side = array(16, 8, split=("data",), rows=True)
    costs, _, (result,) = walked(lambda a, b: a @ b.T, side, side, data=4)
    assert costs.gathered == {"data": 16 * 8 * FLOAT * 3 / 4}
    assert sorted(result.splits) == [(), ("data",)]


def layers(x, kernels, unroll=1, block=lambda x, w: (jnp.tanh(x @ w), x)):
    return jax.lax.scan(block, x, kernels, unroll=unroll)


def test_a_loop_costs_its_iterations_and_stacks_its_outputs():
    x, kernels = array(8, 32, split=("fsdp",), rows=True), array(3, 32, 32, split=(None, "fsdp"))
    costs, frame, (_, stacked) = walked(layers, x, kernels, fsdp=4)
    assert costs.flops == 3 * 2 * (8 // 4) * 32 * 32
    assert costs.sent == {"fsdp": 3 * (32 * 32 * FLOAT) * 3 / 4}
    assert stacked.bytes == 3 * (8 // 4) * 32 * FLOAT
    assert stacked.splits == ((), ("fsdp",), ())
    # Of one turn: the gathered kernel, its product, and the carry that is made of it.
    turn = 32 * 32 * FLOAT + 8 // 4 * 32 * FLOAT
    assert frame.peak() == stacked.bytes + turn


@pytest.mark.parametrize("platform", ["tpu", "cpu"])
def test_an_unrolled_loop_costs_the_same_flops_and_stacks_nothing(platform):
    def loss(x, kernels, unroll):
        block = lambda x, w: (jnp.sin(jnp.sin(x @ w)), None)  # noqa: E731
        return layers(x, kernels, unroll, block)[0].sum()

    x, kernels = array(64, 16, split=("data",), rows=True), array(3, 16, 16)
    found = {}
    for unroll in (1, 3):
        gradient = jax.grad(lambda x, w, unroll=unroll: loss(x, w, unroll), argnums=1)
        found[unroll] = walked(gradient, x, kernels, platform=platform, like=[kernels], data=4)
    assert found[3][0].flops == found[1][0].flops
    assert found[3][0].sent == found[1][0].sent
    stacked = [3 * 16 * 16 * FLOAT in frame.sizes.values() for _, frame, _ in found.values()]
    assert stacked == [True, False]


def saved(policy):
    """Returns the number of values of an iteration's inputs that are stacked for the way back."""
    block = jax.checkpoint(lambda x, w: (jnp.exp(jnp.sin(x @ w) @ w), None), policy=policy, prevent_cse=False)
    gradient = jax.grad(lambda x, w: layers(x, w, 1, block)[0].sum(), argnums=1)
    costs, frame, _ = walked(gradient, array(64, 16, rows=True), array(5, 16, 16))
    return Counter(frame.sizes.values())[5 * 64 * 16 * FLOAT], costs


def test_rematerialised_loops_keep_their_inputs_and_compute_again():
    policies = jax.checkpoint_policies
    (full, again), (everything, once) = saved(None), saved(policies.everything_saveable)
    assert full == 1
    assert everything > 2
    assert once.flops == 5 * 6 * (2 * 64 * 16 * 16)
    assert again.flops == 5 * 8 * (2 * 64 * 16 * 16)


def test_values_in_host_memory_take_no_device_memory():
    def block(x, w):
        x = checkpoint_name(x, "input")
        return jnp.exp(jnp.sin(x @ w) @ w), None

    policy = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=["input"],
        offload_src="device",
        offload_dst="pinned_host",
    )
    block = jax.checkpoint(block, policy=policy, prevent_cse=False)
    gradient = jax.grad(lambda x, w: layers(x, w, 1, block)[0].sum(), argnums=1)
    costs, frame, _ = walked(gradient, array(64, 16, rows=True), array(5, 16, 16))
    assert costs.parked == 5 * 64 * 16 * FLOAT
    assert 5 * 64 * 16 * FLOAT not in frame.sizes.values()


def test_an_update_in_place_takes_one_buffer():
    def fill(x):
        buffer = jnp.broadcast_to(x, (1024,)) * 2.0
        for start in range(4):
            buffer = jax.lax.dynamic_update_slice(buffer, x[None] + start, (start,))
        return buffer

    _, frame, _ = walked(fill, array())
    assert frame.peak() == 1024 * FLOAT


@pytest.mark.parametrize(("platform", "stored"), [("tpu", [512, 512]), ("cpu", [512, 512, 512])])
def test_a_chain_of_elementwise_operations_is_stored_at_most_once(platform, stored):
    def chain(x, w):
        return jnp.cos(jnp.exp(jnp.sin(x @ w) * 2.0) + 1.0) @ w

    _, frame, _ = walked(chain, array(8, 16), array(16, 16), platform=platform)
    assert sorted(frame.sizes.values()) == stored


def test_a_gather_along_an_axis_keeps_the_split_of_the_batch():
    rows, picked = array(8, 16, 4, split=("data",)), array(8, 3, split=("data",), dtype=jnp.int32)
    take = lambda x, i: jnp.take_along_axis(x, i[:, :, None], axis=1)  # noqa: E731
    # Rows lie where their own rows of the operand lie, whether or not it is known where the numbers lie.
    for numbers in (picked, array(8, 3, dtype=jnp.int32)):
        costs, _, (result,) = walked(take, rows, numbers, data=4)
        assert result.splits == (("data",), (), ())
        assert not costs.sent


def test_what_is_stacked_keeps_the_splits_of_its_parts():
    rows = array(8, 16, split=("data",))
    for axis, splits in ((0, ((), ("data",), ())), (1, (("data",), (), ())), (2, (("data",), (), ()))):
        _, _, (result,) = walked(lambda x, axis=axis: jnp.stack([x, 2 * x], axis=axis), rows, data=4)
        assert result.splits == splits
    _, _, (part, _) = walked(lambda x: jnp.unstack(x, axis=1), array(8, 2, 16, split=("data",)), data=4)
    assert part.splits == (("data",), ())


@pytest.mark.parametrize(
    ("old", "new", "splits", "found"),
    [
        ((8, 6), (8, 2, 3), ((), ("t",)), ((), ("t",), ())),
        ((8, 6), (8, 3, 2), ((), ("t",)), ((), (), ("t",))),
        ((4, 2, 5), (8, 5), (("d",), (), ()), (("d",), ())),
        ((4, 6), (24,), (("d",), ()), (("d",),)),
        ((5, 3), (15,), (("d",), ()), ((),)),
        ((1, 8), (8, 1), ((), ("d",)), (("d",), ())),
    ],
)
def test_a_reshape_gives_the_axes_of_a_group_to_the_first_dimension_they_divide(old, new, splits, found):
    assert partitioning.reshaped(old, new, splits, lambda split: 2 ** len(split)) == found


def frame_of(*steps, breadth_first=False):
    """A frame from (uses, bytes made) by name; values are made in the order of their names."""
    frame, values = Frame(breadth_first), {}
    for name, (uses, size) in steps:
        values[name] = Value((), (), size)
        frame.step([values[use] for use in uses], [values[name]])
    return frame, values


def test_breadth_first_frames_run_steps_as_soon_as_they_are_ready():
    steps = [("a", ("", 10)), ("b", ("a", 1)), ("c", ("", 10)), ("d", ("c", 1)), ("e", ("bd", 1))]
    assert frame_of(*steps)[0].peak() == 12
    assert frame_of(*steps, breadth_first=True)[0].peak() == 21


def test_a_donated_state_is_overwritten_and_cpus_copy_it_if_it_is_read_again():
    def update(params, mean, gradient):
        mean = 0.9 * mean + 0.1 * gradient
        return params - jnp.sqrt(mean), mean

    arguments = [array(64), array(64), array(64)]
    jaxpr = jax.make_jaxpr(update)(*(aval for aval, _, _ in arguments))
    walk, frame = Walk({}, {}, "cpu"), Frame()
    old = [frame.outside(walk.value(aval, splits)) for aval, splits, _ in arguments]
    new = walk.run(jaxpr.jaxpr, (), old, frame)
    assert donation.copied_first(frame, old[:2], new) == [old[1]]
    assert sum(frame.sizes.values()) == 64 * FLOAT
    donation.reuse_places(frame, old[:2], new)
    assert sum(frame.sizes.values()) == 0


def test_free_places_are_filled_with_the_largest_values_that_fit():
    assert donation.reused_bytes([7, 5, 3, 2], [4, 6]) == 5 + 3


def test_the_traffic_of_a_step_is_that_of_the_compiled_program():
    mesh = Mesh(np.asarray(jax.devices()[:8]).reshape(2, 4), ("data", "fsdp"))
    batch = NamedSharding(mesh, P(("data", "fsdp")))
    kernels = [array(32, 48, split=("fsdp",)), array(48, 32, split=("fsdp",))]
    rows = array(1024, 32, split=(("data", "fsdp"),), rows=True)

    def step(up, down, x):
        def loss(up, down):
            hidden = jax.lax.with_sharding_constraint(jnp.tanh(x @ up), batch)
            return jnp.square(jax.lax.with_sharding_constraint(hidden @ down, batch)).mean()

        return jax.tree.map(lambda w, g: w - g, (up, down), jax.grad(loss, argnums=(0, 1))(up, down))

    costs, _, _ = walked(step, *kernels, rows, like=kernels, platform="cpu", data=2, fsdp=4)
    split = NamedSharding(mesh, P("fsdp"))
    jitted = jax.jit(step, in_shardings=(split, split, batch), out_shardings=(split, split))
    program = jitted.lower(*(aval for aval, _, _ in (*kernels, rows))).compile()
    found = Counter()
    for row in census(program.as_text(), mesh).traffic:
        found[row.axes] += row.bytes
    assert found["fsdp",] == pytest.approx(costs.sent["fsdp"], rel=0.05)
    assert found["data",] == pytest.approx(costs.sent["data"], rel=0.05)
