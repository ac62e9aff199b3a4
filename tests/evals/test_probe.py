"""The linear probe: its optimum, its choice of strength, and what is counted of a test set."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.evals.scoring.logistic import STRENGTHS, choose_l2, fit, held_out, standardised
from ivjax.evals.scoring.probing import score
from ivjax.evals.suites import LinearProbe
from tests.evals.fakes import read_numbers, setting

CLIPS, WIDTH, CLASSES = 60, 12, 3  # of every training set here: the regression is compiled once
NAMES = ("blue", "green", "red")
RNG = np.random.default_rng(0)
LABELS = np.arange(CLIPS) % CLASSES
NOISE = RNG.normal(size=(100, WIDTH))


def apart(labels):
    """Features of which a linear classifier can tell everything, on scales and means of their own."""
    centres = 3 * np.eye(CLASSES, WIDTH)[labels]
    return ((centres + 0.3 * NOISE[: len(labels)]) * 10.0 ** np.arange(-3, WIDTH - 3) + 5).astype(np.float32)


class TableFeatures:
    """The clip whose pixels all are `number` has row `number`; a fresh encoder sees noise."""

    frames, image, width, feature = 2, (4, 6), WIDTH, "pooled"

    def __init__(self, table):
        self._table = table
        self.batches = []

    def video(self, clips):
        """Returns the rows of clips."""
        self.batches.append(len(clips))
        return self._table[clips[:, 0, 0, 0, 0]]

    def fresh(self):
        """Returns the encoder of noise."""
        return TableFeatures(NOISE.astype(np.float32))


def listed(folder, name, numbers, values, several=()):
    """An annotation file of clips with a colour, and of some with two."""
    pairs = zip(numbers, values, strict=False)
    rows = [{"video": f"{n}.mp4", "attributes": {"colour": value}} for n, value in pairs]
    rows += [{"video": f"{n}.mp4", "attributes": {"colour": "red", "colour2": "blue"}} for n in several]
    for row in rows:
        (folder / row["video"]).write_bytes(b"")
    (folder / name).write_text(json.dumps(rows))
    return folder / name


def sets(folder, wrong=0):
    """Training clips 0 to 59; test clips 60 to 89, the first `wrong` of them with another colour."""
    colours = [NAMES[n % CLASSES] for n in range(100)]
    listed(folder, "train.json", range(CLIPS), colours, several=(97, 98))
    tested = [NAMES[(NAMES.index(colour) + 1) % CLASSES] for colour in colours[60 : 60 + wrong]]
    test = listed(folder, "test.json", range(60, 90), [*tested, *colours[60 + wrong :]], several=(99,))
    return test, LinearProbe(train=str(folder / "train.json"), attribute="colour")


def fitted(x, weights, l2):
    found = fit(x, LABELS, weights, l2, CLASSES)
    return [np.asarray(leaf, np.float64) for leaf in found]


@pytest.mark.parametrize("l2", [1e-3, 1.0])
def test_the_optimum_has_no_slope_and_leaves_out_what_weighs_nothing(l2):
    x = NOISE[:CLIPS].astype(np.float32)
    weights = (np.arange(CLIPS) % 5 > 0) & (LABELS != 2)  # a class never occurs
    kernel, bias, slope = fitted(x, weights, l2)
    logits = x @ kernel + bias
    wrong = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)) - np.eye(CLASSES)[LABELS]
    wrong *= weights[:, None] / weights.sum()
    np.testing.assert_allclose(x.T @ wrong + l2 * kernel, 0, atol=1e-5)
    np.testing.assert_allclose(wrong.sum(0) + l2 * bias, 0, atol=1e-5)
    assert slope < 1e-5 and np.abs(kernel).max() > 0.01
    other = np.where(weights[:, None] > 0, x, 7)
    np.testing.assert_array_equal(fitted(other, weights, l2)[0], kernel)


def test_held_out_clips_choose_the_strength():
    x, _ = standardised(apart(LABELS), apart(LABELS))
    held = held_out([f"clip{n}" for n in range(CLIPS)])
    assert choose_l2(x, LABELS, held, CLASSES) == min(STRENGTHS)
    contrary = np.where(held, (LABELS + 1) % CLASSES, LABELS)  # the surer, the worse
    assert choose_l2(x, contrary, held, CLASSES) == max(STRENGTHS)


def test_a_fifth_is_held_out_by_the_names_alone():
    ids = [f"clip{n}" for n in range(103)]
    held = held_out(ids)
    assert held.sum() == 20 and not held[:20].all()
    assert {ids[n] for n in np.flatnonzero(held)} == {
        ids[::-1][n] for n in np.flatnonzero(held_out(ids[::-1]))
    }


def test_features_are_standardised_by_the_training_set():
    train = np.array([[1, 1000.1, 0], [3, 1000.1, 0]], np.float32)
    first, second = standardised(train, np.array([[5, 1000.2, 2]], np.float32))
    np.testing.assert_allclose(first, [[-1, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(second, [[3, 0, 0]])


@pytest.mark.parametrize("wrong", [0, 3])
def test_separable_classes_are_told_apart_and_the_gain_is_over_random_features(tmp_path, wrong):
    path, options = sets(tmp_path, wrong)
    encoder, seen = TableFeatures(apart(np.arange(100) % CLASSES)), []

    def read(views, *args, **options):
        views = list(views)
        seen.append(len(views))
        return read_numbers(views, *args, **options)

    result = score(setting(encoder, path, batch=16, read=read), options)
    assert seen == [60, 30]  # once for both encoders
    metrics, facts = result.metrics, result.protocol
    assert metrics["top1"] == 100 - 10 * wrong / 3
    assert 10 < metrics["random_top1"] < 60 and metrics["chance"] == 33.33
    assert metrics["gain"] == round(metrics["top1"] - metrics["random_top1"], 2)
    assert set(metrics) < set(LinearProbe.METRICS)
    assert (facts["train videos"], facts["videos"]) == (60, 30)
    assert facts["left out of train"] == {"several values": 2, "no value": 0}
    assert facts["left out of test"]["several values"] == 1
    assert len(facts["L2 chosen"]) == 2 and facts["largest slope left"] < 1e-5
    assert encoder.batches == [16, 16, 16, 12, 16, 14]
    assert "pooled, mean over the clips of a video" in result.table()


def test_a_probe_of_one_frame_sees_the_middle_one_alone(tmp_path):
    # The first frame of a clip tells what it is; the middle one is the same in all clips.
    path, options = sets(tmp_path)
    encoder = TableFeatures(apart(np.arange(100) % CLASSES))

    def read(views, *args, **options):
        for clip in read_numbers(views, *args, **options):
            clip[len(clip) // 2] = 99
            yield clip

    found = score(setting(encoder, path, read=read), replace(options, still=True))
    assert found.metrics["top1"] == 100 and found.metrics["still_top1"] < 60
    assert {"still_top1", "random_top1"} < set(found.metrics) < set(LinearProbe.METRICS)
    assert found.protocol["one frame"] == "the same encoder on the middle frame, repeated"
    alone = score(setting(encoder, path, read=read), replace(options, still=True, baseline="none"))
    assert alone.metrics["still_top1"] == found.metrics["still_top1"] and "gain" not in alone.metrics


def test_labels_are_told_apart_too_and_a_class_that_training_lacks_is_counted(tmp_path):
    for number in range(90):
        (tmp_path / f"{number}.mp4").write_bytes(b"")
    for name, numbers in (("train", range(60)), ("test", range(60, 90))):
        lines = [f"{n}.mp4,{10 if n == 89 else 2 * (n % 2)}\n" for n in numbers]
        (tmp_path / f"{name}.csv").write_text("".join(lines))
    encoder = TableFeatures(apart(np.arange(100) % 2))
    options = LinearProbe(train=str(tmp_path / "train.csv"), baseline="none")
    result = score(setting(encoder, tmp_path / "test.csv"), options)
    assert result.metrics["top1"] == 96.67 and "gain" not in result.metrics
    assert result.protocol["class names"] == ["0", "2", "10"]
    assert result.protocol["test clips of classes that train lacks"] == 1


def test_the_parts_of_a_video_are_averaged(tmp_path):
    # A video's second part has the next number, so each is of two colours; their mean tells which two.
    path, options = sets(tmp_path)
    encoder = TableFeatures(apart(np.arange(100) % CLASSES))
    result = score(setting(encoder, path, clips=2), options)
    assert result.metrics["top1"] == 100 and sum(encoder.batches) == 2 * (CLIPS + 30)


def test_broken_clips_of_either_set_are_listed(tmp_path):
    path, options = sets(tmp_path)
    (tmp_path / "broken59.mp4").write_bytes(b"")
    rows = json.loads((tmp_path / "train.json").read_text())
    rows.append({"video": "broken59.mp4", "attributes": {"colour": "red"}})
    (tmp_path / "train.json").write_text(json.dumps(rows))
    encoder = TableFeatures(apart(np.arange(100) % CLASSES))
    result = score(setting(encoder, path, broken=0.1), options)
    assert [fault.clip for fault in result.broken] == ["broken59.mp4"]
    with pytest.raises(UserError, match="1 of 61 clips cannot be scored"):
        score(setting(encoder, path), options)


def test_sets_that_cannot_be_probed_are_errors(tmp_path):
    encoder = TableFeatures(apart(np.arange(100) % CLASSES))
    path, options = sets(tmp_path)
    with pytest.raises(UserError, match="is both the training set and the test set"):
        score(
            setting(encoder, path),
            LinearProbe(train=f"{tmp_path}/../{tmp_path.name}/test.json", attribute="colour"),
        )
    few = listed(tmp_path, "few.json", range(4), NAMES + NAMES)
    with pytest.raises(UserError, match="has 4 clips with one colour; a probe needs 5"):
        score(setting(encoder, path), LinearProbe(train=str(few), attribute="colour"))
    red = listed(tmp_path, "red.json", range(6), ["red"] * 6)
    with pytest.raises(UserError, match="have the colour red; a probe needs 2 classes"):
        score(setting(encoder, path), LinearProbe(train=str(red), attribute="colour"))
    both = listed(tmp_path, "both.json", (), (), several=(1, 2))
    with pytest.raises(UserError, match="every clip of .*both.json has several values of colour"):
        score(setting(encoder, both), options)
    with pytest.raises(UserError, match="an attribute 'colours'; did you mean 'colour'"):
        score(setting(encoder, path), LinearProbe(train=options.train, attribute="colours"))
