"""Every annotation format, from a small file of its layout; bad rows say what is wrong, and stop nothing."""

import csv
import io
import json
import sqlite3
import tarfile

import pytest

from ivjax.data_pipelines.records import Turn
from ivjax.data_pipelines.sources.instructions import choose
from ivjax.data_pipelines.sources.media import read_media
from ivjax.data_pipelines.sources.open import open_source
from ivjax.data_pipelines.sources.row import BadRow, Row
from ivjax.data_pipelines.sources.times import parse_time
from ivjax.errors import UserError

ID = "99lSi0tcL21"
INTERNVID = {
    "YoutubeID": ID,
    "Start_timestamp": "00:00:08.076",
    "End_timestamp": "00:00:14.276",
    "Caption": "a man rides",
    "Aesthetic_Score": 4.5,
    "UMT_Score": 0.41,
}


@pytest.fixture
def media(tmp_path):
    """Files that exist; no source opens them."""
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    for name in (f"{ID}.mp4", "a.mp4", "b.webm", "sub/c.mp4", "d.jpg"):
        (folder / name).write_bytes(name.encode())
    return folder


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(source):
    return [row for row in source if isinstance(row, Row)]


def reasons(source):
    return [(row.where, row.reason) for row in source if isinstance(row, BadRow)]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_internvid_rows_of_any_table(tmp_path, media, suffix):
    path = tmp_path / f"rows.{suffix}"
    if suffix == "jsonl":
        lines(path, [INTERNVID])
    elif suffix == "json":
        path.write_text(json.dumps([INTERNVID]))
    elif suffix == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([INTERNVID]), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, INTERNVID, delimiter="\t" if suffix == "tsv" else ",")
            writer.writeheader()
            writer.writerow(INTERNVID)
    [row] = open_source(path, videos=media)
    assert row == Row(
        id=f"{ID}_8.076_14.276",
        path=str(media / f"{ID}.mp4"),
        start=8.076,
        end=14.276,
        captions=("a man rides",),
        video=ID,
        scores={"Aesthetic_Score": 4.5, "UMT_Score": 0.41},
    )


def test_internvid_aliases_float_times_and_further_columns(tmp_path, media):
    other = {
        "video_id": "a",
        "start": 1,
        "end_time": 2.5,
        "captions": ["one", "two"],
        "UMT similarity": 0.3,
        "Language": "en",
        "Attributes": {"colour": "red"},
    }
    [row] = open_source(lines(tmp_path / "r.jsonl", [other]), videos=media)
    assert (row.id, row.start, row.end, row.captions) == ("a_1.000_2.500", 1.0, 2.5, ("one", "two"))
    assert row.scores == {"UMT similarity": 0.3} and row.attributes == {"colour": "red", "Language": "en"}


def test_audio_visual_speech_rows_turn_frames_into_seconds(tmp_path, media):
    row = {
        "video_name": "c",
        "video": "sub/c.mp4",
        "video_fps": 25.0,
        "video_start_frame": 50,
        "video_end_frame": 125,
        "selected_audio_caption": "wind",
        "avs_captions": "wind over water",
    }
    path = lines(tmp_path / "avs.jsonl", [row, row | {"video_fps": 0}])
    source = open_source(path, "internvid", media, caption_from="avs_captions")
    [found] = rows_of(source)
    assert (found.start, found.end, found.captions) == (2.0, 5.0, ("wind over water",))
    assert found.path == str(media / "sub/c.mp4")
    assert reasons(source) == [("avs.jsonl line 2", reasons(source)[0][1])]
    assert "no video_fps" in reasons(source)[0][1]


def test_bad_internvid_rows_say_why(tmp_path, media):
    path = lines(
        tmp_path / "bad.jsonl",
        [
            INTERNVID | {"YoutubeID": "unknown1234"},
            INTERNVID | {"Start_timestamp": "soon"},
            INTERNVID | {"End_timestamp": "00:00:01"},
            INTERNVID | {"Caption": "  "},
            INTERNVID | {"YoutubeID": None},
            INTERNVID | {"UMT_Score": "high"},
            INTERNVID,
        ],
    )
    with path.open("ab") as file:
        file.write(b'{"YoutubeID": "caf\xe9"}\n{"cut\n[1]\n')
    found = reasons(open_source(path, "internvid", media))
    expected = (
        (1, "no video file of unknown1234"),
        (2, "'soon' is not a time"),
        (3, "ends at 1 s, before its start at 8.076 s"),
        (4, "caption is empty"),
        (5, "no video id"),
        (6, "could not convert string to float: 'high'"),
        (8, "not UTF-8"),
        (9, "not JSON"),
        (10, "not a JSON object"),
    )
    assert len(found) == len(expected)
    for (where, reason), (line, part) in zip(found, expected, strict=True):
        assert where == f"bad.jsonl line {line}" and part in reason
    assert len(rows_of(open_source(path, "internvid", media))) == 1


