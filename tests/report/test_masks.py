"""Masks of stage 1: what they show, read from where they come from."""

import dataclasses
import functools

import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.experiment.storing import store_experiment
from ivjax.report import masks
from ivjax.stages.teachers import ClipTeacher
from tests.train import micro


@pytest.fixture(autouse=True, scope="module")
def seen_once():
    """The teacher looks at the clips of a run once in this file: to compile that takes seconds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(masks, "masked_clips", functools.cache(masks.masked_clips))
        yield


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


def test_masks_are_drawn_from_a_run(run, tmp_path):
    picture = masks.draw_masks(run, tmp_path / "plots" / "masks.png", clips=2)
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5000


def test_a_run_without_a_teacher_is_an_error(tmp_path):
    store_experiment(micro.experiment, tmp_path / "run")
    with pytest.raises(UserError, match="trained without a clip teacher"):
        masks.masked_clips(tmp_path / "run")
