"""Words that stand as labels: where sources find them, and which numbers they get."""

import json

import pytest

from ivjax.data_pipelines.sources.classes import describe_classes, number_classes, read_classes
from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.data_pipelines.sources.row import BadRow, SourceRow
from ivjax.data_pipelines.store.manifest import write_manifest
from ivjax.errors import UserError
from tests.data_pipelines.sources.helpers import ID, reasons, rows_of, write_lines, write_tar


def classes(source):
    """Number and name of each row's class, and the names of all."""
    rows, names = number_classes(source, "the list")
    return [(row.label, row.class_name) for row in rows if isinstance(row, SourceRow)], names


LISTS = {
    "k.csv": "a.mp4,riding a bike\nsub/c.mp4,archery\n",
    "t.csv": "path,label\na.mp4,riding a bike\nsub/c.mp4,archery\n",
    "u.tsv": "file_name\tclass\na.mp4\triding a bike\nsub/c.mp4\tarchery\n",
    "k.txt": "a.mp4 riding a bike\nsub/c.mp4  archery\n",
    "i.csv": "a.mp4,10,0,2,riding a bike\nsub/c.mp4,10,1,2.5,archery\n",
    "m.csv": "k400,a.mp4,10,0,2,riding a bike\nssv2,sub/c.mp4,10,-1,-1,archery\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_words_in_lists_and_tables_become_numbers_in_the_order_of_the_names(tmp_path, media, name):
    (tmp_path / name).write_text(LISTS[name])
    source = open_source(tmp_path / name, videos=media)
    assert classes(source) == ([(1, "riding a bike"), (0, "archery")], ("archery", "riding a bike"))


def test_a_list_with_blanks_in_paths_and_classes_is_read(tmp_path, media):
    (media / "riding a bike").mkdir()
    (media / "riding a bike" / "x 1.mp4").write_bytes(b"")
    (tmp_path / "k.txt").write_text("riding a bike/x 1.mp4 riding a bike\na.mp4 archery\n")
    found = rows_of(open_source(tmp_path / "k.txt", videos=media))
    assert [(row.id, row.class_name) for row in found] == [
        ("riding a bike/x 1.mp4", "riding a bike"),
        ("a.mp4", "archery"),
    ]


def test_a_folder_of_folders_has_a_class_for_each_that_holds_files(tmp_path):
    for path in ("10/a.mp4", "2/b.mp4", "two words/deep/c.mp4", "top.mp4"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    # Folders are names, even those that are numbers, in the order of plain text.
    assert classes(open_source(tmp_path)) == (
        [(None, ""), (0, "10"), (1, "2"), (2, "deep")],
        ("10", "2", "deep"),
    )


def test_tars_and_tables_of_ids_have_words_for_classes_too(tmp_path, media):
    tar = write_tar(
        tmp_path / "t.tar", {"a.mp4": b"v", "a.cls": b"cat\n", "b.mp4": b"v", "b.json": b'{"label": "dog"}'}
    )
    assert classes(open_source(tar)) == ([(0, "cat"), (1, "dog")], ("cat", "dog"))
    path = write_lines(tmp_path / "i.jsonl", [{"YoutubeID": ID, "Caption": "a", "label": " cat "}])
    assert classes(open_source(path, videos=media)) == ([(0, "cat")], ("cat",))


def test_numbers_stay_numbers_and_no_class_stays_none(tmp_path, media):
    rows = [3, "4", "5.0", 6.0, -1, "", None, 2.5, "nan"]
    path = write_lines(tmp_path / "l.jsonl", [{"path": "a.mp4", "label": label} for label in rows])
    found, names = classes(open_source(path, videos=media))
    assert ([label for label, _ in found], names) == ([3, 4, 5, 6, *[None] * 5], ())
    # The answer to a question is the number of an option, or no class at all.
    rows = [{"path": "a.mp4", "caption": "x", "answer": answer} for answer in (2, "yes")]
    assert classes(open_source(write_lines(tmp_path / "a.jsonl", rows), videos=media))[0] == [
        (2, ""),
        (None, ""),
    ]


def test_words_among_numbers_are_refused_unless_the_names_are_given(tmp_path, media):
    (tmp_path / "l.csv").write_text("path,label\na.mp4,1\nb.webm,unknown\nd.jpg,2\n")
    source = open_source(tmp_path / "l.csv", videos=media)
    with pytest.raises(
        UserError, match=r"words \('unknown' of b.webm\) and numbers \(1 of a.mp4\); .*--classes"
    ):
        number_classes(source, "l.csv")
    rows, names = number_classes(source, "l.csv", ("cat", "dog"))
    assert names == ("cat", "dog") and [(row.id, row.label) for row in rows_of(rows)] == [("a.mp4", 1)]
    assert reasons(rows) == [
        ("b.webm", "its class 'unknown' is none of the 2 given ones"),
        ("d.jpg", "its class 2 is none of the 2 given ones, which count from 0"),
    ]


def test_given_names_keep_their_order_and_bad_rows_their_place():
    rows = [SourceRow("1", "a.mp4", class_name="dog"), BadRow("l.csv line 2", "bad"), SourceRow("3", "b.mp4")]
    found, names = number_classes(rows, "l.csv", ("zebra", "dog"))
    assert names == ("zebra", "dog") and found[1] == rows[1]
    assert [row.label for row in rows_of(found)] == [1, None]


FILES = {
    "names.txt": "\ufeffzebra\n dog \n\n",
    "names.json": '["zebra", "dog"]',
    "labels.json": '{"dog": "1", "zebra": "0"}',
    "numbered.json": '{"1": "dog", "0": "zebra"}',
}


@pytest.mark.parametrize("name", FILES)
def test_names_are_read_from_text_lists_and_objects(tmp_path, name):
    (tmp_path / name).write_text(FILES[name])
    assert read_classes(str(tmp_path / name)) == ("zebra", "dog")


def test_names_are_read_from_a_corpus(tmp_path):
    write_manifest(tmp_path, [], {}, ("zebra", "dog"))
    assert read_classes(str(tmp_path)) == ("zebra", "dog")
    write_manifest(tmp_path, [], {})
    with pytest.raises(UserError, match="has no class names; build it from a source whose labels are words"):
        read_classes(str(tmp_path))
    manifest = tmp_path / "manifest.json"
    older = json.loads(manifest.read_text())
    del older["classes"]
    manifest.write_text(json.dumps(older))
    with pytest.raises(UserError, match="has no class names"):
        read_classes(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"cat\n\ndog\n", "holds an empty line"),
        (b"\n", "holds no class names"),
        (b"cat\ndog\ncat\n", "names the class 'cat' 2 times"),
        (b"\xff", "cannot be read as class names: .*; write a name a line"),
    ],
)
def test_files_of_names_with_gaps_or_repeats_are_refused(tmp_path, text, reason):
    (tmp_path / "c.txt").write_bytes(text)
    with pytest.raises(UserError, match=reason):
        read_classes(str(tmp_path / "c.txt"))


@pytest.mark.parametrize("content", ['{"a": 1, "b": 2}', '{"a": "x"}', '{"a": [0]}', "[1]", "3", "{"])
def test_json_that_gives_no_numbers_from_0_is_refused(tmp_path, content):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(UserError, match="cannot be read as class names"):
        read_classes(str(tmp_path / "c.json"))
    with pytest.raises(UserError, match="none.txt is neither a file nor a corpus"):
        read_classes(str(tmp_path / "none.txt"))
    (tmp_path / "table.csv").write_text("0,a\n1,b")
    with pytest.raises(UserError, match="table.csv is a table; write the class names alone"):
        read_classes(str(tmp_path / "table.csv"))


def test_the_first_classes_are_named_with_their_numbers():
    assert describe_classes(("a", "b")) == "2 classes: 0 a, 1 b"
    assert describe_classes(tuple("abcdefg")) == "7 classes: 0 a, 1 b, 2 c, 3 d, 4 e, ..."
