"""Classification in several views: which views, how they are merged, and who is who."""

import json

import numpy as np
import pytest
from PIL import Image

from ivjax.data_pipelines.augment.geometry import View as Square
from ivjax.data_pipelines.sampling import Dense, Spread, Ticks
from ivjax.data_pipelines.store.records import pack
from ivjax.errors import UserError
from ivjax.evals.scoring.classifying import class_accuracies, merged, reading_of_views, score
from ivjax.evals.suites import ViewClassification
from ivjax.evals.suites.suite import NAMING
from ivjax.evals.views import read_views
from tests.data_pipelines.corpora import write_corpus
from tests.evals.fakes import colour_clip, read_numbers, setting

LOGITS = np.random.default_rng(0).normal(size=(256, 7)).astype(np.float32) * 2


class TableClassifier:
    """The clip whose pixels all are `number` has row `number` of logits."""

    frames, image, width = 2, (4, 4), 7

    def video(self, clips):
        """Returns the logits of clips."""
        return LOGITS[clips[:, 0, 0, 0, 0]]


def read_places(views, frames, image, neighbours):
    """Frames full of the clip's name times 40, plus 10 for each clip of it, plus 1 for each crop."""
    views = list(views)
    for view, (found,) in zip(views, (list(read_numbers([v], frames, image)) for v in views), strict=True):
        yield found * 40 + 10 * view.rule.view + view.crop.number if isinstance(found, np.ndarray) else found


def listed(folder, rows, name="test.csv"):
    """A list of files with labels, all of which are there."""
    for path, _ in rows:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(b"")
    (folder / name).write_text("".join(f"{path},{label}\n" for path, label in rows))
    return folder / name


def by_hand(number, clips, crops):
    """The mean of the softmax over the views of a video."""
    views = [LOGITS[40 * number + 10 * clip + crop] for clip in range(clips) for crop in range(crops)]
    powers = [np.exp(np.float64(row)) for row in views]
    return np.mean([row / row.sum() for row in powers], axis=0)


@pytest.mark.parametrize("clips, crops, batch", [(1, 1, 4), (4, 3, 5), (2, 10, 64)])
def test_views_are_merged_as_by_hand(tmp_path, clips, crops, batch):
    numbers, file = range(5), tmp_path / "said.jsonl"
    expected = np.stack([by_hand(number, clips, crops) for number in numbers])
    labels = np.argsort(-expected, axis=-1)[[0, 1, 2, 3, 4], [0, 0, 1, 5, 6]]
    path = listed(tmp_path, [(f"{n}.mp4", label) for n, label in enumerate(labels)])
    test = setting(TableClassifier(), path, clips=clips, batch=batch, read=read_places)
    result = score(test, ViewClassification(clips=clips, crops=crops, predictions=str(file)))
    assert (result.metrics["top1"], result.metrics["top5"]) == (40, 60)
    assert set(result.metrics) < set(ViewClassification.METRICS)
    said = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["id"], line["label"]) for line in said] == [(f"{n}.mp4", labels[n]) for n in numbers]
    for line, row in zip(said, expected, strict=True):
        order = np.argsort(-row)[:5]
        assert [top["class"] for top in line["top5"]] == order.tolist()
        np.testing.assert_allclose([top["probability"] for top in line["top5"]], row[order], atol=2e-6)
    assert result.protocol["views a video"] == clips * crops and result.protocol["crops a clip"] == crops


def test_classes_count_alike_in_their_mean():
    probabilities = np.eye(3)[[0, 0, 0, 1, 1, 0]]
    found = class_accuracies(probabilities, [[0], [0], [0], [0], [1], [1]])
    assert (found["top1"], found["mean_class"], found["most_frequent"]) == (66.67, 62.5, 66.67)
    assert class_accuracies(np.full((2, 3), 1 / 3), [[0], [1]])["top1"] == 0  # a tie is no hit


def test_several_labels_of_some_videos_give_all_metrics_that_are_named():
    found = class_accuracies(np.eye(6), [[0], [1, 2], [2], [3], [4], [5]])
    assert set(found) == {*NAMING, "map"} == set(ViewClassification.METRICS) - {"mean_class"}


def test_map_is_the_mean_over_classes_of_their_average_precisions():
    # Class 0: right videos at places 1 and 3 of its order, so (1 + 2/3) / 2. Class 1: at place 2 alone, 1/2.
    # Class 2: at 1 and 2, so 1. Class 3 has no right video and does not count.
    scores = np.array([[9, 1, 5, 0], [7, 9, 9, 1], [5, 3, 0, 2], [3, 5, 1, 3]]) / 20
    found = class_accuracies(scores, [[0, 2], [2], [0], [1]])
    assert found["map"] == round(100 * (5 / 6 + 1 / 2 + 1) / 3, 2)
    assert "mean_class" not in found and found["top1"] == 75