def test_tables_of_the_wrong_columns_are_errors(tmp_path, media):
    with pytest.raises(UserError, match=r"no column for captions \(any of: captions, caption"):
        list(open_source(lines(tmp_path / "a.jsonl", [{"YoutubeID": "a", "note": "x"}]), "internvid", media))
    with pytest.raises(UserError, match="no column video, image or path; it has name"):
        list(open_source(lines(tmp_path / "b.jsonl", [{"name": "x"}]), "captions", media))
    with pytest.raises(UserError, match=r"format of .*b.jsonl is not recognised; say which with --kind"):
        open_source(tmp_path / "b.jsonl")
    with pytest.raises(UserError, match="no source of kind 'film'; choose one of internvid, captions"):
        open_source(tmp_path / "b.jsonl", "film")
    with pytest.raises(UserError, match="does not take these options"):
        open_source(tmp_path / "b.jsonl", "captions", colour="red")
    with pytest.raises(UserError, match="does not exist"):
        open_source(tmp_path / "none.jsonl")


def test_a_folder_with_a_csv_and_a_bare_folder(tmp_path, media):
    (media / "list.csv").write_text(
        'path,caption,label,start,end\nsub/c.mp4,"a cat, asleep",3,0.5,2\nd.jpg,sky,1,,\n'
    )
    video, image = open_source(media / "list.csv")
    assert (video.id, video.captions, video.label, video.start) == (
        "sub/c.mp4_0.500_2.000",
        ("a cat, asleep",),
        3,
        0.5,
    )
    assert (image.id, image.media, image.end) == ("d.jpg", "image", None)
    bare = list(open_source(media))
    assert [row.id for row in bare] == [f"{ID}.mp4", "a.mp4", "b.webm", "d.jpg", "sub/c.mp4"]
    assert bare[-1].attributes == {"folder": "sub"} and bare[3].media == "image"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no videos and no images"):
        list(open_source(tmp_path / "empty"))


