"""Clips are tested by the frame rule and the crop of the run that the model comes from."""

import dataclasses
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from ivjax.data_pipelines.augment.geometry import MultiScaleCrop, RandomResizedCrop, View, Whole
from ivjax.data_pipelines.augment.recipe import FINETUNE, TRAIN_STAGE1, TRAIN_STAGE2, Augment
from ivjax.data_pipelines.fields import Caption, Frames, Label
from ivjax.data_pipelines.fields.field import ArraySpec, RowDraw
from ivjax.data_pipelines.load.examples import OpenClip
from ivjax.data_pipelines.load.mixture import Corpus, Media, Mixture
from ivjax.data_pipelines.load.synthetic import SyntheticClips
from ivjax.data_pipelines.sampling import (
    Dense,
    Intervals,
    PerSecond,
    Segments,
    Spread,
    Stretched,
    Ticks,
    Within,
)
from ivjax.data_pipelines.sampling.for_tests import EveryOf, MiddleDraws, rule_for_tests
from ivjax.data_pipelines.tokenizers.clip_bpe import ClipBpe
from ivjax.data_pipelines.video.encode import encode_video
from ivjax.errors import UserError
from ivjax.evals.own_frames import OwnFrames, own_frames, own_frames_of, reading_of, views_of
from ivjax.evals.scoring.classifying import reading_of_views
from ivjax.evals.suites import Retrieval, ViewClassification
from ivjax.evals.views import read_views
from ivjax.experiment.storing import store_experiment
from tests.data_pipelines.corpora import make_clip
from tests.train import line

NO_DRAWS = np.random.default_rng(0)
RUN = OwnFrames(Spread(4, "middle"), Whole(), "data.fields.video")


@pytest.mark.parametrize(
    "rule, counterpart",
    [
        (Intervals(4, original_draw=True), Intervals(4, "middle")),
        (Spread(4), Spread(4, "middle")),
        (Spread(4, "view", 1, 2), Spread(4, "view", 1, 2)),
        (Ticks(4, short="repeat_first"), Ticks(4, "middle", short="repeat_first")),
        (Dense(4, 2), Dense(4, 2, 0)),
        (Stretched(4), Stretched(4, pick="middle")),
        (Segments(4), Ticks(4, "middle")),
        (Segments(1, 4, 3), Dense(4, 3, 0)),
        (Segments(2, 2), MiddleDraws(Segments(2, 2))),
        (PerSecond(4), PerSecond(4)),
        (Within(Spread(4), 1.0), Within(Spread(4, "middle"), 1.0)),
    ],
)
def test_a_rule_of_tests_reads_the_middle_of_what_could_be_drawn(rule, counterpart):
    found = rule_for_tests(rule)
    assert found == counterpart and rule_for_tests(found) == found and found.frames == rule.frames
    rng = np.random.default_rng(1)
    drawn = np.stack([rule.choose(80, 8.0, rng) for _ in range(200)])
    chosen = found.choose(80, 8.0, NO_DRAWS)
    assert (drawn.min(0) <= chosen).all() and (chosen <= drawn.max(0)).all()
    np.testing.assert_allclose(chosen, (drawn.min(0) + drawn.max(0)) / 2, atol=2)


