"""Multiple choice about videos: what replies and likelihoods count for, by kind, strictly and leniently."""

import json

import jax
import numpy as np
import pytest

from ivjax.data_pipelines.data_options import ChatTokenizer, Intervals, Seeing, Turns, VideoChat2
from ivjax.errors import UserError
from ivjax.evals.dialogue.answer_model import Blindfolded, without_merging
from ivjax.evals.dialogue.choosing import score
from ivjax.evals.dialogue.questions import open_questions
from ivjax.evals.hosts import Hosts
from ivjax.evals.items import EvalData
from ivjax.evals.suites import SUITES, VideoQuestions
from ivjax.experiment.computing import Compute
from ivjax.models.dialogue.model import DialogueModel
from ivjax.models.dialogue.presets import DIALOGUES
from tests.evals.dialogue.fakes import asking, model_of
from tests.evals.fakes import annotated

QUESTIONS = [
    ("0.mp4", "What colour is it?", ["red", "green", "blue", "grey"], "C", "colour"),
    ("0.mp4", "What comes first?", ["a cross", "a star"], "A", "order"),
    ("1.mp4", "What colour is it?", ["red", "green", "blue", "grey"], "A", "colour"),
    ("2.mp4", "What comes last?", ["a cross", "a star"], "B", "order"),
]


def rows():
    names = ("video", "question", "options", "answer", "type")
    return [dict(zip(names, question, strict=True)) for question in QUESTIONS]


def replies(*said):
    """Replies by the order of QUESTIONS."""
    known = {
        (video.removesuffix(".mp4"), text): one
        for (video, text, *_), one in zip(QUESTIONS, said, strict=True)
    }
    return lambda name, words: next(
        one for (video, text), one in known.items() if video == name and text in words
    )


def test_accuracies_of_all_and_of_each_kind_stand_beside_chance(tmp_path):
    model = model_of(replies("(C) blue", "(B) a star", "A", "B."))
    result = score(asking(model, annotated(tmp_path, rows())), VideoQuestions())
    assert result.metrics["accuracy"] == 75.0 and result.metrics["chance"] == 37.5
    assert result.metrics["times_chance"] == 2.0 and result.metrics["unclear"] == 0.0
    kinds = {group["name"]: group for group in result.by_group}
    assert kinds["colour"] == {
        **{"by": "question", "name": "colour", "questions": 2},
        **{"accuracy": 100.0, "chance": 25.0, "times_chance": 4.0},
    }
    assert (kinds["order"]["accuracy"], kinds["order"]["times_chance"]) == (50.0, 1.0)
    assert json.loads(result.json())["by_group"][0]["name"] == "colour"
    assert "by question" in result.table() and "colour" in result.table()
    # A video is watched once for the questions that follow each other about it.
    assert model.answerer.watched == ["0", "1", "2"]
    assert model.answerer.prompts[0][1] == "What colour is it?\n(A) red\n(B) green\n(C) blue\n(D) grey"


def test_strict_and_lenient_figures_stand_side_by_side_and_the_result_says_which_counts(tmp_path):
    path = annotated(tmp_path, rows())
    said = replies("The answer is C", "A cross, I think", "", "it is a star")
    strict = score(asking(model_of(said), path), VideoQuestions())
    lenient = score(asking(model_of(said), path), VideoQuestions(extraction="lenient"))
    assert (
        strict.metrics["accuracy"] == strict.metrics["strict"] == 0.0 and strict.metrics["unclear"] == 100.0
    )
    # The empty reply is left out of the mean, and the article counts as answer A: once rightly.
    assert lenient.metrics["accuracy"] == lenient.metrics["lenient"] == 66.67
    assert strict.metrics["lenient"] == 66.67 and lenient.metrics["strict"] == 0.0
    assert strict.protocol["extraction"].startswith("strict: ")
    assert lenient.protocol["extraction"].startswith("lenient: the first letter")


def test_videochat2_reads_the_first_word_behind_its_bracket(tmp_path):
    said = replies("C) blue\nBecause", "", "B) green", "B")
    model = model_of(said)
    result = score(asking(model, annotated(tmp_path, rows())), VideoQuestions(protocol="videochat2"))
    assert result.metrics["lenient"] == 75.0  # nothing behind the bracket is right
    assert result.metrics["strict"] == result.metrics["mean_of_kinds"] == 50.0
    assert (
        model.answerer.prompts[0][2] == "Best option:(" and "Carefully watch" in model.answerer.prompts[0][1]
    )


def test_the_likeliest_letter_is_the_answer(tmp_path):
    model = model_of(replies("(C)", "(B)", "(A)", "(B)"), by="likelihood")
    result = score(asking(model, annotated(tmp_path, rows())), VideoQuestions())
    assert result.metrics == {"accuracy": 75.0, "chance": 37.5, "times_chance": 2.0}
    assert result.protocol["answers by"] == "likelihood of the letters"
    generated = score(asking(model, annotated(tmp_path, rows())), VideoQuestions(by="generation"))
    assert generated.protocol["answers by"] == "greedy generation"


