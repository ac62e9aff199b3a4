"""The census of communication: real programs of this backend, and texts of TPU and GPU programs."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ivjax.plan.census import Traffic, census, describe
from ivjax.plan.hlo import parse, replica_groups, sizes_of
from ivjax.plan.trip_count import trip_count

TEXTS = Path(__file__).parent / "hlo"
ARRAY = 16 * 16 * 4  # bytes of what each device holds in `exchange`


def mesh_of(slices=1, **sizes):
    """A mesh of stand-ins for devices, with slices along the first axis."""
    devices = np.empty(tuple(sizes.values()), object)
    for place in range(devices.size):
        index = place * slices // devices.size if slices > 1 else None
        devices.flat[place] = SimpleNamespace(id=100 + place, slice_index=index)
    return SimpleNamespace(devices=devices, axis_names=tuple(sizes))


def exchange(x):
    def inner(_, c):
        return jax.lax.pmax(c, "tensor") * 0.5

    def outer(_, c):
        return jax.lax.psum(jax.lax.fori_loop(0, 3, inner, c), "fsdp") * 0.1

    x = jax.lax.fori_loop(0, 5, outer, x)
    gathered = jax.lax.all_gather(x, ("data", "tensor")).sum(0)
    moved = jax.lax.ppermute(x, "data", [(0, 1), (1, 0)])
    scattered = jax.lax.psum_scatter(jnp.concatenate([x] * 4), ("data", "tensor"), tiled=True)
    swapped = jax.lax.all_to_all(x, "fsdp", 0, 0, tiled=True)
    chosen = jax.lax.cond(
        x[0, 0] > 0,
        lambda c: jax.lax.psum(c[:4], ("data", "fsdp")).sum(),
        lambda c: jax.lax.psum(c, ("data", "fsdp")).sum(),
        x,
    )
    endless = jax.lax.while_loop(
        lambda c: c.sum() < 1e9, lambda c: jax.lax.psum(c, ("data", "fsdp", "tensor")), x
    )
    return gathered + moved + scattered + swapped + chosen, endless


@pytest.fixture(scope="module")
def counted():
    """The census of `exchange` on a mesh whose devices are in no order."""
    order = np.random.default_rng(3).permutation(8)
    mesh = Mesh(np.asarray(jax.devices())[order].reshape(2, 2, 2), ("data", "fsdp", "tensor"))
    rows = P(mesh.axis_names)
    program = jax.jit(
        jax.shard_map(exchange, mesh=mesh, in_specs=rows, out_specs=(rows, rows), check_vma=False)
    )
    text = program.lower(jax.ShapeDtypeStruct((128, 16), jnp.float32)).compile().as_text()
    return census(text, mesh)


@pytest.mark.parametrize(
    "expected",
    [
        Traffic("all-reduce", ("fsdp",), 5, 5 * ARRAY, ARRAY),
        Traffic("all-reduce", ("tensor",), 15, 15 * ARRAY, ARRAY),
        Traffic("all-gather", ("data", "tensor"), 1, 3 * ARRAY, 4 * ARRAY),
        Traffic("collective-permute", ("data",), 1, ARRAY, ARRAY),
        Traffic("reduce-scatter", ("data", "tensor"), 1, 3 * ARRAY, ARRAY),
        Traffic("all-to-all", ("fsdp",), 1, ARRAY // 2, ARRAY // 2),
        Traffic("all-reduce", ("data", "fsdp"), 1, 2 * 3 * ARRAY // 4, ARRAY),
        Traffic("all-reduce", ("data", "fsdp", "tensor"), 1, 2 * 7 * ARRAY // 8, ARRAY),
    ],
    ids=lambda row: f"{row.kind} {'+'.join(row.axes)}",
)
def test_a_program_of_this_backend_is_counted_as_by_hand(counted, expected):
    assert expected in counted.traffic


def test_nothing_else_is_counted_and_most_bytes_come_first(counted):
    sent = [row.bytes for row in counted.traffic]
    assert len(sent) == 8 and sent == sorted(sent, reverse=True) and counted.bytes == sum(sent)


def test_a_loop_of_unknown_trip_count_is_counted_once_and_reported(counted):
    (loop,) = counted.unknown_loops
    assert "while" in loop
    lines = list(describe(counted))
    assert loop in lines[-1] and "trip_count unknown" in lines[-1]
    assert lines[1].split()[:3] == ["all-reduce", "tensor", "15"]


def test_tpu_fusions_count_a_gather_once_and_a_reduce_scatter_as_such():
    found = census((TEXTS / "tpu_fsdp.txt").read_text(), mesh_of(data=1, fsdp=8))
    shard, whole = 8 * 128 * 2, 64 * 128 * 2
    assert found.traffic == (
        Traffic("reduce-scatter", ("fsdp",), 40, 40 * (whole + 64) * 7 // 8, shard),
        Traffic("all-gather", ("fsdp",), 40, 40 * whole * 7 // 8, whole),
        Traffic("collective-permute", ("fsdp",), 40, 40 * shard, shard),
    )
    assert found.unknown_loops == ()


def test_starts_are_counted_and_their_ends_are_not():
    found = census((TEXTS / "gpu_async.txt").read_text(), mesh_of(data=2, fsdp=2, tensor=2))
    x, y = 64 * 8 * 4, 16 * 8 * 4
    everywhere = ("data", "fsdp", "tensor")
    assert set(found.traffic) == {
        Traffic("reduce-scatter", everywhere, 1, x * 7 // 8, x // 8),
        Traffic("all-gather", ("data", "fsdp"), 1, y * 3, y * 4),
        Traffic("all-reduce", everywhere, 1, 2 * (x + y) * 7 // 8, x),
        Traffic("collective-permute", ("fsdp", "tensor"), 1, y, y),
        Traffic("all-to-all", ("tensor",), 1, y // 2, y),
    }


def test_traffic_between_slices_is_counted_separately():
    found = census((TEXTS / "tpu_slices.txt").read_text(), mesh_of(slices=2, data=2, fsdp=4))
    size = 8 * 128 * 4
    assert set(found.traffic) == {
        Traffic("all-reduce", ("data",), 1, size, size, crosses_slices=True),
        Traffic("all-gather", ("fsdp",), 1, size, 2 * size),
    }
    assert any("data (between slices)" in line for line in describe(found))


def test_a_group_that_spans_slices_crosses_them():
    text = (TEXTS / "gpu_async.txt").read_text()
    found = census(text, mesh_of(slices=2, data=2, fsdp=2, tensor=2))
    crossing = {row.kind for row in found.traffic if row.crosses_slices}
    assert crossing == {"reduce-scatter", "all-gather", "all-reduce"}


def test_a_program_for_another_mesh_is_refused():
    with pytest.raises(ValueError, match="8 partitions and the mesh 4 devices"):
        census((TEXTS / "gpu_async.txt").read_text(), mesh_of(data=4))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{0,1},{2}}", [[0, 1], [2]]),
        ("{}", [[0, 1, 2, 3, 4, 5, 6, 7]]),
        ("[2,4]<=[8]", [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ("[4,2]<=[2,4]T(1,0)", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("[2,4]<=[2,2,2]T(1,0,2)", [[0, 1, 4, 5], [2, 3, 6, 7]]),
        ("mesh['a'=2,'b'=4] {'a'}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
        ("mesh['a'=2,'b'=4] {'b':(1)2}", [[0, 2], [1, 3], [4, 6], [5, 7]]),
        ("mesh['a'=2,'b'=4] {'a','b':(2)2}", [[0, 1, 4, 5], [2, 3, 6, 7]]),
        ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}", [[0, 1], [2, 3], [4, 5], [6, 7]]),
        ("mesh['a'=2,'b'=4], device_ids=(7,5,3,1,6,4,2,0) {'b'}", [[7, 5, 3, 1], [6, 4, 2, 0]]),
    ],
)
def test_groups_are_read_from_every_form_of_the_attribute(text, expected):
    groups = replica_groups(f"%x), channel_id=1, replica_groups={text}, to_apply=%add", 8)
    assert [group.tolist() for group in groups] == expected


LOOP = """HloModule loop, num_partitions=1

