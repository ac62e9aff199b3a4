"""Values that a step takes as arguments: found by tracing it, and what they change in its key."""

import dataclasses

import jax
import pytest

from ivjax.experiment.overrides import apply_overrides
from ivjax.models.internvideo2 import PooledHead
from ivjax.sweep.shared_values import SharedValues, step_key
from ivjax.train.mesh import build_mesh
from ivjax.train.program import program_of
from tests.train import micro

SWEPT = ("schedule.peak", "schedule.warmup", "seed", "data.clips", "batch", "stage.drop_path", "ema")
# One head and one layer: the least to trace.
experiment = dataclasses.replace(
    micro.experiment,
    stage=dataclasses.replace(micro.experiment.stage, clip=None, mae=None, pooled=PooledHead(width=16)),
)


@pytest.fixture(scope="module")
def shared():
    mesh = build_mesh(experiment.mesh, jax.devices()[:1])
    with jax.set_mesh(mesh):
        return SharedValues(SWEPT).paths(experiment, program_of(experiment, mesh))


def test_numbers_that_decide_no_branch_and_no_shape_are_arguments(shared):
    assert shared == ("schedule.peak", "schedule.warmup", "seed", "data.clips", "ema")


def test_runs_share_a_step_if_they_differ_only_in_arguments_data_or_logging(shared):
    def key(*overrides):
        return step_key(apply_overrides(experiment, overrides), shared)

    same = (
        "schedule.peak=1",
        "schedule.warmup=7",
        "seed=5",
        "data.clips=8",
        "log.every=3",
        "eval_loss.every=2",
    )
    assert {key(override) for override in same} == {key()}
    other = (
        "batch=8",
        "stage.drop_path=0.1",
        "steps=21",
        "schedule.final=0.1",
        "dtype=bfloat16",
        "accumulate=2",
    )
    assert len({key(), *map(key, other)}) == 1 + len(other)
