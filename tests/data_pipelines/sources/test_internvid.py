"""InternVid's rows from every kind of table; bad rows say what is wrong, and stop nothing."""

import csv
import json

import pytest

from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.sources.times import parse_time
from ivjax.errors import UserError
from tests.data_pipelines.sources.helpers import ID, assert_reasons, rows_of, write_lines

INTERNVID = {
    "YoutubeID": ID,
    "Start_timestamp": "00:00:08.076",
    "End_timestamp": "00:00:14.276",
    "Caption": "a man rides",
    "Aesthetic_Score": 4.5,
    "UMT_Score": 0.41,
}


def write_table(path, row):
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    elif path.suffix in (".jsonl", ".json"):
        path.write_text(json.dumps([row] if path.suffix == ".json" else row) + "\n")
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, row, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerow(row)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_internvid_rows_are_read_from_any_table(tmp_path, media, suffix):
    [row] = open_source(write_table(tmp_path / f"rows.{suffix}", INTERNVID), videos=media)
    assert row == SourceRow(
        id=f"{ID}_8.076_14.276",
        path=str(media / f"{ID}.mp4"),
        start=8.076,
        end=14.276,
        captions=("a man rides",),
        video=ID,
        scores={"Aesthetic_Score": 4.5, "UMT_Score": 0.41},
    )


def test_aliases_float_times_and_further_columns_are_read(tmp_path, media):
    row = {
        "video_id": "a",
        "start": 1,
        "end_time": 2.5,
        "captions": ["one", "two"],
        "UMT similarity": 0,
        "Aesthetic_Score": float("nan"),
        "language": "en",
        "Attributes": {"colour": "red"},
    }
    [found] = open_source(write_lines(tmp_path / "r.jsonl", [row]), videos=media)
    assert (found.id, found.start, found.end) == ("a_1.000_2.500", 1.0, 2.5)
    assert found.captions == ("one", "two") and found.scores == {"UMT similarity": 0.0}
    assert found.attributes == {"colour": "red", "language": "en"}


def test_a_csv_holds_attributes_as_json_and_gaps_as_nothing(tmp_path, media):
    row = INTERNVID | {"Attributes": '{"colour": "red"}', "UMT_Score": "", "label": "3.0"}
    [found] = open_source(write_table(tmp_path / "r.csv", row), videos=media)
    assert (found.attributes, found.label) == ({"colour": "red"}, 3)
    assert found.scores == {"Aesthetic_Score": 4.5}


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
    path = write_lines(tmp_path / "avs.jsonl", [row, row | {"video_fps": 0}])
    source = open_source(path, videos=media, caption_from="avs_captions")
    [found] = rows_of(source)
    assert (found.start, found.end, found.captions) == (2.0, 5.0, ("wind over water",))
    assert (found.path, found.video) == (str(media / "sub/c.mp4"), "c")
    assert_reasons(source, [("avs.jsonl line 2", "no video_fps to turn them into seconds")])
    [other] = rows_of(open_source(path, videos=media, caption_from="selected_audio_caption"))
    assert other.captions == ("wind",)
    with pytest.raises(UserError, match="no column for captions .*; it has .*avs_captions"):
        list(open_source(path, videos=media))