def test_web_dataset_tars(tmp_path):
    members = {
        "x/000.mp4": b"video",
        "x/000.txt": b"a dog\n",
        "x/001.jpg": b"picture",
        "x/001.json": json.dumps({"caption": ["a", "b"], "similarity": 0.5}).encode(),
        "x/002.mp4": b"other",
        "x/002.cls": b"7",
        "x/003.txt": b"no media",
    }
    with tarfile.open(tmp_path / "part-0.tar", "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    source = open_source(tmp_path)
    first, second, third = rows_of(source)
    assert (first.id, first.captions, read_media(first.path)) == ("part-0/x/000", ("a dog",), b"video")
    assert (second.media, second.captions, second.scores) == ("image", ("a", "b"), {"similarity": 0.5})
    assert (third.label, read_media(third.path)) == (7, b"other")
    assert reasons(source) == [("part-0.tar x/003", "it has 0 media files, not one")]
    with pytest.raises(FileNotFoundError, match="has no member x/9"):
        read_media(f"{tmp_path}/part-0.tar::x/9")
    (tmp_path / "part-1.tar").write_bytes(b"not a tar at all" * 100)
    with pytest.raises(UserError, match="part-1.tar is no plain tar"):
        list(open_source(tmp_path))


def test_multi_modal_json_with_roots_frames_and_short_captions(tmp_path, media):
    rows = [
        {"video": "a.mp4", "caption": "a long walk"},
        {"image": "d.jpg", "captions": ["sky", "blue sky"]},
        {
            "video": "a.mp4",
            "caption": "again",
            "video_start_frame": 25,
            "video_end_frame": 50,
            "video_fps": 25,
        },
        {"video": "gone.mp4", "caption": "a b"},
        {"video": "a.mp4", "caption": "Hm!"},
        {"video": "notes.doc", "caption": "a b"},
    ]
    path = tmp_path / "m.json"
    path.write_text(json.dumps(rows))
    found = rows_of(open_source(path, videos=media))
    assert [row.captions for row in found] == [("a long walk",), ("sky", "blue sky"), ("again",), ("Hm!",)]
    assert [row.id for row in found] == ["a.mp4", "d.jpg", "a.mp4_1.000_2.000", "a.mp4#2"]
    strict = open_source(path, videos=media, min_words="2")
    assert [where for where, _ in reasons(strict)] == [
        "m.json row 2",
        "m.json row 3",
        "m.json row 4",
        "m.json row 5",
        "m.json row 6",
    ]
    assert "fewer than 2 words" in reasons(strict)[0][1] and "does not exist" in reasons(strict)[2][1]
    assert "neither a video nor an image" in reasons(strict)[4][1]


def test_retrieval_files(tmp_path, media):
    rows = [
        {"video": "a.mp4", "caption": "msr-vtt: one caption"},
        {"video": "b.webm", "caption": ["msvd one", "msvd two"]},
        {"video": ["a.mp4", "sub/c.mp4"], "caption": "ssv2: several videos"},
        {"video": "a.mp4", "caption": ["a", "b", "c", "d", "e"], "answer": 3},
        {"video": "a.mp4", "option": ["x", "y"], "answer": 1},
    ]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(rows))
    found = list(open_source(path, videos=media))
    assert [row.captions for row in found[:4]] == [
        ("msr-vtt: one caption",),
        ("msvd one", "msvd two"),
        ("ssv2: several videos",),
        ("ssv2: several videos",),
    ]
    assert len({row.id for row in found}) == len(found)
    assert (found[4].captions, found[4].label) == (("a", "b", "c", "d", "e"), 3)
    assert (found[5].captions, found[5].label) == (("x", "y"), 1)
    path.write_text(json.dumps([{"video": "a.mp4", "caption": ["A cat sits.", "It jumps!"]}]))
    [didemo] = open_source(path, "paragraphs", media, trimmed=True)
    assert (didemo.captions, didemo.end) == (("A cat sits. It jumps!",), 30.0)


def test_sqlite_tables(tmp_path, media):
    with sqlite3.connect(tmp_path / "anno.db") as base:
        base.execute("CREATE TABLE annos(id INTEGER PRIMARY KEY, video TEXT, caption TEXT)")
        base.executemany("INSERT INTO annos VALUES(?, ?, ?)", [(1, "b.webm", "two"), (0, "a.mp4", "one")])
    base.close()
    assert [(r.id, r.captions) for r in open_source(tmp_path / "anno.db", videos=media)] == [
        ("a.mp4", ("one",)),
        ("b.webm", ("two",)),
    ]
    (tmp_path / "bad.db").write_bytes(b"nonsense" * 200)
    with pytest.raises(UserError, match="no SQLite file with a table annos"):
        list(open_source(tmp_path / "bad.db"))


def test_video_chat_instructions(tmp_path, media):
    rows = [
        {"video": "a.mp4", "QA": [{"i": "Describe.", "q": "", "a": "A walk."}, {"q": "Who?", "a": "A man."}]},
        {"video": "a.mp4", "start": 2, "end": 4.5, "QA": [{"i": "", "q": "What?", "a": "That."}]},
        {"image": "d.jpg", "QA": []},
    ]
    path = tmp_path / "it.json"
    path.write_text(json.dumps(rows))
    source = open_source(path, videos=media)
    first, second = rows_of(source)
    assert first.conversation == (
        Turn("system", "Describe."),
        Turn("user", ""),
        Turn("assistant", "A walk."),
        Turn("user", "Who?"),
        Turn("assistant", "A man."),
    )
    assert (second.start, second.end, second.id) == (2.0, 4.5, "a.mp4_2.000_4.500#1")
    assert reasons(source) == [("it.json row 3", "its conversation has no answer")]


def llava(path, text="Yes.", **more):
    turns = [{"from": "human", "value": "<image>\nIs it?"}, {"from": "gpt", "value": text}]
    return {"video": path, "conversations": turns, **more}


