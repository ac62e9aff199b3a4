"""Plain lists, bare folders, tars, and how a format is recognised."""

import json
import os
import sys

import pytest

from ivjax.data_pipelines.sources.media import read_media
from ivjax.data_pipelines.sources.open_source import KINDS, open_source
from ivjax.data_pipelines.video.encode import encode_image
from ivjax.errors import UserError
from tests.data_pipelines.footage import coded, write_video
from tests.data_pipelines.sources.helpers import ID, assert_reasons, rows_of, write_lines, write_tar


def test_kinetics_lists_give_labels_and_list_bad_rows(tmp_path, media):
    (media / "two words.mp4").write_bytes(b"")
    (tmp_path / "k.csv").write_bytes(
        b"\xef\xbb\xbfa.mp4,3\nb.webm,0\ngone.mp4,1\na.mp4,one,2\na.mp4,x\n\xe9.mp4,1\n"
    )
    source = open_source(tmp_path / "k.csv", videos=media)
    assert [(row.id, row.label, row.start, row.end) for row in rows_of(source)] == [
        ("a.mp4", 3, None, None),
        ("b.webm", 0, None, None),
        ("a.mp4#2", None, None, None),
    ]
    faults = {3: "does not exist", 4: "it has 3 fields, not 2", 6: "not UTF-8"}
    assert_reasons(source, [(f"k.csv line {line}", reason) for line, reason in faults.items()])
    (tmp_path / "k.txt").write_text("two words.mp4 5\na.mp4 1\n\na.mp4 2\n")
    found = list(open_source(tmp_path / "k.txt", videos=media))
    assert [(row.id, row.label) for row in found] == [("two words.mp4", 5), ("a.mp4", 1), ("a.mp4#2", 2)]
    (tmp_path / "p.txt").write_text("a.mp4|5\n")
    [row] = open_source(tmp_path / "p.txt", "kinetics", media, split="|")
    assert row.label == 5


def test_video_mae_and_multi_source_lists_give_labels_times_and_sources(tmp_path, media):
    (tmp_path / "v.txt").write_text("a.mp4 0 -1\nsub 1 120\na.mp4 0 all\n")
    source = open_source(tmp_path / "v.txt", "videomae", media)
    assert [(row.id, row.start, row.end, row.label) for row in rows_of(source)] == [
        ("a.mp4", None, None, None)
    ]
    reasons = ["sub is a folder of frames; say how many a second", "its total 'all' is not a whole number"]
    assert_reasons(source, [(f"v.txt line {n}", reason) for n, reason in enumerate(reasons, 2)])
    (tmp_path / "m.txt").write_text(
        "ssv2 a.mp4 9.5 -1 -1 4\nk710 sub/c.mp4 20 3 7.5 -1\nk710 a.mp4 20 7 3 1\n"
    )
    source = open_source(tmp_path / "m.txt", videos=media)
    first, second = rows_of(source)
    assert (first.start, first.end, first.label, first.attributes) == (None, None, 4, {"source": "ssv2"})
    assert (second.start, second.end, second.label) == (3.0, 7.5, None)
    assert_reasons(source, [("m.txt line 3", "ends at 3 s, not after its start at 7 s")])


