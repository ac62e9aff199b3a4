"""Tables as files: damaged ones, odd ones, and JSON in its several forms."""

import json

import pytest

from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.data_pipelines.sources.tables import read_table
from ivjax.errors import UserError
from tests.data_pipelines.sources.helpers import assert_reasons, rows_of, write_json, write_lines

ROW = {"video": "a.mp4", "caption": "one two"}


def records(path):
    return [record for _, record in read_table(path)]


@pytest.mark.parametrize("rows", [[ROW], [ROW, ROW]])
def test_json_may_be_a_list_lines_or_one_object_around_a_list(tmp_path, rows):
    assert records(write_json(tmp_path / "list.json", rows)) == rows
    assert records(write_lines(tmp_path / "lines.json", rows)) == rows
    assert records(write_json(tmp_path / "around.json", {"info": [1], "annotations": rows})) == rows
    (tmp_path / "indented.json").write_text("\ufeff" + json.dumps(rows, indent=2))
    assert records(tmp_path / "indented.json") == rows


def test_a_single_row_with_a_list_of_objects_is_one_row(tmp_path):
    row = {"video": "a.mp4", "QA": [{"q": "x", "a": "y"}]}
    assert records(write_lines(tmp_path / "one.json", [row])) == [row]


def test_json_that_breaks_off_is_an_error_and_not_a_thousand_bad_rows(tmp_path):
    (tmp_path / "cut.json").write_text(json.dumps([ROW] * 9, indent=1)[:-20])
    with pytest.raises(UserError, match="cut.json is damaged JSON"):
        records(tmp_path / "cut.json")


def test_one_caption_that_is_not_utf_8_costs_one_row(tmp_path, media):
    path = tmp_path / "list.json"
    path.write_bytes(b'[{"video": "a.mp4", "caption": "caf\xe9"}, {"video": "b.webm", "caption": "tea"}, 7]')
    source = open_source(path, "captions", media)
    assert [row.captions for row in rows_of(source)] == [("tea",)]
    assert_reasons(source, [("list.json row 1", "not UTF-8"), ("list.json row 3", "int, not an object")])


def test_bad_rows_of_a_csv_are_listed_with_reasons(tmp_path, media):
    long = b"x" * 200_000
    (tmp_path / "t.csv").write_bytes(
        b"\xef\xbb\xbfpath,caption\na.mp4,caf\xe9\na.mp4\na.mp4,x,y\na.mp4," + long + b"\nb.webm,good one\n"
    )
    source = open_source(tmp_path / "t.csv", videos=media)
    assert_reasons(
        source,
        [
            ("t.csv line 2", "not UTF-8"),
            ("t.csv line 3", "it has not 2 columns"),
            ("t.csv line 4", "it has not 2 columns"),
            ("t.csv line 5", "field larger than field limit"),
        ],
    )
    assert [row.captions for row in rows_of(source)] == [("good one",)]
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="empty.csv is empty; its first line must name the columns"):
        records(tmp_path / "empty.csv")


def test_parquet_with_one_text_that_is_not_utf_8_and_with_a_damaged_end(tmp_path, media):
    import pyarrow
    import pyarrow.parquet

    texts = pyarrow.array([b"one two", b"caf\xe9", b"three"]).cast(pyarrow.binary()).view(pyarrow.string())
    table = pyarrow.table({"path": ["a.mp4", "a.mp4", "b.webm"], "caption": texts})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    source = open_source(tmp_path / "t.parquet", videos=media)
    assert [row.captions for row in rows_of(source)] == [("one two",), ("three",)]
    assert_reasons(source, [("t.parquet row 2", "it is not UTF-8")])
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-9])
    with pytest.raises(UserError, match="cut.parquet is a damaged Parquet file"):
        records(tmp_path / "cut.parquet")


def test_damaged_rows_of_a_parquet_file_are_named_and_end_it(tmp_path, media):
    import pyarrow
    import pyarrow.parquet

    captions = [f"caption {number} here" for number in range(100)]
    table = pyarrow.table({"path": ["a.mp4"] * 100, "caption": captions})
    path = tmp_path / "t.parquet"
    options = {"use_dictionary": False, "compression": "zstd", "row_group_size": 50}
    pyarrow.parquet.write_table(table, path, **options)
    group = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    page = slice(group.data_page_offset, group.data_page_offset + group.total_compressed_size)
    data[page] = b"\xff" * group.total_compressed_size
    path.write_bytes(data)
    source = open_source(path, "captions", media)
    assert_reasons(source, [("t.parquet row 1", "this row and those after it are damaged")])


def test_other_files_are_errors(tmp_path):
    with pytest.raises(UserError, match="none.csv does not exist"):
        records(tmp_path / "none.csv")
    (tmp_path / "t.xlsx").write_bytes(b"")
    with pytest.raises(UserError, match="t.xlsx is none of .json, .jsonl"):
        records(tmp_path / "t.xlsx")


def test_suffixes_in_capitals_are_known(tmp_path, media):
    (tmp_path / "T.CSV").write_text("path,caption\na.mp4,one two\n")
    assert [row.captions for row in open_source(tmp_path / "T.CSV", videos=media)] == [("one two",)]
