"""Conversations about media, and the lists of files of them."""

import pytest

from ivjax.data_pipelines.sources.instructions import choose
from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.data_pipelines.store.records import Turn
from ivjax.errors import UserError
from tests.data_pipelines.sources.helpers import assert_reasons, rows_of, write_json, write_lines


def llava(path, text="Yes.", **more):
    turns = [{"from": "human", "value": "<image>\nIs it?"}, {"from": "gpt", "value": text}]
    return {"video": path, "conversations": turns, **more}


def test_video_chat_instructions_become_turns(tmp_path, media):
    rows = [
        {"video": "a.mp4", "QA": [{"i": "Describe.", "q": "", "a": "A walk."}, {"q": "Who?", "a": "A man."}]},
        {"video": "a.mp4", "start": 2, "end": 4.5, "QA": [{"i": "", "q": "What?", "a": "That."}]},
        {"image": "d.jpg", "QA": []},
    ]
    source = open_source(write_json(tmp_path / "it.json", rows), videos=media)
    first, second = rows_of(source)
    assert first.conversation == (
        Turn("system", "Describe."),
        Turn("user", ""),
        Turn("assistant", "A walk."),
        Turn("user", "Who?"),
        Turn("assistant", "A man."),
    )
    assert (second.start, second.end, second.id) == (2.0, 4.5, "a.mp4_2.000_4.500#1")
    assert second.conversation == (Turn("user", "What?"), Turn("assistant", "That."))
    assert_reasons(source, [("it.json row 3", "its conversation has no answer")])


def test_llava_conversations_become_turns(tmp_path, media):
    rows = [llava("a.mp4", clip=[1, 2]), llava(["d.jpg"])]
    first, second = open_source(write_lines(tmp_path / "l.jsonl", rows), videos=media)
    assert first.conversation == (Turn("user", "Is it?"), Turn("assistant", "Yes."))
    assert (first.start, first.end, second.media) == (1.0, 2.0, "image")


def test_questions_take_their_most_frequent_answer_as_the_reply(tmp_path, media):
    rows = [
        {"video": "a.mp4", "question": "what?", "answer": "a dog", "question_id": 7},
        {"image": "d.jpg", "question": "colour?", "answer": ["blue", "grey", "grey", "blue", "red"]},
        {"image": "d.jpg", "question": "number?", "answer": 4},
        {"image": "d.jpg", "question": "none?", "answer": []},
    ]
    source = open_source(write_json(tmp_path / "vqa.json", rows), videos=media)
    assert [row.conversation for row in rows_of(source)] == [
        (Turn("user", "what?"), Turn("assistant", "a dog")),
        (Turn("user", "colour?"), Turn("assistant", "blue")),
    ]
    assert_reasons(source, [("vqa.json row 3", "answer 4 is not text"), ("vqa.json row 4", "is not text")])


def test_instructions_of_an_odd_shape_are_bad_rows(tmp_path, media):
    wrong = [
        (llava(["a.mp4", "d.jpg"]), "it has images and videos"),
        (llava(None), "it has neither a video nor an image"),
        (llava(5), "5 is not a path"),
        (llava("a.mp4", text=""), "no answer"),
        (llava("a.mp4", clip=[3, 1]), "ends at 1 s, not after its start at 3 s"),
        ({"video": "a.mp4", "conversations": [{"from": "robot", "value": "x"}]}, "a turn of 'robot'"),
        ({"video": "a.mp4", "conversations": ["x"]}, "not a list of objects"),
        ({"video": "a.mp4", "conversations": None}, "not a list of objects"),
        ({"video": "a.mp4", "QA": "text"}, "not a list of objects"),
        ({"video": "a.mp4", "QA": [{"q": "x", "a": None}]}, "no answer"),
        ({"video": "a.mp4", "QA": [{"q": 1, "a": "y"}]}, "its q 1 is not text"),
        ({"video": "sub", "QA": [{"q": "x", "a": "y"}]}, "sub is a folder of frames"),
    ]
    rows = [llava("a.mp4"), *(row for row, _ in wrong)]
    source = open_source(write_lines(tmp_path / "w.jsonl", rows), videos=media)
    assert_reasons(source, [(f"w.jsonl line {n}", part) for n, (_, part) in enumerate(wrong, 2)])
    assert [row.id for row in rows_of(source)] == ["a.mp4#0"]
    with pytest.raises(UserError, match="no column for conversation .any of: QA, conversations, question"):
        list(open_source(write_lines(tmp_path / "n.jsonl", [{"video": "a.mp4"}]), "instructions", media))


def test_lists_of_instruction_files_are_sampled_as_they_say(tmp_path, media):
    for name in ("one", "two"):
        write_json(tmp_path / f"{name}.json", [llava("a.mp4", f"{name} {n}") for n in range(10)])
    (tmp_path / "stage.yaml").write_text(
        "datasets:\n"
        "  - {json_path: one.json, data_root: media, sampling_strategy: 'first:20%'}\n"
        "  - {json_path: two.json, data_root: media, sampling_strategy: 'end:1', video_read_type: img}\n"
    )
    found = list(open_source(tmp_path / "stage.yaml"))
    assert [row.conversation[1].text for row in found] == ["one 0", "one 1", "two 9"]
    assert [row.id for row in found] == ["0-one/a.mp4#0", "0-one/a.mp4#1", "1-two/a.mp4#9"]
    description = {"mine": {"root": ".", "annotation": "two.json", "repeat_time": 2, "length": 10}}
    found = list(open_source(write_json(tmp_path / "mix.json", description), videos=media))
    assert [row.id for row in found] == [f"0-mine/a.mp4#{n}" for n in range(10)]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("l.yaml", "datasets:\n  - {data_root: media}\n", "entry 1 of .* has no json_path or annotation"),
        ("l.yaml", "datasets:\n", "is no list of instruction files"),
        ("l.yaml", "- just text\n", "is no list of instruction files"),
        ("l.yaml", "a: [\n", "is no YAML"),
        ("l.yaml", "datasets:\n  - {json_path: gone.json}\n", "gone.json does not exist"),
        ("l.json", "[1]", "is no list of instruction files"),
        ("l.json", '{"a": ', "is damaged JSON"),
    ],
)
def test_lists_that_are_none_are_errors(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=reason):
        list(open_source(tmp_path / name, "instruction_lists"))


def test_sampling_strategies_choose_their_share_of_rows():
    assert choose(5, "all") == list(range(5)) and choose(10, "first:25%") == [0, 1, 2]
    assert choose(10, "end:2") == [8, 9] and choose(3, "first:9") == [0, 1, 2]
    drawn = choose(100, "random:10%")
    assert len(drawn) == 10 == len(set(drawn)) and drawn == choose(100, "random:10") == sorted(drawn)
    for wrong in ("some", "first:x", "last:3", "first:-1", "first:inf%"):
        with pytest.raises(UserError, match="sampling strategy"):
            choose(10, wrong)
