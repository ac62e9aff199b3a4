"""Class names: labels are matched by name, never scored in another order, and results say the names."""

import dataclasses
import json

import numpy as np
import pytest

from ivjax.data_pipelines.store.manifest import read_manifest, write_manifest
from ivjax.errors import UserError
from ivjax.evals.items import EvalData, open_items
from ivjax.evals.scoring import classifying, probing, recognising
from ivjax.evals.scoring.known_classes import KnownClasses
from ivjax.evals.suites import LinearProbe, ViewClassification, ZeroShot
from ivjax.evals.views import read_views
from tests.data_pipelines.corpora import corpus_of
from tests.evals.fakes import COLOURS, ColourEncoder, colour_clip, setting
from tests.evals.test_classify import listed
from tests.evals.test_probe import CLIPS, WIDTH

ORDER = tuple(COLOURS)  # of the model: red, green, blue


class Colours(ColourEncoder):
    """A classifier whose logits are how red, green and blue a clip is."""

    feature = "mean"

    def video(self, clips):
        """Returns logits that are sure."""
        return 20 * super().video(clips)


def corpus(folder, clips, names=()):
    """A corpus of clips of colours, labelled by their numbers among `names`, which the manifest holds."""
    order = list(names or ORDER)
    made = corpus_of(folder, [colour_clip(n, c, label=order.index(c)) for n, c in enumerate(clips)])
    manifest = read_manifest(made)
    write_manifest(made, manifest.shards, manifest.made_with, names)
    return made


def read_test(path, **fields):
    """A test that reads real clips."""
    return setting(Colours(), path, read=read_views, **fields)


SHOWN = ("red", "red", "blue", "green")


@pytest.mark.parametrize("names", [ORDER, ORDER[::-1], (), ("black", *ORDER)])
def test_classes_in_another_order_are_matched_by_name(tmp_path, names):
    data, file = corpus(tmp_path / "c", SHOWN, names), tmp_path / "said.jsonl"
    result = classifying.score(read_test(data, classes=ORDER), ViewClassification(predictions=str(file)))
    assert result.metrics["top1"] == 100.0
    assert [(one["class"], one["name"], one["clips"], one["top1"]) for one in result.by_class] == [
        (0, "red", 2, 100.0),
        (1, "green", 1, 100.0),
        (2, "blue", 1, 100.0),
    ]
    assert result.protocol["labels are"] == ("matched by name" if names else "numbers of the model's classes")
    assert result.protocol["class names"] == list(ORDER) and json.loads(result.json())["by_class"]
    assert ["blue", "1", "100.00"] in [line.split() for line in result.table().splitlines()]
    said = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["label"], line["name"]) for line in said] == [(ORDER.index(c), c) for c in SHOWN]
    assert [line["top5"][0]["name"] for line in said] == list(SHOWN)


def test_a_class_that_the_model_lacks_is_refused(tmp_path):
    data = corpus(tmp_path / "c", ("red", "blue"), ("blue", "red"))
    reason = (
        "clip clip1 is of the class 'blue', which is none of the model's 3 .red, green, blu.; did you mean"
    )
    with pytest.raises(UserError, match=reason):
        classifying.score(read_test(data, classes=("red", "green", "blu")))
    with pytest.raises(UserError, match="the run names 2 classes and the model has 3"):
        classifying.score(read_test(data, classes=("red", "green")))


def test_words_of_a_list_need_the_names_of_the_model(tmp_path):
    path = listed(tmp_path, [("0.mp4", "red"), ("1.mp4", "green")])
    assert open_items(EvalData(str(path))).classes == ("green", "red")
    with pytest.raises(UserError, match="labels of the test set are words, and the weights do not say"):
        classifying.score(setting(Colours(), path))
    names = tmp_path / "names.txt"
    names.write_text("\n".join(ORDER))
    result = classifying.score(setting(Colours(), path), ViewClassification(classes=str(names)))
    assert [one["name"] for one in result.by_class] == ["red", "green"]
    assert result.protocol["class names by"] == str(names)


def test_names_of_a_corpus_serve_weights_that_know_none(tmp_path):
    data = corpus(tmp_path / "c", SHOWN, ORDER)
    result = classifying.score(read_test(data))
    assert result.metrics["top1"] == 100.0 and result.protocol["class names by"] == "the test set"


def test_words_and_numbers_of_a_list_disturb_only_who_reads_labels(tmp_path):
    items = open_items(EvalData(str(listed(tmp_path, [("0.mp4", "red"), ("1.mp4", 1)]))))
    assert len(items) == 2
    with pytest.raises(UserError, match="are words .* and numbers"):
        _ = items.classes


def test_zero_shot_takes_the_names_of_the_test_set(tmp_path):
    names = ("green", "blue", "red")
    data = corpus(tmp_path / "c", SHOWN, names)
    result = recognising.score(read_test(data), ZeroShot(prompts=("{}",)))
    assert result.metrics["top1"] == 100.0 and result.protocol["class names"] == list(names)
    file = tmp_path / "names.txt"
    file.write_text("\n".join(ORDER))
    result = recognising.score(read_test(data), ZeroShot(prompts=("{}",), classes=str(file)))
    assert result.metrics["top1"] == 100.0 and [one["name"] for one in result.by_class] == list(ORDER)
    with pytest.raises(
        UserError, match="has no class names; give a file of names with --classes, or an --attr"
    ):
        recognising.score(read_test(corpus(tmp_path / "d", SHOWN)), ZeroShot())


def test_a_probe_matches_the_labels_of_its_two_sets_by_name(tmp_path):
    class Wide(Colours):
        width = WIDTH

        def video(self, clips):
            return np.pad(super().video(clips), ((0, 0), (0, WIDTH - 3)))

    train = corpus(tmp_path / "train", ORDER * (CLIPS // 3), ORDER)
    data = corpus(tmp_path / "test", SHOWN, ORDER[::-1])
    suite = LinearProbe(train=str(train), baseline="none")
    result = probing.score(dataclasses.replace(read_test(data), encoder=Wide()), suite)
    assert result.metrics["top1"] == 100.0 and result.protocol["class names"] == sorted(ORDER)
    numbered = corpus(tmp_path / "numbered", SHOWN)
    with pytest.raises(
        UserError, match="train have names and those of .*numbered are numbers; build both from"
    ):
        probing.score(dataclasses.replace(read_test(numbered), encoder=Wide()), suite)


def test_without_names_a_result_has_numbers():
    known = KnownClasses()
    assert known.name(3) is None and known.facts() == {"labels are": "numbers of the model's classes"}
