"""Tables with paths, the multi-modal JSON, retrieval and multiple choice files, SQLite."""

import sqlite3

import pytest

from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.errors import UserError
from tests.data_pipelines.sources.helpers import assert_reasons, rows_of, write_json


def test_a_csv_in_a_folder_gives_captions_labels_and_times(media):
    (media / "list.csv").write_text(
        'path,caption,label,start,end\nsub/c.mp4,"a cat, asleep",3,0.5,2\nd.jpg,sky,1,,\na.mp4,end,,4,\n'
    )
    video, image, rest = open_source(media / "list.csv")
    assert (video.id, video.captions, video.label) == ("sub/c.mp4_0.500_2.000", ("a cat, asleep",), 3)
    assert (video.start, video.end, video.path) == (0.5, 2.0, str(media / "sub/c.mp4"))
    assert (image.id, image.media, image.end) == ("d.jpg", "image", None)
    assert (rest.id, rest.start, rest.end, rest.label) == ("a.mp4_4.000_end", 4.0, None, None)


def test_multi_modal_json_turns_frames_into_seconds_and_leaves_out_short_captions(tmp_path, media):
    clip = {"video_start_frame": 25, "video_end_frame": 50, "video_fps": 25}
    rows = [
        {"video": "a.mp4", "caption": "a long walk"},
        {"image": "d.jpg", "captions": ["sky", "blue sky"], "crop_bbox": [0, 1, 20, 30]},
        {"video": "a.mp4", "caption": "again", **clip},
        {"video": "gone.mp4", "caption": "a b"},
        {"video": "a.mp4", "caption": "Hm!"},
        {"video": "notes.doc", "caption": "a b"},
        {"video": 5, "caption": "a b"},
        {"video": "sub", "caption": "a b"},
        {"video": None, "caption": "a b"},
    ]
    path = write_json(tmp_path / "m.json", rows)
    found = rows_of(open_source(path, videos=media))
    assert [row.captions for row in found] == [("a long walk",), ("sky", "blue sky"), ("again",), ("Hm!",)]
    assert [row.id for row in found] == ["a.mp4", "d.jpg", "a.mp4_1.000_2.000", "a.mp4#2"]
    assert found[1].attributes == {"crop_bbox": "0 1 20 30"}
    assert_reasons(
        open_source(path, videos=media, min_words="2"),
        [
            ("m.json row 2", "'sky' has fewer than 2 words"),
            ("m.json row 3", "'again' has fewer than 2 words"),
            ("m.json row 4", "does not exist"),
            ("m.json row 5", "'Hm!' has fewer than 2 words"),
            ("m.json row 6", "notes.doc does not exist"),
            ("m.json row 7", "5 is not a path"),
            ("m.json row 8", "sub is a folder of frames"),
            ("m.json row 9", "it has no path"),
        ],
    )


def test_retrieval_files_give_each_video_its_captions(tmp_path, media):
    rows = [
        {"video": "a.mp4", "caption": "msr-vtt: one caption"},
        {"video": "b.webm", "caption": ["msvd one", "msvd two"]},
        {"video": ["a.mp4", "sub/c.mp4"], "caption": "ssv2: several videos"},
    ]
    found = list(open_source(write_json(tmp_path / "r.json", rows), videos=media))
    assert [(row.id, row.captions) for row in found] == [
        ("a.mp4", ("msr-vtt: one caption",)),
        ("b.webm", ("msvd one", "msvd two")),
        ("a.mp4#2", ("ssv2: several videos",)),
        ("sub/c.mp4", ("ssv2: several videos",)),
    ]


def test_sentences_of_didemo_and_activity_net_become_one_paragraph(tmp_path, media):
    rows = [{"video": "a.mp4", "caption": ["A cat sits.", "It jumps!"]}]
    rows += [{**rows[0], "start": 5, "end": 12}, {**rows[0], "start": 40, "end": 50}]
    path = write_json(tmp_path / "p.json", rows)
    source = open_source(path, "paragraphs", media, trimmed="true")
    assert [(row.captions, row.start, row.end) for row in rows_of(source)] == [
        (("A cat sits. It jumps!",), None, 30.0),
        (("A cat sits. It jumps!",), 5.0, 12.0),
    ]
    assert_reasons(source, [("p.json row 3", "it starts at 40 s, after the 30 s that are kept")])
    whole = rows_of(open_source(path, "paragraphs", media))
    assert [(row.start, row.end) for row in whole] == [(None, None), (5.0, 12.0), (40.0, 50.0)]


def test_options_of_a_question_become_captions_and_the_answer_a_label(tmp_path, media):
    rows = [
        {"video": "a.mp4", "caption": ["a", "b", "c", "d", "e"], "answer": 3},
        {"video": "a.mp4", "option": ["x", "y"], "answer": 1},
        {"video": "a.mp4", "option": ["x", "y", "z"], "answer": [1, 0, 1]},
    ]
    found = list(open_source(write_json(tmp_path / "mc.json", rows), videos=media))
    assert [(row.captions, row.label) for row in found] == [
        (("a", "b", "c", "d", "e"), 3),
        (("x", "y"), 1),
        (("x", "y", "z"), None),
    ]
    assert found[2].attributes == {"answers": "0 2"}


def test_a_csv_may_hold_labels_alone(tmp_path, media):
    (tmp_path / "l.csv").write_text("path,label\na.mp4,4\nb.webm,walking\nd.jpg,-1\n")
    found = list(open_source(tmp_path / "l.csv", videos=media))
    assert [(row.captions, row.label) for row in found] == [((), 4), ((), None), ((), None)]


def test_sqlite_tables_give_their_rows_in_order(tmp_path, media):
    with sqlite3.connect(tmp_path / "anno.db") as base:
        base.execute("CREATE TABLE annos(id INTEGER PRIMARY KEY, video TEXT, caption TEXT)")
        base.executemany("INSERT INTO annos VALUES(?, ?, ?)", [(1, "b.webm", "two"), (0, "a.mp4", "one")])
        base.execute("INSERT INTO annos VALUES(2, 'a.mp4', CAST(X'636166E9' AS TEXT))")
    base.close()
    source = open_source(tmp_path / "anno.db", videos=media)
    assert [(row.id, row.captions) for row in rows_of(source)] == [("a.mp4", ("one",)), ("b.webm", ("two",))]
    assert_reasons(source, [("anno.db id 2", "not UTF-8")])
    (tmp_path / "bad.db").write_bytes(b"nonsense" * 200)
    with pytest.raises(UserError, match="no SQLite file with a table annos"):
        list(open_source(tmp_path / "bad.db"))