%condition (s: (s32[])) -> pred[] {
  %s = (s32[]) parameter(0)
  %limit = s32[] constant(LIMIT)
  %i = s32[] get-tuple-element(%s), index=0
  ROOT %test = pred[] compare(%i, %limit), direction=DIRECTION
}

%step (p: s32[], q: s32[]) -> (s32[]) {
  %p = s32[] parameter(0)
  %q = s32[] parameter(1)
  %next = s32[] add(%p, %q)
  ROOT %both = (s32[]) tuple(%next)
}

%body (t: (s32[])) -> (s32[]) {
  %t = (s32[]) parameter(0)
  %j = s32[] get-tuple-element(%t), index=0
  %by = s32[] constant(STEP)
  ROOT %fusion = (s32[]) fusion(%j, %by), kind=kLoop, calls=%step
}

ENTRY %main () -> (s32[]) {
  %first = s32[] FIRST
  %start = (s32[]) tuple(%first)
  ROOT %loop = (s32[]) while(%start), condition=%condition, body=%body
}
"""


@pytest.mark.parametrize(
    ("first", "direction", "limit", "step", "turns"),
    [
        ("constant(0)", "LT", 40, 1, 40),
        ("constant(2)", "LT", 11, 2, 5),
        ("constant(0)", "LE", 4, 2, 3),
        ("constant(7)", "GT", 0, -2, 4),
        ("constant(7)", "GE", -1, -2, 5),
        ("constant(5)", "NE", 0, -1, 5),
        ("constant(9)", "LT", 5, 1, 0),
        ("custom-call()", "LT", 5, 1, None),
        ("constant(0)", "LT", 5, 0, None),
    ],
)
def test_the_trip_count_follows_from_the_loop_counter(first, direction, limit, step, turns):
    named = {"FIRST": first, "DIRECTION": direction, "LIMIT": str(limit), "STEP": str(step)}
    text = LOOP
    for name, value in named.items():
        text = text.replace(name, value)
    module = parse(text)
    assert trip_count(module, "main", module.computations["main"].instructions["loop"]) == turns


def test_sizes_count_elements_and_neither_layouts_nor_tokens():
    shape = "(bf16[8,128]{1,0:T(8,128)(2,1)S(1)}, /*index=1*/f8e4m3fn[3], s4[5], pred[7], token[], u32[])"
    assert sizes_of(shape) == [2048, 3, 3, 7, 0, 4]
