"""The public tests of dialogue models: their files become conversations about videos."""

import json

import pytest

from ivjax.data_pipelines.sources.choices import lettered, parted
from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.data_pipelines.sources.recognise import recognise
from ivjax.data_pipelines.sources.row import BadRow
from ivjax.errors import UserError
from tests.data_pipelines.sources.helpers import assert_reasons, rows_of, write_json, write_lines


@pytest.fixture
def videos(tmp_path):
    """Files that exist; no source opens them."""
    folder = tmp_path / "video"
    for name in ("star/Charades_v1_480/a.mp4", "1_plotQA/m.mp4", "deep/down/v.mp4", "videos/key.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "tvqa/frames_fps3_hq/scene").mkdir(parents=True)
    return folder


def only(path, kind, videos):
    assert recognise(path, {}) == kind
    (row,) = open_source(path, videos=videos)
    assert not isinstance(row, BadRow), row
    return row


def texts(row):
    return [turn.text for turn in row.conversation]


def test_mvbench_is_trimmed_and_its_folders_of_frames_are_shown_at_three_a_second(tmp_path, videos):
    folder = tmp_path / "json"
    folder.mkdir()
    asked = {"question": "What happens?", "candidates": ["he sits", "he runs"], "answer": "he runs"}
    write_json(folder / "action_sequence.json", [{"video": "a.mp4", **asked, "start": 1.5, "end": 4.0}])
    write_json(folder / "episodic_reasoning.json", [{"video": "scene", **asked, "start": 0, "end": 9}])
    assert recognise(folder, {}) == "mvbench"
    first, second = open_source(folder, videos=videos)
    assert (first.start, first.end, first.attributes) == (1.5, 4.0, {"question": "action sequence"})
    assert [turn.text for turn in first.conversation] == [
        "What happens?\n(A) he sits\n(B) he runs",
        "(B) he runs",
    ]
    assert first.path == str(videos / "star/Charades_v1_480/a.mp4") and first.frame_rate is None
    assert second.path == str(videos / "tvqa/frames_fps3_hq/scene") and second.frame_rate == 3.0


def test_video_mme_is_read_from_parquet_with_its_classes_of_duration(tmp_path, videos):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    row = {"video_id": "001", "duration": "short", "domain": "Art", "videoID": "v", "question_id": "001-1"}
    row |= {
        "task_type": "Counting Problem",
        "question": "How many?",
        "options": ["A. One.", "B. Two."],
        "answer": "B",
    }
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "test.parquet")
    found = only(tmp_path / "test.parquet", "videomme", videos)
    assert found.path.endswith("deep/down/v.mp4")  # found by its name, wherever it lies
    assert found.attributes == {"question": "Counting Problem", "duration": "short", "domain": "Art"}
    assert found.conversation[1].text == "(B) Two."


def test_perception_test_is_read_by_video_and_by_row(tmp_path, videos):
    asked = {"id": 3, "question": "Which?", "options": ["x", "y", "z"], "answer_id": 2, "area": "physics"}
    whole = {"v": {"metadata": {"video_id": "v", "split": "valid"}, "mc_question": [asked]}}
    by_video = only(write_json(tmp_path / "valid.json", whole), "perception_test", videos)
    row = {**asked, "video_name": "v", "question_id": 3, "answer_id": "2"}
    by_row = only(write_lines(tmp_path / "rows.jsonl", [row]), "perception_test", videos)
    assert by_video == by_row and by_video.conversation[1].text == "(C) z"
    assert by_video.id == "v/3" and by_video.attributes == {"question": "physics"}


def test_long_video_bench_is_read_with_candidates_and_with_columns_of_options(tmp_path, videos):
    row = {"id": "v_0", "video_id": "v", "video_path": "v.mp4", "question": "Who?", "correct_choice": 1}
    row |= {"duration_group": 600, "question_category": "T2A", "topic_category": "News"}
    one = only(write_json(tmp_path / "a.json", [{**row, "candidates": ["x", "y"]}]), "longvideobench", videos)
    columns = {"option0": "x", "option1": "y", "option2": "N/A"}
    assert one == only(write_json(tmp_path / "b.json", [{**row, **columns}]), "longvideobench", videos)
    assert one.attributes == {"question": "T2A", "topic": "News", "duration": "600 s"}
    assert one.conversation[1].text == "(B) y"


