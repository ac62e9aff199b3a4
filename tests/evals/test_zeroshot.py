"""Zero-shot naming: of numbered labels, of attributes, with prompts; multiple choice."""

import numpy as np
import pytest

from ivjax.data_pipelines.tokenizers.caption_text import action_prompts
from ivjax.errors import UserError
from ivjax.evals.items import Item
from ivjax.evals.scoring.choosing import score as choose
from ivjax.evals.scoring.class_names import right_of, values_of
from ivjax.evals.scoring.recognising import class_vectors, score
from ivjax.evals.suites import MultipleChoice, ZeroShot
from ivjax.evals.views import read_views
from tests.data_pipelines.corpora import corpus_of
from tests.evals.fakes import ColourEncoder, TableEncoder, annotated, colour_clip, setting, unit

EYE = np.eye(3)
NAMES = ("walking", "running", "juggling balls")


def action_encoder(videos):
    """Knows the 16 prompts of three actions."""
    texts = {prompt: EYE[number] for number, name in enumerate(NAMES) for prompt in action_prompts(name)}
    return TableEncoder(videos, texts)


def kinetics(folder, labels):
    for number in range(len(labels)):
        (folder / f"{number}.mp4").write_bytes(b"")
    path = folder / "val.csv"
    path.write_text("".join(f"{number}.mp4,{label}\n" for number, label in enumerate(labels)))
    return path


def class_file(folder, text="\n".join(NAMES), name="classes.txt"):
    (folder / name).write_text(text)
    return folder / name


def test_a_kinetics_list_is_scored_with_the_16_prompts_of_actions(tmp_path):
    path = kinetics(tmp_path, [0, 1, 2, 0, -1])
    encoder = action_encoder([*EYE, EYE[1], EYE[0]])
    result = score(setting(encoder, path), ZeroShot(classes=str(class_file(tmp_path))))
    expected = {"top1": 75.0, "chance": 33.33, "times_chance": 2.25, "most_frequent": 50.0}
    assert result.metrics == expected
    assert result.protocol["clips without a label"] == 1
    assert result.protocol["prompts"] == "the 16 of action recognition"
    assert len(encoder.read_texts) == 48


