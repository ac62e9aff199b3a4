"""Digests of arrays: what changes them, and what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ivjax.ops.digests import array_digests


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8"])
@pytest.mark.parametrize("shape", [(), (7,), (5, 6), (2, 3, 4)])
def test_every_bit_of_every_element_counts(dtype, shape, rng):
    x = np.asarray(jnp.asarray(rng.normal(size=shape) * 50).astype(dtype))
    whole = array_digests({"x": x})["x"]
    seen = {whole}
    for place in range(x.size):
        content = bytearray(x.tobytes())
        content[place * x.itemsize + int(rng.integers(x.itemsize))] ^= 1 << int(rng.integers(8))
        changed = np.frombuffer(bytes(content), x.dtype).reshape(shape)
        seen.add(array_digests({"x": changed})["x"])
    assert len(seen) == 1 + x.size


def test_the_place_of_an_element_counts(rng):
    x = rng.normal(size=(4, 4)).astype(np.float32)
    moved = (x.T, x[::-1], np.roll(x, 1, axis=1), x[[1, 0, 2, 3]])
    digests = [array_digests({"x": np.ascontiguousarray(one)})["x"] for one in (x, *moved)]
    assert len(set(digests)) == 5


def test_the_mesh_does_not_count(rng):
    mesh = jax.make_mesh((2, 2), ("a", "b"), devices=jax.devices()[:4])
    tree = {"w": rng.normal(size=(8, 6)).astype(np.float32), "b": rng.normal(size=6).astype(np.float32)}
    spread = {
        "w": jax.device_put(tree["w"], NamedSharding(mesh, PartitionSpec("a", "b"))),
        "b": jax.device_put(tree["b"], NamedSharding(mesh, PartitionSpec(None))),
    }
    assert array_digests(spread) == array_digests(tree)


def test_parts_of_a_tree_have_the_paths_of_the_whole(rng):
    part = {"w": rng.normal(size=3).astype(np.float32), "v": {"b": np.int32(4)}}
    state = {"params": part, "moments": (part, np.float32(2)), "step": np.int32(1)}
    whole = array_digests(state)
    assert whole == array_digests(state, part)
    assert whole["params/v/b"] == whole["moments/0/v/b"] and set(whole) >= {"step", "moments/1", "params/w"}