def test_rows_of_one_part_of_a_file_are_one_video_with_all_their_labels(tmp_path):
    rows = [("0.mp4", 1), ("1.mp4", 2), ("0.mp4", 5), ("0.mp4", 1)]
    path, file = listed(tmp_path, rows), tmp_path / "said.jsonl"
    test = setting(TableClassifier(), path, read=read_places)
    suite = ViewClassification(labels="several", predictions=str(file))
    result = score(test, suite)
    assert result.protocol["videos"] == 2 and result.protocol["rows listed twice"] == 0
    said = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["labels"] if "labels" in line else line["label"] for line in said] == [[1, 5], 2]
    probabilities = np.stack([by_hand(number, 1, 1) for number in range(2)])
    order = np.argsort(-probabilities, axis=0)  # of the videos, for each class
    precisions = [1 if order[0, label] == video else 0.5 for label, video in ((1, 0), (5, 0), (2, 1))]
    assert result.metrics["map"] == round(100 * float(np.mean(precisions)), 2)
    assert score(test).protocol["videos"] == 3  # without it, each label is a video of its own


def test_equal_names_in_two_folders_are_two_videos_and_equal_rows_are_one(tmp_path):
    rows = [("a/0.x.mp4", 1), ("b/0.x.mp4", 2), ("a/0.y.mp4", 1), ("a/0.x.mp4", 1), ("c/1.mp4", 3)]
    path, file = listed(tmp_path, rows), tmp_path / "said.jsonl"
    test = setting(TableClassifier(), path, read=read_places)
    result = score(test, ViewClassification(predictions=str(file)))
    assert result.protocol["videos"] == 4 and result.protocol["rows listed twice"] == 1
    said = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["id"], line["label"]) for line in said] == [*rows[:3], rows[4]]


def test_clips_of_a_corpus_are_told_apart_whatever_they_are_called(tmp_path):
    clips = [colour_clip(0, name, label=n) for n, name in enumerate(("red", "green", "blue"))]

    class Brightest:
        frames, image, width = 2, (8, 8), 3

        def video(self, clips):
            return clips.mean((1, 2, 3)).astype(np.float32)

    corpus = write_corpus(tmp_path / "corpus", [pack(clip) for clip in clips])
    result = score(
        setting(Brightest(), corpus, clips=2, read=read_views), ViewClassification(clips=2, crops=3)
    )
    assert result.metrics["top1"] == 100 and result.protocol["videos"] == 3


def test_folders_of_frames_are_classified_like_videos(tmp_path):
    colours = ("red", "green", "blue")
    for number, name in enumerate(colours):
        (tmp_path / name).mkdir()
        picture = np.full((16, 24, 3), 20, np.uint8)
        picture[..., number] = 200
        for frame in range(1, 13):  # the first frames are dark, and frame 10 sorts after frame 9
            shown = picture if frame > 4 else picture // 10
            Image.fromarray(shown).save(tmp_path / name / f"img_{frame}.jpg", quality=95)
    (tmp_path / "test.csv").write_text("".join(f"{name} 12 {n}\n" for n, name in enumerate(colours)))
    seen = []

    class Brightest:
        frames, image, width = 3, (8, 8), 3

        def video(self, clips):
            seen.append(clips)
            return clips.mean((1, 2, 3)).astype(np.float32)

    source = {"kind": "frame_folders", "options": {"fps": "12"}}
    result = score(setting(Brightest(), tmp_path / "test.csv", read=read_views, **source))
    assert result.metrics["top1"] == 100 and result.protocol["videos"] == 3
    bright = np.concatenate(seen).max((2, 3, 4))
    assert (bright[:, 0] < 60).all() and (bright[:, 1:] > 150).all()


@pytest.mark.parametrize(
    "sampling, rule", [("kinetics", Spread(8, "view", 1, 2)), ("ssv2", Ticks(8, "view", 1, 2))]
)
def test_views_follow_the_originals_rules_clip_by_clip(sampling, rule):
    plan = reading_of_views(ViewClassification(clips=2, crops=3, sampling=sampling), None, 8).views
    assert [view.crop for view in plan] == [Square(number, 3) for number in range(3)] * 2
    assert [view.rule for view in plan[3:]] == [rule] * 3 and plan[0].rule.view == 0
    dense = reading_of_views(ViewClassification(clips=2, sampling="ucf"), None, 8).views
    assert [view.rule for view in dense] == [Dense(8, 4, 0, 2), Dense(8, 4, 1, 2)]


def test_what_cannot_be_classified_is_an_error(tmp_path):
    test = setting(TableClassifier(), listed(tmp_path, [("a/0.mp4", 0), ("a/1.mp4", 7)]), read=read_places)
    with pytest.raises(
        UserError, match="1.mp4 has label 7, and the classifier's 7 classes are numbered 0 to 6"
    ):
        score(test)
    with pytest.raises(UserError, match="no clip of .* has a label"):
        score(setting(TableClassifier(), listed(tmp_path, [("0.mp4", -1)], "none.csv"), read=read_places))
    with pytest.raises(UserError, match="crops must be 1 or more, got 0"):
        ViewClassification(crops=0)
    path = listed(tmp_path, [("a/0.mp4", 0), ("broken1.mp4", 1)], "broken.csv")
    with pytest.raises(UserError, match="1 of 2 clips cannot be scored"):
        score(setting(TableClassifier(), path, read=read_places))
    result = score(setting(TableClassifier(), path, read=read_places, broken=0.5))
    assert result.protocol["videos"] == 1 and result.broken[0].clip == "broken1.mp4"


def test_probabilities_of_sure_logits_are_finite():
    np.testing.assert_allclose(merged(np.float32([[1e4, 0], [0, 1e4], [1e4, 0]])), [2 / 3, 1 / 3])