def test_mlvu_and_lvbench(tmp_path, videos):
    row = {"video": "m.mp4", "duration": 480.0, "question": "Who?", "candidates": ["x", "y"], "answer": "x"}
    found = only(write_json(tmp_path / "1_plotQA.json", [{**row, "question_type": "plotQA"}]), "mlvu", videos)
    assert found.path == str(videos / "1_plotQA/m.mp4") and found.attributes == {"question": "plotQA"}
    asked = {
        "uid": "7",
        "question": "What year?\n(A) 1636\n(B) 1363",
        "answer": "B",
        "question_type": ["a", "b"],
    }
    path = write_lines(tmp_path / "video_info.meta.jsonl", [{"key": "key", "type": "cartoon", "qa": [asked]}])
    found = only(path, "lvbench", videos)
    assert [turn.text for turn in found.conversation] == ["What year?\n(A) 1636\n(B) 1363", "(B) 1363"]
    assert (found.id, found.attributes) == ("key/7", {"question": "a; b"})


def test_charades_sta_is_lines_of_a_video_its_times_and_a_sentence(tmp_path, videos):
    path = tmp_path / "charades_sta_test.txt"
    path.write_text("v 0.0 6.9##a person sits.\nv 3 1##backwards\nmissing 0 1##x\nv 1 2 nothing\n")
    assert recognise(path, {}) == "charades_sta"
    source = open_source(path, videos=videos)
    (row,) = rows_of(source)
    assert (row.start, row.end, row.id) == (None, None, "v_0_6.9")
    assert [turn.text for turn in row.conversation] == [
        "a person sits.",
        "The event happens in the 0 - 6.9 seconds.",
    ]
    expected = [
        ("line 2", "ends at 1 s"),
        ("line 3", "missing does not exist"),
        ("line 4", "it is no `video start"),
    ]
    assert_reasons(source, [(f"{path.name} {where}", words) for where, words in expected])
    rows = [{"video": "v.mp4", "caption": "a person sits.", "timestamp": [0.0, 6.9]}]
    table = only(write_json(tmp_path / "c.json", rows), "charades_sta", videos)
    assert table.conversation == row.conversation


def test_needles_of_videochat_flash_are_images_and_chains_of_them(tmp_path, videos):
    for name in ("one.jpg", "two.jpg"):
        (videos / name).write_bytes(b"")
    asked = "Find the frame.\nOptions: (A) white\n(B) red\nOnly give the best option. Best option: ("
    single = {"question": asked, "answer": "B", "image": "one.jpg", "id": 4}
    row = only(write_json(tmp_path / "single.json", [single]), "niah", videos)
    assert texts(row) == ["Find the frame.\n(A) white\n(B) red", "(B) red"] and row.media == "image"
    chain = {"images": ["one.jpg", "two.jpg"], "question1": asked, "answer1": "A"}
    chain |= {"question2": asked, "answer2": "B"}
    first, second = open_source(write_json(tmp_path / "chain.json", [chain]), videos=videos)
    assert (first.id, second.id) == ("0/caption", "0/question")
    assert first.more == (str(videos / "two.jpg"),) and texts(second)[1] == "(B) red"


def test_bad_questions_say_what_is_wrong(tmp_path, videos):
    good = {"video": "a.mp4", "question": "?", "candidates": ["x", "y"], "answer": "x"}
    wrong = [
        ({"video": "b.mp4"}, "b.mp4 does not exist"),
        ({"answer": "z"}, "its answer 'z' is none of its choices"),
        ({"candidates": "x or y"}, "have no letters; write a list of texts"),
        ({"candidates": ["(A) x", "(C) y"]}, "the letters of its choices are ['A', 'C']"),
        ({"question": 5}, "its question 5 is not text"),
    ]
    path = write_json(tmp_path / "action_sequence.json", [good, *({**good, **change} for change, _ in wrong)])
    source = open_source(path, videos=videos)
    assert len(rows_of(source)) == 1
    assert_reasons(source, [(f"{path.name} row {n}", words) for n, (_, words) in enumerate(wrong, 2)])
    with pytest.raises(UserError, match="holds no table of questions"):
        list(open_source(videos, "mvbench"))
    assert json.loads(path.read_text())  # the file is as it was


def test_lettered_questions_come_apart_again():
    asked = lettered("What is it?\nLook well.", ["a (B) c", "two\nlines"], 1)
    assert parted(asked.question) == ("What is it?\nLook well.", ("a (B) c", "two\nlines"))
    assert parted("What is it?") == ("What is it?", ())
    # The question has a list of its own, and an option begins as if it had a letter.
    asked = lettered("Which is first?\n(A) He sits.\n(B) He stands.", ["sitting", "J. K. Rowling"], "B")
    assert parted(asked.question) == (
        "Which is first?\n(A) He sits.\n(B) He stands.",
        ("sitting", "J. K. Rowling"),
    )
    assert asked.answer == "(B) J. K. Rowling"
