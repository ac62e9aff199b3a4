"""Masks of stage 1: what they show, read from where they come from."""

import dataclasses

import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.experiment.storing import store_experiment
from ivjax.report import masks
from ivjax.stages.teachers import ClipTeacher
from tests.train import micro


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose clip teacher is random."""
    folder, stage = tmp_path_factory.mktemp("run"), micro.experiment.stage
    teacher = dataclasses.replace(stage.student, width=16, depth=1, frames=1)
    stage = dataclasses.replace(stage, mae=None, clip_teacher=ClipTeacher(teacher))
    experiment = dataclasses.replace(micro.experiment, stage=stage, init_fresh=("*",))
    micro.saved(folder, experiment)
    return folder


def test_the_mask_keeps_its_share_of_each_frame_and_follows_attention(run):
    seen = masks.masked_clips(run)
    clips, times, rows, columns = seen.visible.shape
    assert (clips, times, rows, columns) == (16, *micro.experiment.stage.student.grid)
    assert seen.frames.shape == (clips, times, *micro.experiment.stage.student.image, 3)
    np.testing.assert_array_equal(seen.visible.sum((2, 3)), rows * columns - int(rows * columns * 0.5))
    sums = seen.attention.sum((2, 3))
    assert (sums > 0).all() and (sums < 1).all()  # the class token has its share
    assert len({frame.tobytes() for clip in seen.visible for frame in clip}) > clips


def test_a_run_without_a_teacher_is_an_error(tmp_path):
    store_experiment(micro.experiment, tmp_path / "run")
    with pytest.raises(UserError, match="trained without a clip teacher"):
        masks.masked_clips(tmp_path / "run")
