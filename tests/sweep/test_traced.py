"""Which numbers a step takes as arguments is found out by tracing it."""

import dataclasses

import jax
import pytest

from ivjax.experiment.overrides import apply_overrides
from ivjax.models.internvideo2.student import PooledHead
from ivjax.sweep.traced import Tracer, group_key, step_key
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
def traced():
    mesh = build_mesh(experiment.mesh, jax.devices()[:1])
    with jax.set_mesh(mesh):
        return Tracer(SWEPT).traced(experiment, program_of(experiment, mesh))


def test_numbers_that_no_branch_and_no_shape_hangs_on_are_arguments(traced):
    assert traced.paths == ("schedule.peak", "schedule.warmup", "seed", "data.clips")
    assert traced.used == {"schedule.peak", "schedule.warmup", "seed"}


def test_runs_share_a_step_if_they_differ_in_arguments_or_in_what_it_never_sees(traced):
    def key(*overrides):
        return step_key(apply_overrides(experiment, overrides), traced.paths)

    same = (
        "schedule.peak=1",
        "schedule.warmup=7",
        "seed=5",
        "data.clips=8",
        "log.every=3",
        "eval_loss.every=2",
    )
    assert {key(override) for override in same} == {key()}
    other = ("batch=8", "stage.drop_path=0.1", "steps=21", "schedule.final=0.1", "dtype=bfloat16", "ema=none")
    assert len({key(), *map(key, other)}) == 1 + len(other)


def test_runs_can_be_trained_together_if_the_loop_treats_them_alike(traced):
    def key(*overrides, fixed_seed=False):
        return group_key(apply_overrides(experiment, overrides), traced, fixed_seed)

    assert key() == key("schedule.peak=1", "schedule.warmup=7", "seed=5")
    assert (
        len({key(), key("data.clips=8"), key("log.every=3"), key("eval_loss.every=2"), key("batch=8")}) == 5
    )
    assert key("schedule.peak=1", fixed_seed=True) == key(fixed_seed=True) != key("seed=5", fixed_seed=True)
