"""Both teachers in the step: the same losses on any mesh, and wherever their features are kept."""

import dataclasses

import jax
import numpy as np
import pytest

from ivjax.models.videomae import VideoMaeSize
from ivjax.stages.teachers import ClipTeacher, MaeTeacher
from tests.train import micro

STUDENT = micro.experiment.stage.student
TEACHERS = {
    "clip_teacher": ClipTeacher(dataclasses.replace(STUDENT, width=16, depth=2, frames=1)),
    "mae_teacher": MaeTeacher(
        VideoMaeSize(width=16, depth=2, heads=4, mlp_width=32, patch=14, image=(42, 42), frames=6)
    ),
}
EXPERIMENT = dataclasses.replace(
    micro.experiment,
    stage=dataclasses.replace(micro.experiment.stage, **TEACHERS),
    steps=3,
    ema=None,
    init_fresh=("*",),
)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return micro.run(tmp_path_factory.mktemp("one"), base=EXPERIMENT)


def test_a_mesh_gives_the_losses_of_one_device(tmp_path, one_device):
    mesh = "mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2"
    losses = micro.run(tmp_path, *mesh, devices=jax.devices(), base=EXPERIMENT)
    np.testing.assert_allclose(losses, one_device, rtol=5e-5)


def test_features_kept_at_all_tokens_give_the_losses_of_those_at_visible_ones(tmp_path, one_device):
    losses = micro.run(tmp_path, "stage.targets=all", base=EXPERIMENT)
    np.testing.assert_allclose(losses, one_device, rtol=1e-6)