def test_bad_rows_say_why(tmp_path, media):
    wrong = [
        ({"YoutubeID": "unknown1234"}, "no video file of unknown1234"),
        ({"Start_timestamp": "soon"}, "'soon' is not a time"),
        ({"Start_timestamp": 10**400}, "is not a time"),
        ({"End_timestamp": "00:00:01"}, "ends at 1 s, not after its start at 8.076 s"),
        ({"End_timestamp": None}, "only one of start and end"),
        ({"Caption": "  "}, "caption is empty"),
        ({"Caption": "half a pair \ud83d"}, "not UTF-8"),
        ({"YoutubeID": None}, "no video id"),
        ({"YoutubeID": "x" * 5000}, "too long"),
        ({"UMT_Score": "high"}, "its UMT_Score 'high' is not a number"),
        ({"UMT_Score": {}}, "its UMT_Score {} is not a number"),
        ({"Attributes": "red"}, "attributes are not an object of words"),
        ({"video_fps": 0, "Caption": 5}, "not of the expected shape (TypeError"),
    ]
    lines = [INTERNVID | change for change, _ in wrong]
    lines += [b'{"YoutubeID": "caf\xe9"}', b'{"cut', b"[1]", b"[" * 100_000, b"1" * 5000, INTERNVID]
    parts = [part for _, part in wrong] + ["not UTF-8", "not JSON", "not a JSON object"] + ["not JSON"] * 2
    source = open_source(write_lines(tmp_path / "bad.jsonl", lines), "internvid", media)
    assert_reasons(source, [(f"bad.jsonl line {n}", part) for n, part in enumerate(parts, 1)])
    assert [row.id for row in rows_of(source)] == [f"{ID}_8.076_14.276"]


def test_a_bad_first_row_does_not_condemn_the_table(tmp_path, media):
    path = write_lines(tmp_path / "r.jsonl", [{"YoutubeID": ID}, INTERNVID])
    source = open_source(path, "internvid", media)
    assert len(rows_of(source)) == 1
    assert_reasons(source, [("r.jsonl line 1", "caption is empty")])


def test_several_captions_of_one_clip_have_different_ids(tmp_path, media):
    path = write_lines(tmp_path / "r.jsonl", [INTERNVID | {"Caption": text} for text in "xyz"])
    base = f"{ID}_8.076_14.276"
    assert [row.id for row in open_source(path, videos=media)] == [base, f"{base}#2", f"{base}#3"]


def test_a_thumbnail_beside_a_video_is_not_taken_for_it(tmp_path, media):
    for name in (f"{ID}.webp", f"{ID}.jpg", f".{ID}.mp4"):
        (media / name).write_bytes(b"")
    [row] = open_source(write_lines(tmp_path / "r.jsonl", [INTERNVID]), videos=media)
    assert row.path == str(media / f"{ID}.mp4")


def test_a_missing_folder_of_videos_is_an_error(tmp_path):
    with pytest.raises(UserError, match="none is no folder; name the one that holds the videos"):
        list(open_source(write_lines(tmp_path / "r.jsonl", [INTERNVID]), videos=tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("75.5", 75.5),
        ("01:15.500", 75.5),
        ("1:01:15.5", 3675.5),
        ("00:00:08,076", 8.076),
        ("1e-05", 1e-5),
        (3, 3.0),
        (0.25, 0.25),
    ],
)
def test_times_are_read_in_every_notation(text, seconds):
    assert parse_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "1:2:3:4", None, -1, True, float("nan"), float("inf"), "-3", "9" * 400]
)
def test_texts_that_are_no_time_are_errors(text):
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)


def test_rows_of_kinetics_own_csv_have_classes(tmp_path, media):
    table = tmp_path / "train.csv"
    table.write_text(
        f"label,youtube_id,time_start,time_end,split\nriding a bike,{ID},1,3,train\nswimming,{ID},4,6,train\n"
    )
    (media / f"{ID}_000004_000006.mp4").write_bytes((media / f"{ID}.mp4").read_bytes())
    whole, cut = open_source(table, videos=media)
    found = whole.class_name, whole.path, whole.start, whole.end
    assert found == ("riding a bike", str(media / f"{ID}.mp4"), 1, 3)
    # A file that a downloader has cut is the clip: its times are those of the whole video.
    found = cut.class_name, cut.path, cut.start, cut.end
    assert found == ("swimming", str(media / f"{ID}_000004_000006.mp4"), None, None)
    assert (cut.id, cut.captions, cut.attributes) == (f"{ID}_4.000_6.000", (), {"split": "train"})