@dataclass(frozen=True)
class Drawing:
    """A frame rule of a user's own, which says nothing of tests."""

    frames: int = 2
    by: str = "integers"

    def choose(self, length, fps, rng):
        """Returns a random frame of each half."""
        return np.sort(getattr(rng, self.by)(length // 2, size=2)) + np.array([0, length // 2])


def test_a_rule_without_a_counterpart_draws_the_middle_or_says_what_it_needs():
    assert rule_for_tests(Drawing()).choose(20, 8.0, NO_DRAWS).tolist() == [4, 14]
    with pytest.raises(UserError, match="draws by normal, .* give the rule a method for_tests"):
        rule_for_tests(Drawing(by="normal")).choose(20, 8.0, NO_DRAWS)


@pytest.mark.parametrize(
    "crop, counterpart",
    [
        (Whole(), Whole()),
        (View(1, 3), View(1, 3)),
        (RandomResizedCrop((0.5, 1.0)), Whole()),
        (RandomResizedCrop((0.08, 1.0)), View()),
        (MultiScaleCrop(), View()),
    ],
)
def test_a_crop_of_tests_is_that_of_the_originals(crop, counterpart):
    assert Augment(crop, flip=0.5).for_tests() == Augment(counterpart)


def experiment(data):
    return dataclasses.replace(line.experiment, data=data)


def test_the_eval_corpus_decides_and_else_the_corpus():
    fields = {"text": Caption(ClipBpe()), "label": Label(), "video": Frames(Spread(4), FINETUNE)}
    data = Mixture((Corpus("a"),), fields)
    assert own_frames(experiment(data)) == OwnFrames(Spread(4, "middle"), View(), "data.fields.video")
    other = Corpus("b", changes=("video.augment=train_stage2", "video.rule=Ticks(frames=4)"))
    found = own_frames(experiment(dataclasses.replace(data, eval_corpora=(other,))))
    assert found == OwnFrames(Ticks(4, "middle"), Whole(), "data.eval_corpora.0.changes: video")
    images = Mixture((Corpus("c"),), {"video": Frames(Intervals(1), TRAIN_STAGE2)})
    found = own_frames(experiment(Media({"image": images, "video": data})))
    assert found == OwnFrames(Spread(4, "middle"), View(), "data.mixtures.video.fields.video")
    assert own_frames(experiment(SyntheticClips())) is None
    assert own_frames(experiment(Mixture((Corpus("a"),), {"label": Label()}))) is None


def test_a_run_is_asked_and_a_weight_file_is_not(tmp_path):
    data = Mixture((Corpus("a"),), {"video": Frames(Segments(8), TRAIN_STAGE1)})
    store_experiment(experiment(data), tmp_path / "run")
    expected = OwnFrames(Ticks(8, "middle"), View(), "data.fields.video")
    assert own_frames_of(tmp_path / "run") == expected
    assert own_frames_of(f"{tmp_path}/run#encoder") == expected
    assert own_frames_of(tmp_path / "weights.pth") is None


def test_a_tower_of_fewer_frames_sees_every_other_one():
    eight = dataclasses.replace(RUN, rule=Intervals(8, "middle"))
    assert eight.fitted(8) == eight
    fitted = eight.fitted(4)
    assert fitted.rule == EveryOf(eight.rule, 2) and fitted.rule.frames == 4
    whole = eight.rule.choose(64, 8.0, NO_DRAWS)
    assert fitted.rule.choose(64, 8.0, NO_DRAWS).tolist() == whole[::2].tolist()
    assert eight.fitted(1) is None and eight.fitted(3) is None and eight.fitted(16) is None
    reading = reading_of(eight, 3, 1)
    assert reading.origin == "the suite: clips of the run have 8 frames"
    assert [view.rule for view in reading.views] == [None]


def test_several_clips_are_the_views_of_the_rule_or_parts_of_the_video():
    assert [view.rule for view in views_of(Ticks(4, "middle"), [Whole()], 2)] == [
        Ticks(4, "view", 0, 2),
        Ticks(4, "view", 1, 2),
    ]
    views = views_of(Intervals(4, "middle"), [View(0, 2), View(1, 2)], 2)
    assert [(view.parts, view.part, view.crop.number) for view in views] == [
        (2, 0, 0),
        (2, 0, 1),
        (2, 1, 0),
        (2, 1, 1),
    ]
    assert {view.rule for view in views} == {Intervals(4, "middle")}


@pytest.mark.parametrize(
    "suite, rule, crops, origin",
    [
        ({}, RUN.rule, [Whole()], "the run (data.fields.video)"),
        ({"crops": 2}, RUN.rule, [View(0, 2), View(1, 2)], "--crops, else the run (data.fields.video)"),
        (
            {"sampling": "ssv2"},
            Ticks(4, "view"),
            [Whole()],
            "--sampling, else the run (data.fields.video)",
        ),
        ({"sampling": "ucf", "crops": 1}, Dense(4, 4, 0, 1), [View()], "--sampling and --crops"),
        ({"preprocessing": "suite"}, Spread(4, "view"), [View()], "the suite"),
    ],
)
def test_flags_come_before_the_run_and_the_run_before_the_suite(suite, rule, crops, origin):
    reading = ViewClassification(**suite).reading(RUN, 4)
    assert [view.crop for view in reading.views] == crops and reading.origin == origin
    assert {view.rule for view in reading.views} == {rule}


def test_other_suites_read_as_the_run_too():
    reading = Retrieval(clips=2).reading(RUN, 4)
    assert [view.rule for view in reading.views] == [Spread(4, "view", 0, 2), Spread(4, "view", 1, 2)]
    assert str(reading) == (
        "clips are read by the run (data.fields.video): frames Spread(frames=4, pick=middle); "
        "pictures Whole()"
    )
    assert Retrieval(preprocessing="suite").reading(RUN, 4).origin == "the suite"
    assert reading_of_views(ViewClassification(), None, 4).facts() == {
        "frames are": "kinetics: one frame of each of T equal parts; later clips take later ones",
        "pictures are": "View()",
        "frames and pictures by": "the suite",
    }


@pytest.mark.parametrize("augment", [Augment(), Augment(View())])
def test_the_pixels_are_those_that_the_run_trains_on(augment):
    """A field without draws and the reader of evals give the same array, bit for bit."""
    wide = np.stack([np.full((24, 40, 3), 20 * frame, np.uint8) for frame in range(8)])
    wide[:, :, 20:, 0] = 250
    record = make_clip(0, payload=encode_video(wide, Fraction(8)))
    field = Frames(Spread(4), augment).for_tests()
    spec = ArraySpec((4, 16, 16, 3), np.dtype(np.uint8))
    with OpenClip(record, 0, None) as clip:
        trained = field.array(clip, spec, RowDraw(0, 0, 0))
    own = OwnFrames(field.rule, field.augment.crop, "")
    views = [dataclasses.replace(view, media=record.payload) for view in reading_of(own, 4, 1).views]
    (tested,) = read_views(views, 4, (16, 16))
    np.testing.assert_array_equal(tested, trained)