def test_a_class_is_the_mean_of_its_prompts_and_not_of_unit_length():
    texts = {"a red": [1, 0], "the red": [0, 1], "a blue": [1, 1], "the blue": [1, 1]}
    vectors = class_vectors(TableEncoder(EYE, texts), ["red", "blue"], ["a {}", "The {}!"])
    np.testing.assert_allclose(vectors, [[0.5, 0.5], [0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_one_class_is_not_enough(tmp_path):
    one = ZeroShot(classes=str(class_file(tmp_path, "one")))
    with pytest.raises(UserError, match="classes.txt names 1 class; naming needs 2"):
        score(setting(action_encoder(EYE), kinetics(tmp_path, [0])), one)


def corpus(folder):
    """Three clips of one colour each, one of two, one that does not say."""
    clips = [colour_clip(number, name) for number, name in enumerate(("red", "green", "blue"))]
    both = {"colour": "green", "colour2": "blue", "events": "2"}
    clips.append(colour_clip(3, "blue", attributes=both))
    return corpus_of(folder / "corpus", [*clips, colour_clip(4, "red", attributes={"events": "1"})])


def test_an_attribute_of_a_corpus_is_named_and_chance_is_told(tmp_path):
    options = ZeroShot(attribute="colour", prompts=("a {} thing", "{}"))
    result = score(setting(ColourEncoder(), corpus(tmp_path), read=read_views), options)
    assert result.metrics["top1"] == 100 and result.metrics["single_top1"] == 100
    assert result.metrics["chance"] == 41.67 and result.metrics["single_chance"] == 33.33
    assert result.metrics["times_chance"] == 2.4
    assert set(result.metrics) < set(ZeroShot.METRICS)
    facts = result.protocol
    assert facts["class names"] == ["blue", "green", "red"] and facts["clips without a label"] == 1
    assert "any of its values; 1 of 4 clips have several" in facts["right for a clip"]


def test_classes_may_be_more_than_the_values_that_occur(tmp_path):
    names = class_file(tmp_path, "red\ngreen\nblue\npink\n")
    options = ZeroShot(attribute="colour", classes=str(names))
    result = score(setting(ColourEncoder(), corpus(tmp_path), read=read_views), options)
    assert result.metrics["single_chance"] == 25 and result.protocol["prompts"] == ["a video of a {}"]
    wrong = ZeroShot(attribute="colour", classes=str(class_file(tmp_path, "red\ngreen\nblues\n", "w.txt")))
    with pytest.raises(UserError, match="'blue', which is none of the 3 classes; did you mean 'blues'"):
        score(setting(ColourEncoder(), corpus(tmp_path), read=read_views), wrong)


def test_a_value_that_lists_several_counts_for_each_unless_it_is_a_class():
    item = Item("a", "", attributes={"colour": "red, blue", "colour2": "red", "colour4": "green"})
    assert values_of(item, "colour") == ("red", "blue")
    assert values_of(item, "colour", ("red, blue", "red")) == ("red, blue", "red")
    assert right_of(item, "colour", ("blue", "red")) == [1, 0]
    assert values_of(Item("a", "", attributes={"folder": "a, b"}), "folder") == ("a, b",)


def test_folders_and_captions_are_classes_too(tmp_path):
    for name, number in (("walking", 0), ("running", 1)):
        (tmp_path / "v" / name).mkdir(parents=True)
        (tmp_path / "v" / name / f"{number}.mp4").write_bytes(b"")
    encoder = action_encoder(EYE)
    result = score(setting(encoder, tmp_path / "v"), ZeroShot(attribute="folder"))
    assert result.metrics["top1"] == 100 and len(encoder.read_texts) == 32
    rows = [{"video": f"{n}.mp4", "caption": name} for n, name in enumerate(NAMES)]
    result = score(setting(encoder, annotated(tmp_path, rows)), ZeroShot(attribute="caption"))
    assert result.metrics["top1"] == 100 and result.protocol["classes"] == 3


def test_clips_of_a_video_are_aggregated(tmp_path):
    path = kinetics(tmp_path, [0, 1])
    videos = [[1, 0, 0], [0.6, 0.8, 0], [0, 1, 0]]
    options = ZeroShot(classes=str(class_file(tmp_path)), aggregate="max")
    result = score(setting(action_encoder(videos), path, clips=2), options)
    assert result.metrics["top1"] == 100 and result.protocol["clips a video"] == 2


def test_what_cannot_be_named_is_an_error(tmp_path):
    path, names = kinetics(tmp_path, [0, 3]), class_file(tmp_path)
    with pytest.raises(UserError, match="label 3, and the 3 classes are numbered 0 to 2"):
        score(setting(action_encoder(EYE), path), ZeroShot(classes=str(names)))
    with pytest.raises(UserError, match="an attribute 'colours'; did you mean 'colour'"):
        score(setting(ColourEncoder(), corpus(tmp_path), read=read_views), ZeroShot(attribute="colours"))
    with pytest.raises(UserError, match="no clip of .* has a label; name an attribute .*colour, colour2, ev"):
        score(setting(ColourEncoder(), corpus(tmp_path), read=read_views), ZeroShot(classes=str(names)))
    with pytest.raises(UserError, match="all clips have the events '1'"):
        one = corpus_of(tmp_path / "one", [colour_clip(0, "red")], 1)
        score(setting(ColourEncoder(), one, read=read_views), ZeroShot(attribute="events"))
    with pytest.raises(UserError, match="'a video' has no {} where"):
        ZeroShot(attribute="colour", prompts=("a video",))
    with pytest.raises(UserError, match="has no class names; give a file of names with --classes, or an"):
        score(setting(action_encoder(EYE), path), ZeroShot())


def questions(answers):
    captions = ["Up!", "down", "left"]
    return [{"video": f"{n}.mp4", "caption": captions, "answer": a} for n, a in enumerate(answers)]


TEXTS = {"up": EYE[0], "down": EYE[1], "left": EYE[2]}


def test_multiple_choice_is_accuracy(tmp_path):
    path = annotated(tmp_path, questions([0, 1, 0]))
    result = choose(setting(TableEncoder(EYE, TEXTS), path), MultipleChoice(protocol="msrvtt_mc"))
    assert result.metrics == {"accuracy": 66.67, "chance": 33.33}
    assert set(result.metrics) < set(MultipleChoice.METRICS)
    assert result.protocol["options a video"] == "3"


def test_several_right_options_are_mean_average_precision(tmp_path):
    path = annotated(tmp_path, questions([[1, 1, 0], [0, 1, 0], [0, 0, 0]]))
    videos = unit([[3, 2, 0], [0, 1, 0], [0, 0, 1]])
    result = choose(setting(TableEncoder(videos, TEXTS), path), MultipleChoice(protocol="charades_mc"))
    assert result.metrics == {"map": 66.67, "right_share": 33.33}  # nobody has the third option
    assert set(result.metrics) < set(MultipleChoice.METRICS)


def test_the_temperature_changes_the_order_of_clips_within_a_class(tmp_path):
    # Clip 1 is nearer to option 0 than clip 0 is, and a cold softmax gives all of it to option 1.
    path = annotated(tmp_path, questions([[1, 0, 0], [0, 1, 0]]))
    videos = [[0.5, 0.49, 0.49, 0.52], [0.6, 0.8, 0, 0]]
    encoder = TableEncoder(videos, {text: [*vector, 0] for text, vector in TEXTS.items()})
    found = [choose(setting(encoder, path), MultipleChoice(temperature=t)).metrics["map"] for t in (0.01, 10)]
    assert found == [66.67, 50]


def test_a_bad_question_is_named(tmp_path):
    encoder = TableEncoder(EYE, TEXTS)
    rows = questions([0, 5])
    with pytest.raises(UserError, match="answer of clip 1.mp4 is option 5, and its options are 0 to 2"):
        choose(setting(encoder, annotated(tmp_path, rows)))
    with pytest.raises(UserError, match="clip 0.mp4 has no answer"):
        choose(setting(encoder, annotated(tmp_path, [{"video": "0.mp4", "caption": ["up", "down"]}])))
    with pytest.raises(UserError, match="clip 0.mp4 has 1 options"):
        choose(setting(encoder, annotated(tmp_path, [{"video": "0.mp4", "caption": "up", "answer": 0}])))
    several = questions([[1, 0, 0], [0, 1, 0]])
    several[1]["caption"] = ["down", "up", "left"]
    with pytest.raises(UserError, match="0.mp4 and 1.mp4 have different options"):
        choose(setting(encoder, annotated(tmp_path, several)))
    with pytest.raises(UserError, match="temperature must be above 0, got 0"):
        MultipleChoice(temperature=0)
