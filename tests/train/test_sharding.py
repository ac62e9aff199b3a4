"""The sharding table and the mesh."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.rules import Rule
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.internvideo2.rules import STUDENT
from ivjax.ops.trees import paths_of
from ivjax.stages.masked_reconstruction import MaskedReconstruction
from ivjax.stages.objective import Objective
from ivjax.train.feed import host_shard
from ivjax.train.mesh import build_mesh, check_batch, check_context
from ivjax.train.sharding import describe, spec_of, state_shardings
from ivjax.train.step import init_state
from tests.train.micro import experiment


def state_shapes(stage):
    objective = stage.build(Compute())
    state = jax.eval_shape(lambda key: init_state(objective.init(key), experiment.recipe), jax.random.key(0))
    return state, objective.rules


@pytest.mark.parametrize("preset", ["1B", "6B"])
def test_released_sizes_are_spread_evenly(preset):
    mesh = build_mesh(MeshShape(data=1, fsdp=4, tensor=2))
    shapes, rules = state_shapes(MaskedReconstruction(EncoderSize.PRESETS[preset]))
    shardings = dict(paths_of(state_shardings(shapes, mesh, rules)))
    whole = held = 0
    for path, leaf in paths_of(shapes):
        shard = np.prod(shardings[path].shard_shape(leaf.shape), dtype=np.int64)
        whole, held = whole + leaf.size, held + shard
    assert held < 1.02 * whole / 8
    for name in ("moments/mu", "moments/nu", "ema"):
        path = "encoder/blocks/attn/qkv/kernel"
        assert (
            shardings[f"{name}/{path}"].spec
            == shardings[f"params/{path}"].spec
            == P(None, None, "fsdp", "tensor")
        )


def test_a_parameter_without_a_rule_is_an_error_that_names_the_file_to_mend():
    mesh = build_mesh(MeshShape())
    with pytest.raises(UserError, match="encoder/new/weight; add one to .*internvideo2/rules.py"):
        spec_of("encoder/new/weight", (4, 4), mesh, STUDENT)


def test_an_indivisible_dimension_stays_whole():
    mesh = build_mesh(MeshShape(data=1, fsdp=8))
    assert spec_of("final_clip_decoder/head/kernel", (12, 16), mesh, STUDENT) == P()
    assert spec_of("final_clip_decoder/head/kernel", (16, 12), mesh, STUDENT) == P("fsdp")


def test_the_printed_table_sums_the_bytes_of_a_device():
    mesh = build_mesh(MeshShape(data=2, fsdp=4))
    objective = experiment.stage.build(Compute())
    shapes, rules = state_shapes(experiment.stage)
    lines = list(describe(shapes, mesh, objective))
    shardings = dict(paths_of(state_shardings(shapes, mesh, rules)))
    expected = sum(
        4 * np.prod(shardings[path].shard_shape(leaf.shape), dtype=np.int64)
        for path, leaf in paths_of(shapes)
    )
    assert float(lines[-1].split()[1]) == pytest.approx(expected / 2**20, abs=1e-3)
    assert any("encoder/blocks/mlp/fc1/kernel" in line and "-, fsdp" in line for line in lines)


def test_the_printed_table_says_how_each_parameter_is_trained():
    objective = Objective(
        init=lambda key: {},
        loss=lambda params, batch, key: (0.0, {}),
        media={},
        rules=(
            Rule("temperature", bounds=(0.01, float("inf"))),
            Rule("blocks", decays=True, depth="stacked"),
            Rule("*"),
        ),
        frozen_layers={"blocks": 2},
        rates={"blocks/kernel": 0.1},
        running=("mean",),
    )
    params = {"blocks": {"bias": np.ones(3), "kernel": np.ones(3)}, "mean": np.ones(3)}
    state = {"params": params | {"temperature": np.ones(())}, "frozen": {"text": np.ones(3)}}
    lines = list(describe(state, build_mesh(MeshShape()), objective))[:5]
    table = {line.split()[0]: line.partition("MiB")[2].split(maxsplit=3) for line in lines}
    assert table == {
        "text": ["frozen", "last", "-"],
        "blocks/bias": ["decays", "stacked", "-", "first 2 layers frozen"],
        "blocks/kernel": ["decays", "stacked", "-", "rate 0.1, first 2 layers frozen"],
        "mean": ["-", "last", "-", "running statistic"],
        "temperature": ["-", "last", "0.01..inf"],
    }


@pytest.mark.parametrize(
    "shape, devices, sizes",
    [
        (MeshShape(), 8, (8, 1, 1, 1)),
        (MeshShape(data=2, fsdp=-1, tensor=2), 8, (2, 2, 2, 1)),
        (MeshShape(slices=2, fsdp=2), 8, (2, 2, 1, 1)),
    ],
)
def test_minus_one_takes_what_is_left(shape, devices, sizes):
    assert shape.resolve(devices) == sizes


@pytest.mark.parametrize(
    "shape, words",
    [
        (MeshShape(fsdp=3), r"multiple of 3 devices and there are 8 \(8 / 3 = 2.67\)"),
        (MeshShape(data=2, tensor=2), "= 4 devices but there are 8"),
        (MeshShape(data=-1, fsdp=-1), "at most one may be -1"),
        (MeshShape(tensor=0), "at least 1"),
    ],
)
def test_a_mesh_that_does_not_fit_shows_the_arithmetic(shape, words):
    with pytest.raises(UserError, match=words):
        shape.resolve(8)


def test_slices_without_slices_in_the_hardware_are_an_error():
    with pytest.raises(UserError, match="mesh slices=2 does not match the processes"):
        build_mesh(MeshShape(slices=2))


def test_batch_and_tokens_must_divide():
    mesh = build_mesh(MeshShape(data=2, fsdp=2, context=2))
    check_batch(16, 4, mesh)
    with pytest.raises(UserError, match="batch=18 does not divide into 8 equal parts"):
        check_batch(18, 2, mesh)
    check_context(16, mesh)
    with pytest.raises(UserError, match=r"417 / 2 = 208.50"):
        check_context(417, mesh)


class FakeDevice:
    """Enough of a device of another process for `devices_indices_map`."""

    def __init__(self, process_index):
        self.process_index = process_index


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([[(0, 4), (4, 8)], [(8, 12), (12, 16)]], (0, 2)),  # every host has rows of its own
        ([[(0, 8), (8, 16)], [(0, 8), (8, 16)]], (0, 1)),  # hosts share rows: tensor parallel across hosts
    ],
)
def test_a_host_feeds_the_rows_that_its_devices_own(monkeypatch, rows, expected):
    owned = {FakeDevice(p): (slice(*r),) for p, host in enumerate(rows) for r in host}

    class FakeSharding:
        def __init__(self, mesh, spec):
            self.devices_indices_map = lambda shape: owned

    monkeypatch.setattr("ivjax.train.feed.NamedSharding", FakeSharding)
    shard = host_shard(build_mesh(MeshShape()), 16)
    assert (shard.index, shard.count) == expected
