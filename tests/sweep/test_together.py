"""Runs trained as one are the runs that each would have been."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.storing import stored_experiment
from ivjax.models.internvideo2.student import PooledHead
from ivjax.sweep.together import Member, group_of
from ivjax.train.checkpoint import restore_params
from ivjax.train.loop import train_run
from ivjax.train.session import Run
from tests.train import micro

pytestmark = pytest.mark.slow

TRACED = ("schedule.peak", "seed")
# One head and one layer: the least to compile.
experiment = apply_overrides(
    dataclasses.replace(
        micro.experiment,
        stage=dataclasses.replace(micro.experiment.stage, clip=None, mae=None, pooled=PooledHead(width=16)),
        ema=None,
    ),
    ["stage.student.depth=1", "batch=4", "steps=4", "checkpoint.every=2", "schedule.warmup=1"],
)
LANES = (("schedule.peak=2e-3",), ("schedule.peak=1e-2", "seed=3"))


def train(folder):
    """Trains LANES as one; gives their folders."""
    members = [Member(apply_overrides(experiment, lane), folder / str(n)) for n, lane in enumerate(LANES)]
    group = group_of(members, folder / "group", TRACED)
    assert train_run(group, lambda line: None, jax.devices()[:1]) == 0
    return [member.folder for member in members]


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    with pytest.MonkeyPatch.context() as patched:
        # Stopped after two steps, and continued.
        patched.setattr("ivjax.train.checkpoint.Checkpoints.stop_requested", lambda self, step: step == 2)
        folders = train(folder)
        assert [len(micro.losses(folder)) for folder in folders] == [2, 2]
    return train(folder)


def test_losses_and_parameters_are_those_of_a_single_run_over_a_stop(group, tmp_path):
    folder, own, alone = group[1], apply_overrides(experiment, LANES[1]), tmp_path / "alone"
    train_run(Run(own, alone, TRACED), lambda line: None, jax.devices()[:1])
    np.testing.assert_allclose(micro.losses(folder), micro.losses(alone), rtol=1e-5)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    leaves = (jax.tree.leaves(restore_params(run, here)) for run in (folder, alone))
    for together, single in zip(*leaves, strict=True):
        np.testing.assert_allclose(together, single, rtol=1e-3, atol=1e-5)
    assert stored_experiment(folder) == own
    assert abs(micro.losses(group[0])[0] - micro.losses(group[1])[0]) > 1e-3  # of other seeds


def test_each_runs_own_numbers_are_in_its_log(group):
    lines = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]) for folder in group]
    np.testing.assert_allclose(lines[0]["lr"] / lines[1]["lr"], 0.2, rtol=1e-5)
    assert lines[0]["flops"] == lines[1]["flops"] > 0
    assert all(isinstance(line["skipped"], int) for line in lines)
