"""`ivjax chat`: a run of dialogue answers about a file, in words and in JSON; mistakes are one sentence."""

import io
import json
import shutil

import pytest

from ivjax.cli import main
from ivjax.convert.families.dialogue.chat_models import FAMILIES
from ivjax.data_pipelines.demo.needle_video import NeedleVideo
from ivjax.experiment.storing import store_experiment
from ivjax.generate import chat_request as module
from ivjax.generate.chat_request import media_and_question
from tests.generate.small_dialogue import dialogue_experiment, save_dialogue_run

# As in tests/generate/test_answering.py, so that one process compiles them once.
SHORT = ("--new", "6", "--chunk", "64", "--clips", "2")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run of random weights, `run`, the same run without a tokenizer, and a video."""
    folder = tmp_path_factory.mktemp("chat")
    save_dialogue_run(folder / "run")
    shutil.copytree(folder / "run", folder / "mute")
    store_experiment(dialogue_experiment(folder / "gone.model"), folder / "mute")
    (folder / "needle.mp4").write_bytes(NeedleVideo(1, 0, 40).encode())
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "words.txt").write_text("no video")
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def test_a_question_is_answered_in_words_and_all_else_goes_to_stderr(here, capsys):
    assert main(["chat", "needle.mp4", "--weights", "run", *SHORT, "What colour is the star ?"]) == 0
    told = capsys.readouterr()
    assert told.out.endswith("\n") and told.out.count("\n") == 1
    assert "8 frames of 1 medium: 32 tokens before merging, 16 after; decoding" in told.err
    assert "new tokens at" in told.err


def test_questions_come_line_by_line_and_the_turns_before_are_not_read_again(here, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Who ?\n\nWhich ?\n/new\nWho ?\n"))
    words = ["chat", "needle.mp4", "needle.mp4", "--weights", "run", *SHORT, "--json"]
    assert main([*words, "--frames", "4", "--start", "3", "--end", "20", "--system", "Describe ."]) == 0
    first, second, third = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["frames"], first["visual_tokens"], first["tokens_before_merging"]) == (8, 16, 32)
    assert first["reused_tokens"] == 0 and second["reused_tokens"] >= first["prompt_tokens"]
    # A new conversation about the same video: nothing is watched or read anew but its last token.
    assert third["answer"] == first["answer"] and third["prompt_tokens"] == first["prompt_tokens"]
    assert third["reused_tokens"] == first["prompt_tokens"] - 1
    assert set(first["seconds"]) == {"decode", "see", "prefill", "generate"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["needle.mp4", "--weights", "run", ""], "there is no question; ask something"),
        (["gone.mp4", "--weights", "run", "Who ?"], "gone.mp4 does not exist; name a video or an image"),
        (["Who ?", "--weights", "run"], "Who ? does not exist; name a video or an image"),
        (["needle.mp4", "--weights", "run"], "no question came through the pipe; ask something"),
        (["needle.mp4", "empty.mp4", "--weights", "run", "Who ?"], "empty.mp4: there are no media bytes"),
        (["words.txt", "--weights", "run", "Who ?"], "words.txt: no media container"),
        (["needle.mp4", "--weights", "gone", "Who ?"], "gone"),
        (["needle.mp4", "--weights", "mute", "Who ?"], "gone.model"),
        (["needle.mp4", "--weights", "run", "--start", "90", "Who ?"], "needle.mp4: the part starts at 90 s"),
        (["needle.mp4", "--weights", "run", "--start", "-1", "Who ?"], "runs from -1 s to its end"),
        (["needle.mp4", "--weights", "run", "--end", "2", "Who ?"], "needle.mp4: it has 2 frames and the"),
        (["needle.mp4", "--weights", "run", "--frames", "2", "Who ?"], "2 frames are less than a clip"),
        (["needle.mp4", "--weights", "run#vision", "Who ?"], "which answers no questions about videos"),
        (["needle.mp4", "--weights", "run", "--new", "0", "Who ?"], "new must be a whole number"),
        (["needle.mp4", "--weights", "run", "--top-p", "2", "Who ?"], "top_p must be above 0"),
        (["needle.mp4", "--weights", "run", "--limit", "9", "Who ?"], "exceed the limit of 9"),
        (["needle.mp4", "--weights", "run", "--question-tokenizer", "v", "Who ?"], "reads no words"),
    ],
)
def test_mistakes_are_one_sentence(here, capsys, monkeypatch, words, message):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["chat", *words]) == 2
    told = capsys.readouterr()
    (line,) = [line for line in told.err.splitlines() if line.startswith("ivjax chat: ")]
    assert message in line and told.out == ""


def test_ctrl_c_ends_with_one_sentence(here, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_chat", interrupted)
    assert main(["chat", "needle.mp4", "--weights", "run", "Who ?"]) == 130
    assert capsys.readouterr().err == "\nstopped by Ctrl-C\n"


def test_the_last_word_is_a_question_unless_it_names_a_file(here):
    assert media_and_question(["needle.mp4", "Who ?"]) == (("needle.mp4",), "Who ?")
    assert media_and_question(["needle.mp4"]) == (("needle.mp4",), None)
    # A file that is not there is a mistake, and no question.
    assert media_and_question(["needle.mp4", "gone.mp4"]) == (("needle.mp4", "gone.mp4"), None)
    assert media_and_question(["run", "needle.mp4", "W" * 5000]) == (("run", "needle.mp4"), "W" * 5000)
    assert media_and_question(["Who ?"]) == (("Who ?",), None)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_released_models_have_conversations_that_fit_their_visual_tokens(family):
    for name, size in family.presets.items():
        turns = family.turns(size)
        assert turns.seeing.clip_tokens == size.visual_tokens(size.least_frames), name
        assert (turns.question is None) == (not getattr(size.bridge, "reads_text", False))
        assert turns.seeing.for_tests() == turns.seeing
        assert turns.tokenizer == family.tokenizer(size)