def test_llava_conversations(tmp_path, media):
    rows = [llava("a.mp4", clip=[1, 2]), llava(["d.jpg"]), llava(["a.mp4", "d.jpg"]), llava(None)]
    rows.append(llava("a.mp4") | {"conversations": [{"from": "robot", "value": "x"}]})
    source = open_source(lines(tmp_path / "l.jsonl", rows), videos=media)
    first, second = rows_of(source)
    assert first.conversation == (Turn("user", "Is it?"), Turn("assistant", "Yes."))
    assert (first.start, first.end, second.media) == (1.0, 2.0, "image")
    assert [reason for _, reason in reasons(source)] == [
        "it has 2 images or videos, not one",
        "it has neither a video nor an image",
        "its conversation has a turn of 'robot'",
    ]


def test_lists_of_instruction_files(tmp_path, media):
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text(json.dumps([llava("a.mp4", f"{name} {n}") for n in range(10)]))
    (tmp_path / "stage.yaml").write_text(
        "datasets:\n"
        "  - {json_path: one.json, data_root: media, sampling_strategy: 'first:20%'}\n"
        "  - {json_path: two.json, data_root: media, sampling_strategy: 'end:1', video_read_type: img}\n"
    )
    found = list(open_source(tmp_path / "stage.yaml"))
    assert [row.conversation[1].text for row in found] == ["one 0", "one 1", "two 9"]
    assert len({row.id for row in found}) == 3
    description = {"mine": {"root": "media", "annotation": "two.json", "repeat_time": 2, "length": 10}}
    (tmp_path / "mix.json").write_text(json.dumps(description))
    assert len(list(open_source(tmp_path / "mix.json"))) == 10
    (tmp_path / "stage.yaml").write_text("datasets:\n  - {data_root: media}\n")
    with pytest.raises(UserError, match="an entry without json_path or annotation"):
        list(open_source(tmp_path / "stage.yaml"))


def test_sampling_strategies():
    assert choose(5, "all") == list(range(5)) and choose(10, "first:25%") == [0, 1, 2]
    assert choose(10, "end:2") == [8, 9] and choose(3, "first:9") == [0, 1, 2]
    drawn = choose(100, "random:10%")
    assert len(drawn) == 10 == len(set(drawn)) and drawn == choose(100, "random:10") == sorted(drawn)
    for wrong in ("some", "first:x", "last:3"):
        with pytest.raises(UserError, match="sampling strategy"):
            choose(10, wrong)


def test_plain_lists(tmp_path, media):
    (tmp_path / "k.csv").write_text("a.mp4,3\nb.webm,0\ngone.mp4,1\na.mp4,one,2\n")
    source = open_source(tmp_path / "k.csv", videos=media)
    assert [(row.id, row.label) for row in rows_of(source)] == [("a.mp4", 3), ("b.webm", 0)]
    assert ["does not exist" in reasons(source)[0][1], reasons(source)[1][1]] == [
        True,
        "it has 3 fields, not 2",
    ]
    (tmp_path / "v.txt").write_text("a.mp4 0 -1\nsub 1 120\n")
    source = open_source(tmp_path / "v.txt", videos=media)
    assert [(row.id, row.start, row.end) for row in rows_of(source)] == [("a.mp4", None, None)]
    assert "folder of frames" in reasons(source)[0][1]
    (tmp_path / "m.txt").write_text(
        "ssv2 a.mp4 9.5 -1 -1 4\nk710 sub/c.mp4 20 3 7.5 -1\nk710 a.mp4 20 7 3 1\n"
    )
    source = open_source(tmp_path / "m.txt", videos=media)
    first, second = rows_of(source)
    assert (first.start, first.end, first.label, first.attributes) == (None, None, 4, {"source": "ssv2"})
    assert (second.start, second.end, second.label) == (3.0, 7.5, None)
    assert "before its start" in reasons(source)[0][1]
    (tmp_path / "p.txt").write_text("a.mp4|5\n")
    [row] = open_source(tmp_path / "p.txt", "kinetics", media, split="|")
    assert row.label == 5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("75.5", 75.5),
        ("01:15.500", 75.5),
        ("1:01:15.5", 3675.5),
        ("00:00:08,076", 8.076),
        (3, 3.0),
        (0.25, 0.25),
    ],
)
def test_times(text, seconds):
    assert parse_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", None, -1, True, float("nan"), "-3"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)