def test_the_option_whose_words_are_likeliest_is_the_answer_to_the_question_alone(tmp_path):
    model = model_of(replies("blue", "a star", "red", "a star"))
    result = score(asking(model, annotated(tmp_path, rows())), VideoQuestions(by="text"))
    assert result.metrics == {"accuracy": 75.0, "chance": 37.5, "times_chance": 2.0}
    assert model.answerer.prompts[0][1] == "What colour is it?"
    assert "without its options" in result.protocol["answers by"]


def test_open_questions_count_by_exact_match(tmp_path):
    asked = [
        {"video": "0.mp4", "question": "Who?", "answer": "a man"},
        {"video": "1.mp4", "question": "Who?", "answer": "x"},
    ]
    result = score(
        asking(model_of(lambda name, words: " A man. "), annotated(tmp_path, asked)), VideoQuestions()
    )
    assert result.metrics == {"exact": 50.0}


def test_only_some_kinds_are_asked_and_a_kind_that_is_not_there_is_named(tmp_path):
    path, model = annotated(tmp_path, rows()), model_of(replies("C", "A", "A", "B"))
    result = score(asking(model, path), VideoQuestions(only=("order",)))
    assert result.metrics["accuracy"] == 100.0 and len(model.answerer.prompts) == 2
    with pytest.raises(UserError, match="no question is of the kind 'motion'; they are colour, order"):
        score(asking(model, path), VideoQuestions(only=("motion",)))


def test_questions_that_cannot_be_asked_are_listed_with_their_reasons(tmp_path):
    path = annotated(tmp_path, [*rows(), {**rows()[0], "video": "broken.mp4"}])
    wrong = [*rows(), {**rows()[0], "video": "broken.mp4"}, {**rows()[0], "video": "gone.mp4"}]
    wrong += [{**rows()[0], "options": "red or green"}, {**rows()[0], "answer": "E"}]
    path.write_text(json.dumps(wrong))
    result = score(asking(model_of(replies("C", "A", "A", "B")), path), VideoQuestions())
    assert result.metrics["accuracy"] == 100.0
    causes = {clip.cause: clip.detail for clip in result.broken}
    assert set(causes) == {"shorter than a clip", "missing media", "choices without letters", "no answer"}
    assert causes["missing media"].endswith("gone.mp4 does not exist")
    setting = asking(model_of(replies("C", "A", "A", "B")), path)
    with pytest.raises(
        UserError, match="4 of 8 questions cannot be scored, more than the allowed share of 1.00%"
    ):
        score(setting.__class__(setting.encoder, setting.data, say=setting.say), VideoQuestions())


def test_an_answer_in_other_words_than_the_options_is_listed(tmp_path):
    talk = ["What colour is it?\n(A) red\n(B) green", "It is red.", "What is it?\n(A) red\n(B) green", "A"]
    turns = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(talk)]
    path = annotated(tmp_path, [{"video": "0.mp4", "conversations": turns}])
    result = score(asking(model_of(lambda name, words: "A"), path), VideoQuestions())
    assert result.metrics["accuracy"] == 100.0
    assert [(one.clip, one.cause) for one in result.broken] == [("0.mp4#0/1", "no answer")]


def test_the_right_one_of_two_equal_options_is_known_by_its_letter(tmp_path):
    row = {"video": "0.mp4", "question": "Which?", "options": ["x", "x", "y"], "answer": "B"}
    path = annotated(tmp_path, [row])
    for letter, accuracy in (("A", 0.0), ("B", 100.0)):
        result = score(asking(model_of(lambda name, words, said=letter: said), path), VideoQuestions())
        assert result.metrics["accuracy"] == accuracy


def test_answers_may_stand_behind_the_word_answer(tmp_path):
    talk = ["What colour is it?\n(A) red\n(B) green", "Answer: (B) green"]
    turns = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(talk)]
    path = annotated(tmp_path, [{"video": "0.mp4", "conversations": turns}])
    assert score(asking(model_of(lambda *_: "B"), path), VideoQuestions()).metrics["accuracy"] == 100.0


def test_a_model_can_be_shown_all_tokens_of_its_tower():
    size = DIALOGUES["videochat_flash_qwen2_7b_224_tiny"]
    model, field = size.build(Compute()), turns_seeing(size.visual_tokens(4))
    whole, turns = without_merging(model, field)
    assert turns.seeing.clip_tokens == size.unmerged_tokens(4) > field.seeing.clip_tokens
    shapes = [jax.eval_shape(each.init, jax.random.key(0)) for each in (model, whole)]
    assert shapes[0] == shapes[1]  # merging has no parameters
    with pytest.raises(UserError, match="no merging that could be left out"):
        without_merging(whole, turns)