def test_a_bare_folder_gives_its_visible_media_in_order(tmp_path, media):
    (media / ".hidden.mp4").write_bytes(b"")
    (media / "notes.txt").write_text("")
    source = open_source(media)
    found = rows_of(source)
    assert [row.id for row in found] == [f"{ID}.mp4", "a.mp4", "b.webm", "d.jpg", "sub/c.mp4"]
    assert_reasons(source, [("notes.txt", "its ending is that of no video or image")])
    assert [row.attributes for row in found[3:]] == [{}, {"folder": "sub"}]
    assert [row.media for row in found[2:4]] == ["video", "image"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no videos and no images"):
        list(open_source(tmp_path / "empty"))


def test_a_file_that_a_list_names_is_known_by_its_content_if_not_by_its_ending(tmp_path):
    write_video(tmp_path / "source.mp4", frames=2)
    (tmp_path / "source.mp4").rename(tmp_path / "clip.part")
    (tmp_path / "still.upload").write_bytes(encode_image(coded(1)))
    (tmp_path / "words.nfo").write_text("words\n" * 9)
    (tmp_path / "list.csv").write_text("clip.part,1\nstill.upload,2\nwords.nfo,3\nlist.csv,4\n")
    source = open_source(tmp_path / "list.csv", "kinetics")
    assert [(row.id, row.media) for row in rows_of(source)] == [
        ("clip.part", "video"),
        ("still.upload", "image"),
    ]
    reason = "is neither a video nor an image"
    assert_reasons(source, [("list.csv line 3", reason), ("list.csv line 4", reason)])


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_a_file_name_that_is_not_utf_8_is_a_bad_row(media):
    (media / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"")
    source = open_source(media)
    assert len(rows_of(source)) == 5
    assert_reasons(source, [("caf\\udce9.mp4", "its text or its file name is not UTF-8")])


def test_web_dataset_tars_join_members_of_one_name(tmp_path):
    members = {
        "x/000.mp4": b"video",
        "x/000.txt": b"a dog\n",
        "x/001.jpg": b"picture",
        "x/001.json": json.dumps({"caption": ["a", "b"], "similarity": 0.5}).encode(),
        "x/002.mp4": b"other",
        "x/002.cls": b"7",
        f"x/{ID}_8.076_14.276.mp4": b"clip",
        f"x/{ID}_8.076_14.276.txt": b"a clip",
        "x/003.txt": b"no media",
        "x/004.mp4": b"v",
        "x/004.txt": b"caf\xe9",
        "x/005.mp4": b"v",
        "x/005.json": b"[1]",
        "x/006.mp4": b"v",
        "x/006.json": b"{",
        "x/007.mp4": b"v",
        "x/007.cls": b"cat",
    }
    tar = write_tar(tmp_path / "part-0.tar", members)
    source = open_source(tmp_path)
    first, second, third, fourth, fifth = rows_of(source)
    assert (first.id, first.captions, read_media(first.path)) == ("part-0/x/000", ("a dog",), b"video")
    assert (second.media, second.captions, second.scores) == ("image", ("a", "b"), {"similarity": 0.5})
    assert (third.label, third.captions, read_media(third.path)) == (7, (), b"other")
    assert (fifth.label, fifth.class_name) == (None, "cat")
    assert (fourth.id, fourth.captions) == (f"part-0/x/{ID}_8.076_14.276", ("a clip",))
    assert_reasons(
        source,
        [
            ("part-0.tar x/003", "it has 0 media files, not one"),
            ("part-0.tar x/004", "x/004.txt is not UTF-8"),
            ("part-0.tar x/005", "its .json is not an object"),
            ("part-0.tar x/006", "its .json is broken"),
        ],
    )
    assert rows_of(open_source(tar)) == [first, second, third, fourth, fifth]


def test_a_damaged_tar_is_named_and_the_others_are_read(tmp_path):
    for number in range(4):
        write_tar(tmp_path / f"{number}.tar", {"a.mp4": b"v", "b.mp4": b"w"})
    whole = (tmp_path / "1.tar").read_bytes()
    (tmp_path / "1.tar").write_bytes(whole[:1024] + b"\xff" * 100 + whole[1124:])
    (tmp_path / "2.tar").write_bytes(b"not a tar at all" * 100)
    (tmp_path / "3.tar").write_bytes(whole[:1536])
    source = open_source(tmp_path)
    assert [row.id for row in rows_of(source)] == ["0/a", "0/b"]
    damaged = [(f"{number}.tar", "no whole plain tar") for number in (1, 2, 3)]
    assert_reasons(source, damaged)
    with pytest.raises(OSError, match=r"1.tar is no whole plain tar \(damaged at byte 1024\)"):
        read_media(f"{tmp_path}/1.tar::a.mp4")


def test_media_are_read_from_files_and_from_tars_written_anew(tmp_path):
    tar = write_tar(tmp_path / "t.tar", {"a.mp4": b"old"})
    assert read_media(f"{tar}::a.mp4") == b"old"
    write_tar(tar, {"first.txt": b"more", "a.mp4": b"newer"})
    os.utime(tar, ns=(1, 1))
    assert read_media(f"{tar}::a.mp4") == b"newer"
    (tmp_path / "odd::name.mp4").write_bytes(b"plain")
    assert read_media(str(tmp_path / "odd::name.mp4")) == b"plain"
    with pytest.raises(FileNotFoundError, match="t.tar has no member x/9"):
        read_media(f"{tar}::x/9")
    with pytest.raises(FileNotFoundError):
        read_media(str(tmp_path / "none.mp4"))


def test_what_cannot_be_opened_is_an_error_that_names_the_kinds(tmp_path, media):
    path = write_lines(tmp_path / "b.jsonl", [{"name": "x"}])
    with pytest.raises(UserError, match="no column for path .*; it has name"):
        list(open_source(path, "captions", media))
    with pytest.raises(UserError, match=f"is not recognised: .*or say .* with --kind: {', '.join(KINDS)}"):
        open_source(path)
    with pytest.raises(
        UserError, match="no source of kind 'film'; choose one of internvid, labelled_ids, captions"
    ):
        open_source(path, "film")
    with pytest.raises(UserError, match="none.jsonl does not exist"):
        open_source(tmp_path / "none.jsonl")


ODD = {
    "ids.jsonl": ('{"YoutubeID": "x", "start": 1}', "internvid, and lacks a column for captions .any of"),
    "texts.jsonl": (
        '{"caption": "x"}',
        "nearest to captions, and lacks a column for path .any of",
    ),
    "names.csv": (
        "name,size\na,3\n",
        "needs a column for path .any of.* or for the video's id .*; it has name",
    ),
    "list.csv": ("a.mp4,x,y,z\n", "its first line names no columns and is none of `path label`"),
    "list.txt": ("some words here\n", "its first line is none of `path label`.*: 'some words here'"),
    "bad.jsonl": ("{\n", "bad.jsonl line 1: it is not JSON"),
    "empty.jsonl": ("", "it has no rows"),
    "empty.txt": ("\n", "it is empty"),
    "table.xlsx": ("PK", "its name ends in none of .json, .jsonl, .csv"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_source_that_is_not_recognised_is_told_what_it_lacks(tmp_path, name):
    text, reason = ODD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"the format of .*{name} is not recognised: .*{reason}"):
        open_source(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("captions", {"colour": "red"}, "kind captions has no option 'colour'; it has paragraph, trimmed"),
        ("webdataset", {"split": ","}, "kind webdataset has no option 'split'; it has none"),
        ("kinetics", {"layout": "videomae"}, "kind kinetics has no option 'layout'; it has split"),
        ("captions", {"min_words": "two"}, "min_words='two' is not a whole number"),
        ("captions", {"trimmed": "maybe"}, "trimmed='maybe' is not true or false"),
        ("kinetics", {"split": 3}, "split=3 is not text"),
        ("folder", {"fps": "0"}, "fps='0' is not a number above 0"),
        ("folder", {"fps": "fast"}, "fps='fast' is not a number above 0"),
    ],
)
def test_options_are_checked(media, kind, options, reason):
    with pytest.raises(UserError, match=reason):
        open_source(media, kind, **options)
