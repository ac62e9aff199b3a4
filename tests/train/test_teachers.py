"""Both teachers in the step: the same losses on any mesh, and wherever their features are kept."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment
from ivjax.models.viclip import VisionSize
from ivjax.models.videomae import VideoMaeSize
from ivjax.stages.masked_reconstruction_loss import reconstruction_of
from ivjax.stages.teachers import ClipTeacher, MaeTeacher
from ivjax.train.feed import open_feed
from ivjax.train.mesh import build_mesh
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


@pytest.mark.slow
def test_a_mesh_gives_the_losses_of_one_device(tmp_path, one_device):
    mesh = "mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2"
    losses = micro.run(tmp_path, *mesh, devices=jax.devices(), base=EXPERIMENT)
    np.testing.assert_allclose(losses, one_device, rtol=5e-5)


@pytest.mark.slow
def test_features_kept_at_all_tokens_give_the_losses_of_those_at_visible_ones(tmp_path, one_device):
    losses = micro.run(tmp_path, "stage.targets=all", base=EXPERIMENT)
    np.testing.assert_allclose(losses, one_device, rtol=1e-6)


@pytest.mark.parametrize("frames, segments", [(3, 1), (1, 3)])
def test_teachers_of_another_resolution_read_resized_frames(frames, segments):
    """Nothing is computed: shapes say that the tokens meet."""
    larger = dataclasses.replace(STUDENT, width=16, depth=2, frames=frames, patch=16, image=(48, 48))
    pixels = dataclasses.replace(TEACHERS["mae_teacher"].size, patch=16, image=(48, 48))
    stage = dataclasses.replace(
        EXPERIMENT.stage, clip_teacher=ClipTeacher(larger), mae_teacher=MaeTeacher(pixels)
    )
    objective = stage.build(EXPERIMENT.compute)
    batch = {
        name: jax.ShapeDtypeStruct((2, *row.shape), row.dtype) for name, row in objective.main.batch.items()
    }
    params = jax.eval_shape(objective.init, jax.random.key(0))
    reconstruction = reconstruction_of(stage, EXPERIMENT.compute)
    _, targets = jax.eval_shape(reconstruction.targets, params, batch, jax.random.key(0))
    assert batch["video"].shape[2:4] == (42, 42)
    assert targets["clip"].shape == (1, 2, 1 + stage.visible, 16)
    assert targets["mae"].shape == (1, 2, stage.visible, 16)
    assert stage.clip_teacher.segments(STUDENT.frames) == segments


def test_teachers_of_another_grid_are_errors():
    smaller = dataclasses.replace(STUDENT, width=16, patch=21)
    stage = dataclasses.replace(EXPERIMENT.stage, clip_teacher=ClipTeacher(smaller))
    with pytest.raises(UserError, match="as \\(3, 2, 2\\) patches .* make the grids of patches equal"):
        stage.build(EXPERIMENT.compute)
    mute = VisionSize(width=16, depth=2, heads=2, out=16, patch=14, image=(42, 42), frames=3)
    stage = dataclasses.replace(EXPERIMENT.stage, clip_teacher=ClipTeacher(mute))
    with pytest.raises(
        UserError,
        match="pools by attention; set stage.mask.kind=random, or",
    ):
        stage.build(EXPERIMENT.compute)


def open_batches(*overrides):
    """Opens the batches of the first stage of the quickstart, whose corpus is not there."""
    experiment = load_experiment("stage1_tiny", overrides)
    mesh = build_mesh(experiment.mesh, jax.devices()[:1])
    open_feed(experiment, experiment.stage.build(experiment.compute), mesh, Path("nowhere"))


@pytest.mark.parametrize(
    "without, missing, ways",
    [
        (
            ["stage.clip_teacher=none", "stage.clip=none", "stage.pooled=none"],
            "attention",
            ["stage.mask.kind=random"],
        ),
        (
            ["stage.clip_teacher=none"],
            "attention, clip, pooled",
            ["stage.mask.kind=random", "stage.clip=none", "stage.pooled=none"],
        ),
        (["stage.mae_teacher=none", "data.fields.video.rule.frames=4"], "mae", ["stage.mae=none"]),
    ],
)
def test_a_stage_without_its_teacher_says_which_overrides_do_without_it(without, missing, ways):
    with pytest.raises(UserError, match=f"wants {missing} in its batch, .* to do without, set") as raised:
        open_batches(*without)
    assert all(way in str(raised.value).partition("to do without")[2] for way in ways)
    # With what the sentence names, the next thing that is missing is the corpus.
    with pytest.raises(UserError, match="shards/demo is not a corpus"):
        open_batches(*without, *ways)