def turns_seeing(clip_tokens):
    return Turns(VideoChat2("mistral"), ChatTokenizer("none.model"), Seeing(Intervals(8), clip_tokens))


def test_an_interrupted_test_goes_on_from_its_answers_and_refuses_those_of_another(tmp_path):
    path, file = annotated(tmp_path, rows()), tmp_path / "answers.jsonl"
    suite = VideoQuestions(answers=str(file))
    said = replies("(C) blue", "(B) a star", "A", "B.\u2028")

    def interrupted(name, words):
        if name == "1":
            raise KeyboardInterrupt
        return said(name, words)

    with pytest.raises(KeyboardInterrupt):
        score(asking(model_of(interrupted), path), suite)
    with file.open("a") as cut:
        cut.write('{"place": 2, "answ')  # what a kill in the middle of a line leaves
    model = model_of(said)
    result = score(asking(model, path), suite)
    assert [name for name, *_ in model.answerer.prompts] == ["1", "2"]
    whole = score(asking(model_of(said), path), VideoQuestions())
    assert result.metrics == whole.metrics
    changed = [*rows()[:3], {**rows()[3], "options": ["a star", "a cross"], "answer": "A"}]
    path.write_text(json.dumps(changed))
    model = model_of(said)
    assert score(asking(model, path), suite).metrics["accuracy"] == 50.0
    assert [name for name, *_ in model.answerer.prompts] == ["2"]
    with pytest.raises(UserError, match="answers.jsonl holds the answers of another test, model or option"):
        score(asking(model_of(said, stamp="2"), path), suite)


def test_two_evals_do_not_write_one_file_of_answers(tmp_path):
    path, file = annotated(tmp_path, rows()), tmp_path / "answers.jsonl"
    suite = VideoQuestions(answers=str(file))
    said = replies("(C) blue", "(B) a star", "A", "B.")

    def disturbed(name, words):
        if name == "1":
            with pytest.raises(UserError, match="answers.jsonl is being written by another eval"):
                score(asking(model_of(said), path), suite)
        return said(name, words)

    whole = score(asking(model_of(said), path), VideoQuestions())
    assert score(asking(model_of(disturbed), path), suite).metrics == whole.metrics
    assert [json.loads(line)["place"] for line in file.read_text().splitlines()[1:]] == [0, 1, 2, 3]


def test_processes_share_the_questions_and_hear_of_each_others_errors(tmp_path):
    path, said = annotated(tmp_path, rows()), replies("(C) blue", "(B) a star", "A", "B.")
    nothing = ({}, [], "")
    shares = {0: nothing, 1: nothing}

    class Gathered(Hosts):
        """A process that finds what the other one has left."""

        def gather(self, value):
            shares[self.index] = value
            return [shares[0], shares[1]]

    models = [model_of(said, hosts=Gathered(index, 2)) for index in (1, 0)]
    results = [score(asking(model, path), VideoQuestions()) for model in models]
    assert [len(model.answerer.prompts) for model in models] == [2, 2]
    whole = score(asking(model_of(said), path), VideoQuestions())
    assert results[1].metrics == whole.metrics and results[1].by_group == whole.by_group
    shares[1] = ({}, [], "the disk is full")
    with pytest.raises(UserError, match="^the disk is full$"):
        score(asking(model_of(said, hosts=Gathered(0, 2)), path), VideoQuestions())


def test_the_suite_keeps_its_answers_beside_the_result(tmp_path):
    suite = SUITES["mcqa"]()
    assert suite.beside(tmp_path / "r.json").answers == str(tmp_path / "r.answers.jsonl")
    assert VideoQuestions(answers="x").beside(tmp_path / "r.json").answers == "x"
    with pytest.raises(UserError, match="there is no protocol 'mvbenhc'"):
        VideoQuestions(protocol="mvbenhc")


def test_a_blindfolded_model_sees_black_frames_whatever_it_is_shown(monkeypatch):
    seen = []
    monkeypatch.setattr(DialogueModel, "see", lambda model, params, video, *rest: seen.append(video))
    size = DIALOGUES["videochat_flash_qwen2_7b_224_tiny"]
    model = size.build(Compute())
    blind = Blindfolded(model.size, model.tower, model.bridge, model.language)
    blind.see({}, np.ones((2, 4, 8, 8, 3), np.uint8))
    assert seen[0].shape == (2, 4, 8, 8, 3) and not np.asarray(seen[0]).any()


def test_a_word_of_the_command_is_no_option_of_the_annotations(tmp_path):
    data = EvalData(str(annotated(tmp_path, rows())), options={"videos": "elsewhere"})
    with pytest.raises(UserError, match="videos=elsewhere is no option .*; give it as --videos"):
        open_questions(data)
