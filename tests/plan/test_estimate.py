"""The estimate of a step: against the sharding table, the model's own FLOPs and a compiled program."""

import re

import jax
import pytest

from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment
from ivjax.experiment.overrides import apply_overrides
from ivjax.plan.estimate import abstract_mesh, estimate, with_mesh
from ivjax.train import sharding
from ivjax.train.chips import CHIPS
from ivjax.train.mesh import build_mesh
from ivjax.train.program import program_of

CPU = CHIPS["cpu"]


@pytest.fixture(scope="module")
def experiment():
    return with_mesh(load_experiment("teacher_pixels_tiny"), data=2, fsdp=4)


@pytest.fixture(scope="module")
def estimated(experiment):
    return estimate(experiment, CPU, 8)


def test_argument_bytes_are_those_of_the_sharding_rules(experiment, estimated):
    mesh = abstract_mesh(experiment, CPU, 8)
    with jax.sharding.use_abstract_mesh(mesh):
        program = program_of(experiment, mesh)
    table = "\n".join(sharding.describe(program.state, mesh, program.objective)).partition(
        "bytes per device"
    )[2]
    sizes = dict(re.findall(r"^  (\w+) +([\d.]+) MiB$", table, re.MULTILINE))
    given = dict(estimated.memory.given)
    assert given.pop("batch") == estimated.row_bytes * experiment.batch // 8
    assert sizes.pop("all") == f"{sum(given.values()) / 2**20:.3f}"
    assert sizes == {kind: f"{size / 2**20:.3f}" for kind, size in given.items()}


def test_without_remat_the_executed_flops_are_those_of_the_model(estimated):
    assert estimated.costs.flops * 8 == pytest.approx(sum(estimated.flops.values()), rel=0.01)


def test_parameters_are_gathered_and_gradients_summed(estimated):
    """At least: every split parameter whole once, and all of its gradient summed once over each axis."""
    size = 4 * estimated.parameters
    assert size * 3 / 4 < estimated.costs.gathered["fsdp"] + estimated.costs.sent["data"]
    assert estimated.costs.sent["data"] == pytest.approx(2 * size / 4 / 2, rel=0.1)
    assert estimated.costs.largest["fsdp"] < size


@pytest.mark.parametrize(
    ("changes", "devices", "wrong"),
    [
        ({"mesh.data": 3}, 8, "there are 8"),
        ({"mesh.data": -1, "mesh.fsdp": 5}, 8, "multiple of 5"),
        ({"batch": 12}, 8, "does not divide into 8 equal parts"),
        ({"accumulate": 2}, 8, "does not divide into 16 equal parts"),
    ],
)
def test_an_impossible_mesh_or_batch_is_refused(changes, devices, wrong):
    experiment = apply_overrides(
        load_experiment("teacher_pixels_tiny"), [f"{path}={value}" for path, value in changes.items()]
    )
    with pytest.raises(UserError, match=wrong):
        estimate(experiment, CPU, devices)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [{}, {"data": 2, "fsdp": 4}], ids=["data", "fsdp"])
def test_estimated_memory_agrees_with_the_compiled_program(mesh):
    """Within 15 %, and where parameters are split within 20 %."""
    experiment = with_mesh(apply_overrides(load_experiment("stage1_tiny"), ["init_from=()"]), **mesh)
    real = build_mesh(experiment.mesh)
    with jax.set_mesh(real):
        memory = program_of(experiment, real).lower().compile().memory_analysis()
    found = estimate(experiment, CPU, 8).memory
    assert found.arguments == memory.argument_size_in_bytes
    total = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    assert found.total == pytest.approx(total, rel=0.15 if not mesh else 0.2)


@pytest.mark.slow
def test_more_remat_means_fewer_temporaries():
    base = apply_overrides(load_experiment("viclip_tiny"), ["init_from=()"])
    alive = {}
    for remat in ("none", "dots", "full", "offload"):
        found = estimate(apply_overrides(base, [f"remat={remat}"]), CHIPS["v5e"], 8)
        alive[remat] = found.memory.temporaries
        assert (found.memory.host > 0) == (remat == "offload")
    assert alive["none"] > alive["dots"] > alive["full"] > alive["offload"]
    halves = estimate(apply_overrides(base, ["accumulate=2"]), CHIPS["v5e"], 8).memory.temporaries
    assert alive["none"] / 2 < halves < alive["none"] * 0.8
