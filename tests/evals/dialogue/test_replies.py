"""What replies say: the originals' rules with their quirks, the strict ones, and the prompts before them."""

import numpy as np
import pytest

from ivjax.data_pipelines.dialogue import QwenChat
from ivjax.data_pipelines.dialogue.items import Slots
from ivjax.data_pipelines.dialogue.style import SeenMedia
from ivjax.data_pipelines.store.records import Turn
from ivjax.errors import UserError
from ivjax.evals.dialogue.letters import (
    first_letter,
    right_by_first_word,
    right_by_lone_letter,
    strict_choice,
)
from ivjax.evals.dialogue.prompts import (
    MOMENTS,
    PROTOCOLS,
    charades_sta,
    choice_protocol,
    mvbench,
    videochat2,
    videomme,
)
from ivjax.evals.dialogue.spans import TimeSpan, lenient_span, overlap, strict_span
from tests.goldens import Golden, close


@pytest.fixture(scope="module")
def golden():
    return Golden("s3_eval_helpers")


@pytest.mark.golden
def test_s3_eval_helpers_letters_are_read_as_by_the_originals(golden):
    scores = [right_by_lone_letter(row["pred"], row["gt"]) for row in golden.config["mcq_acc"]]
    assert scores == [bool(row["score"]) for row in golden.config["mcq_acc"]]
    assert scores == golden["outputs/mcq_acc"].astype(bool).tolist()
    right = [right_by_first_word(row["pred"], row["gt"]) for row in golden.config["check_ans"]]
    assert right == [row["correct"] for row in golden.config["check_ans"]]
    assert right == golden["outputs/check_ans"].astype(bool).tolist()
    rows = golden.config["videomme_extract"]
    assert [first_letter(row["pred"]) for row in rows] == [row["letter"] for row in rows]


@pytest.mark.golden
def test_s3_eval_helpers_spans_are_read_and_compared_as_by_the_originals(golden):
    rows = golden.config["charades_extract"]
    found = [lenient_span(row["pred"]) for row in rows]
    assert [[] if span is None else [list(span)] for span in found] == [row["spans"] for row in rows]
    rows = golden.config["temporal_iou"]
    ious = [overlap(TimeSpan(*row["a"]), TimeSpan(*row["b"])) for row in rows]
    assert ious == pytest.approx([row["iou"] for row in rows], abs=1e-12)
    close(ious, golden["outputs/temporal_iou"])


@pytest.mark.golden
def test_s3_eval_helpers_prompts_are_those_of_the_originals(golden):
    texts = golden.config["protocol_strings"]
    for make, name, ends in ((mvbench, "mvbench_prompt", ")"), (videomme, "videomme_prompt", ".")):
        question, options = _parts(golden.config[name], ends)
        assert make(question, options).question == golden.config[name]
    told = videochat2("What?", ["x", "y"])
    theirs = texts["videochat2_mvbench"]
    assert told.system == theirs["system"] and told.question.endswith(theirs["question_prompt"])
    # The original writes the bracket of `return_prompt` in front of what is generated behind the prompt.
    assert told.begin == theirs["answer_prompt"] and told.begin.endswith(theirs["return_prompt"])
    form = texts["charades_sta"]["full"].replace("{pre_prompt}", texts["charades_sta"]["pre_prompt"])
    form = form.replace("{post_prompt}", texts["charades_sta"]["post_prompt"])
    assert charades_sta("person sits.").question == form.replace("{caption}", "person sits")


@pytest.mark.golden
def test_s3_eval_helpers_needles_are_asked_in_the_models_own_template(golden):
    theirs = golden.config["protocol_strings"]["niah_qwen2"]
    seen = SeenMedia("video", np.arange(3))
    items = QwenChat(times=False).items([Turn("user", "What colour?")], [seen])
    text = "".join("(visual)" if isinstance(item, Slots) else item[0] for item in items)
    assert theirs["order"] == "pre, visual tokens, question, post, answer"
    # As in training there is a new line behind the video, which the original's needles leave out.
    assert text == f"{theirs['pre']}(visual)\nWhat colour?{theirs['post']}"


def _parts(prompt, ends):
    """The question and the options of an original's prompt."""
    lines = prompt.split("\n")
    question = next(line for line in lines if line.startswith("Question: ")).removeprefix("Question: ")
    options = [line for line in lines if line[1:2] == ends or (line[:1] == "(" and line[2:3] == ends)]
    return question, [line.partition(f"{ends} ")[2] for line in options]


@pytest.mark.parametrize(
    "reply, choice",
    [
        *(("B", 1), ("(B)", 1), ("B.", 1), ("(B) blue ball", 1), ("B: Blue ball.", 1), ("blue ball", 1)),
        *(("Red.", 0), (" (A)\n", 0), ("", None), ("(", None), ("a", None), ("A dog", None), ("C", None)),
        *(("The answer is B", None), ("(B) red", None), ("A or B", None)),
    ],
)
def test_a_strict_reply_names_one_option_and_nothing_else(reply, choice):
    assert strict_choice(reply, ["red", "blue ball"]) == choice


@pytest.mark.parametrize(
    "reply, span",
    [
        ("3.5 - 8 seconds", (3.5, 8)),
        ("The event happens in the 24.3 - 30.4 seconds.", (24.3, 30.4)),
        ("from 0:10 to 1:05", (10, 65)),
        ("00:00:18 to 01:00:23", (18, 3623)),
        *(
            ("12 to 3", None),
            ("nothing", None),
            ("1 - 2 or 5 - 6", None),
            ("starts at 3 and ends at 9", None),
        ),
    ],
)
def test_a_strict_span_runs_forwards_and_is_the_only_one(reply, span):
    assert strict_span(reply) == span


def test_a_lenient_span_may_have_more_dots_than_the_original_can_read():
    assert lenient_span("from 3... to 5..2 seconds") == (3, 5)


def test_every_protocol_makes_a_prompt_and_a_wrong_name_finds_the_nearest():
    for protocol in PROTOCOLS.values():
        told = protocol.wording("What moves?", ["red cube", "blue ball"])
        assert "What moves?" in told.question and "B" in told.question and "blue ball" in told.question
    assert all("a man sits" in make("a man sits").question for make in MOMENTS.values())
    with pytest.raises(UserError, match="no protocol 'mvbenc' of multiple choice; did you mean 'mvbench'"):
        choice_protocol("mvbenc")
