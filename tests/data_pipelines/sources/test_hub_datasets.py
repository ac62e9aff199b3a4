"""Datasets of the Hugging Face Hub: which columns are read, where their videos are, and how classes count."""

import json
from pathlib import Path

import pyarrow
import pytest

from ivjax.data_pipelines.sources.classes import number_classes
from ivjax.data_pipelines.sources.media import media_size, probed_media, read_media
from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.data_pipelines.sources.recognise import recognise
from ivjax.data_pipelines.store.manifest import read_manifest
from ivjax.data_pipelines.store.records import Turn
from ivjax.errors import UserError
from ivjax.evals.items import EvalData, open_items
from tests.data_pipelines.footage import build_small, clips_of, numbers_of, write_video
from tests.data_pipelines.sources.helpers import assert_reasons, rows_of, write_lines
from tests.data_pipelines.sources.hub_files import (
    CLASSES,
    VIDEO_FEATURE,
    class_feature,
    save_to_disk,
    small_table,
    table_of,
    value_feature,
    videos,
    write_arrow,
    write_parquet,
)


def bytes_of(path):
    return Path(path).read_bytes()


def contents(source):
    return [read_media(row.path) for row in rows_of(source)]


@pytest.mark.parametrize("layout", ["saved", "parquet", "arrow stream", "arrow file"])
def test_videos_captions_and_classes_of_a_dataset_are_read_from_its_tables(tmp_path, layout):
    one, other = small_table("ab"), small_table("c", [1])
    if layout == "saved":
        path = save_to_disk(tmp_path / "saved", one, other)
    elif layout == "parquet":
        for number, table in enumerate((one, other)):
            write_parquet(tmp_path / f"hub/data/train-0000{number}-of-00002.parquet", table)
        path = tmp_path / "hub"
    else:
        path = write_arrow(tmp_path / "t.arrow", small_table(), 2, stream=layout.endswith("stream"))
    assert recognise(path, {}) == "hf"
    source = open_source(path)
    found = rows_of(source)
    assert [(row.id, row.video, row.media) for row in found] == [
        (f"{n}.mp4",) * 2 + ("video",) for n in "abc"
    ]
    assert [row.captions for row in found] == [(f"this is {n}", f"{n} again") for n in "abc"]
    # In the order of the dataset, which is not that of the words.
    numbered, names = number_classes(source, "it", source.class_names)
    assert [row.label for row in numbered] == [2, 0, 1] and names == CLASSES
    assert contents(source) == [b"video a", b"video b", b"video c"]
    sizes = [media_size(row.path) for row in found]
    assert all(size > 10 for size in sizes) if layout == "parquet" else sizes == [7, 7, 7]


def test_a_built_corpus_has_the_classes_in_the_order_of_the_dataset(tmp_path):
    media = [(bytes_of(write_video(tmp_path / f"{n}.mp4", n)), f"{n}.mp4") for n in (4, 6)]
    columns = {"video": videos(*media), "text": ["a clip of four", "a clip of six"], "label": [2, 0]}
    features = {"video": VIDEO_FEATURE, "text": value_feature("string"), "label": class_feature()}
    write_parquet(tmp_path / "hub/train.parquet", table_of(columns, features))
    build_small(open_source(tmp_path / "hub"), tmp_path / "out")
    four, six = clips_of(tmp_path / "out")
    assert (four.label, four.captions, numbers_of(four.payload)) == (2, ("a clip of four",), [0, 1, 2, 3])
    assert (six.label, six.captions, six.frames) == (0, ("a clip of six",), 6)
    assert read_manifest(tmp_path / "out").classes == CLASSES
    [item] = list(open_items(EvalData(str(tmp_path / "hub"), limit=1)))
    assert item.label == 2 and open_items(EvalData(str(tmp_path / "hub"))).classes == CLASSES


def test_classes_that_the_user_gives_are_found_by_name_and_not_by_number(tmp_path):
    source = open_source(write_parquet(tmp_path / "t.parquet", small_table()))
    numbered, _ = number_classes(source, "it", ("archery", "walk"))
    assert [getattr(row, "label", "bad") for row in numbered] == [0, 1, "bad"]


def test_cells_are_read_in_any_order_over_row_groups_and_again(tmp_path):
    names = [chr(ord("a") + number) for number in range(23)]
    path = write_parquet(tmp_path / "t.parquet", small_table(names, [0] * 23), rows=5)
    cells = [row.path for row in rows_of(open_source(path))]
    for number in (0, 1, 1, 4, 5, 22, 3, 21, 10, 9, 9, 2):
        assert read_media(cells[number]) == f"video {names[number]}".encode()
    with pytest.raises(OSError, match="there are 23 rows"):
        read_media(f"{path}::video[23]")
    with pytest.raises(OSError, match=r"sound\[0\] cannot be read"):
        read_media(f"{path}::sound[0]")


@pytest.mark.parametrize("write", [write_parquet, write_arrow])
def test_rows_without_bytes_are_files_beside_the_table_or_in_the_named_folder(tmp_path, media, write):
    cells = videos(
        (b"inside", "in.mp4"), (None, "a.mp4"), None, (None, "https://x.org/b.mp4"), (None, "no.mp4")
    )
    suffix = "parquet" if write is write_parquet else "arrow"
    path = write(tmp_path / f"t.{suffix}", table_of({"video": cells, "caption": list("abcde")}))
    source = open_source(path, videos=media)
    assert contents(source) == [b"inside", b"a.mp4"]
    assert_reasons(
        source,
        [
            (f"t.{suffix} row 3", "its video is empty"),
            (f"t.{suffix} row 4", "is an address, and nothing is downloaded"),
            (f"t.{suffix} row 5", f"no.mp4 is not in {media}, nor in {tmp_path}"),
        ],
    )
    alone = table_of({"video": videos((None, "media/a.mp4"), (None, "media/b.webm")), "caption": list("ab")})
    assert contents(open_source(write(tmp_path / f"beside.{suffix}", alone))) == [b"a.mp4", b"b.webm"]


def test_a_column_of_plain_bytes_is_known_by_its_content(tmp_path):
    video = bytes_of(write_video(tmp_path / "v.mp4", 3))
    path = write_parquet(tmp_path / "t.parquet", table_of({"mp4": [video, video], "caption": ["a b", "c d"]}))
    found = rows_of(open_source(path))
    assert [(row.id, row.media, row.captions) for row in found] == [
        ("t/0", "video", ("a b",)),
        ("t/1", "video", ("c d",)),
    ]
    assert probed_media(found[0].path) == "video"
    path = write_parquet(tmp_path / "w.parquet", table_of({"bytes": [b"words"], "caption": ["a b"]}))
    assert_reasons(open_source(path, "hf"), [("w.parquet row 1", "is neither a video nor an image")])


COLUMNS = {
    "id": ["x", "y"],
    "video": ["a.mp4", "b.webm"],
    "clip": videos((b"1", "p.mp4"), (b"2", "q.mp4")),
    "thumbnail": videos((b"3", "p.jpg"), (b"4", "q.jpg")),
    "caption": ["one", "two"],
    "long_caption": ["one more", "two more"],
    "tags": [["s", "t"], ["u"]],
    "label": [0, 1],
    "scene": [5, 6],
    "start": [1.0, 2.0],
    "end": [3.0, 4.0],
    "score": [0.5, 0.25],
}
FEATURES = {"clip": VIDEO_FEATURE, "thumbnail": {"_type": "Image"}, "scene": value_feature("int64")}


@pytest.mark.parametrize(
    "options, wanted",
    [
        ({}, ("p.mp4_1.000_3.000", b"1", ("one",), 0, 1.0)),
        ({"whole": "true"}, ("p.mp4", b"1", ("one",), 0, None)),
        ({"video_from": "video"}, ("a.mp4_1.000_3.000", b"a.mp4", ("one",), 0, 1.0)),
        ({"video_from": "thumbnail"}, ("p.jpg_1.000_3.000", b"3", ("one",), 0, 1.0)),
        ({"caption_from": "long_caption"}, ("p.mp4_1.000_3.000", b"1", ("one more",), 0, 1.0)),
        ({"caption_from": "caption,tags"}, ("p.mp4_1.000_3.000", b"1", ("one", "s", "t"), 0, 1.0)),
        ({"label_from": "scene"}, ("p.mp4_1.000_3.000", b"1", ("one",), 5, 1.0)),
    ],
)
def test_columns_are_found_by_type_and_name_or_named_by_the_user(tmp_path, media, options, wanted):
    path = write_parquet(tmp_path / "t.parquet", table_of(COLUMNS, FEATURES))
    row = rows_of(open_source(path, videos=media, **options))[0]
    assert (row.id, read_media(row.path), row.captions, row.label, row.start) == wanted
    assert row.scores == {"score": 0.5}


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"video_from": "film"},
            "the column film of .*t.parquet is not there; it has id, video, clip",
        ),
        ({"video_from": "score"}, "the column score of .* holds neither media nor paths; it has id, video"),
        ({"caption_from": "caption, words"}, "the column words of .* is not there; it has id, video, clip"),
        ({"label_from": "labels"}, "the column labels of .* is not there; it has id"),
        ({"conversation_from": "talk"}, "the column talk of .* is not there; it has id"),
        (
            {"columns": "clip"},
            "has no option 'columns'; it has config, split, video_from",
        ),
        ({"split": "val"}, "has the split train, and no split validation; choose another"),
        ({"config": "en"}, "has the config default, and no config en; choose another"),
    ],
)
def test_a_wrong_column_or_split_is_an_error_that_lists_those_that_there_are(tmp_path, options, message):
    path = write_parquet(tmp_path / "t.parquet", table_of(COLUMNS, FEATURES))
    with pytest.raises(UserError, match=message):
        list(open_source(path, **options))


def test_a_class_that_is_a_list_or_beyond_the_names_is_a_bad_row(tmp_path):
    columns = {"video": videos((b"1", "a.mp4"), (b"2", "b.mp4"), (b"3", "c.mp4")), "label": [1, 3, -1]}
    path = write_parquet(tmp_path / "t.parquet", table_of(columns, {"label": class_feature()}))
    source = open_source(path)
    assert [(row.id, row.class_name) for row in rows_of(source)] == [("a.mp4", "a run"), ("c.mp4", "")]
    assert_reasons(source, [("t.parquet row 2", "its label is 3, and there are 3 classes")])
    columns = {"video": videos((b"1", "a.mp4")), "labels": [[0, 1]]}
    source = open_source(write_parquet(tmp_path / "u.parquet", table_of(columns)), label_from="labels")
    assert_reasons(source, [("u.parquet row 1", "its labels is a list, and a clip has one class")])


def test_conversations_in_the_layouts_of_instruction_files_are_read(tmp_path):
    cells = videos((b"1", "a.mp4"), (b"2", "b.mp4"))
    turns = [
        [{"role": "user", "content": f"What is {n} ?"}, {"role": "assistant", "content": n}] for n in "ab"
    ]
    said = [(Turn("user", f"What is {n} ?"), Turn("assistant", n)) for n in "ab"]
    columns = {"video": cells, "messages": turns, "caption": ["x y", "z"], "type": ["colour", "shape"]}
    path = write_parquet(tmp_path / "t.parquet", table_of(columns, {"video": VIDEO_FEATURE}))
    found = rows_of(open_source(path, conversation_from="messages"))
    assert [row.conversation for row in found] == said
    assert [row.attributes["question"] for row in found] == ["colour", "shape"]
    assert [row.captions for row in found] == [(), ()]
    assert [row.captions for row in rows_of(open_source(path))] == [("x y",), ("z",)]
    asked = {
        "video": cells,
        "question": ["What is a ?", "What is b ?"],
        "answer": ["a", "b"],
        "text": ["m", "n"],
    }
    path = write_parquet(tmp_path / "u.parquet", table_of(asked))
    assert [row.conversation for row in rows_of(open_source(path))] == said
    by_caption = rows_of(open_source(path, caption_from="text"))
    assert [(row.captions, row.conversation) for row in by_caption] == [(("m",), ()), (("n",), ())]


def test_videos_beside_their_metadata_are_read_by_split(tmp_path):
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / "own" / part).mkdir(parents=True, exist_ok=True)
            (tmp_path / "own" / part / f"{name}.mp4").write_bytes(f"{part} {name}".encode())
    rows = [{"file_name": f"{name}.mp4", "text": f"this is {name}"} for name in "ab"]
    write_lines(tmp_path / "own/train/metadata.jsonl", rows)
    (tmp_path / "own/test/metadata.csv").write_text("file_name,text,label\na.mp4,this is a,4\nb.mp4,,5\n")
    assert recognise(tmp_path / "own", {}) == "hf"
    with pytest.raises(UserError, match="has the splits test, train; choose one: --set split=test"):
        list(open_source(tmp_path / "own"))
    train = rows_of(open_source(tmp_path / "own", split="train"))
    assert [(row.id, row.captions) for row in train] == [("a.mp4", ("this is a",)), ("b.mp4", ("this is b",))]
    test = open_source(tmp_path / "own", split="test")
    assert contents(test) == [b"test a", b"test b"] and [row.label for row in rows_of(test)] == [4, 5]
    assert_reasons(
        open_source(tmp_path / "own", split="test", caption_from="text"), [("metadata.csv line 3", "empty")]
    )


def test_one_table_above_the_folders_of_splits_describes_them_all(tmp_path, media):
    (media / "train").mkdir()
    (media / "val").mkdir()
    for name in ("train/x.mp4", "val/y.mp4", "val/z.mp4"):
        (media / name).write_bytes(name.encode())
    names = ["train/x.mp4", "val/y.mp4", "val/z.mp4"]
    table = pyarrow.table({"file_name": names, "caption": list("xyz")})
    write_parquet(media / "metadata.parquet", table)
    assert contents(open_source(media, split="val")) == [b"val/y.mp4", b"val/z.mp4"]
    assert contents(open_source(media, split="train")) == [b"train/x.mp4"]


def test_other_folders_and_tables_are_still_what_they_were(tmp_path, media):
    assert recognise(media, {}) == "folder"
    write_parquet(media / "index.parquet", pyarrow.table({"size": [1]}))
    assert recognise(media, {}) == "folder"
    named = {"path": ["a.mp4"], "caption": ["a b"], "hash": [b"x"]}
    assert recognise(write_parquet(tmp_path / "c.parquet", table_of(named)), {}) == "captions"
    ids = {"YoutubeID": ["x"], "Caption": ["a b"]}
    assert recognise(write_parquet(tmp_path / "i.parquet", table_of(ids)), {}) == "internvid"
    assert recognise(write_parquet(tmp_path / "h.parquet", small_table()), {}) == "hf"
    with pytest.raises(UserError, match="holds no dataset: no .parquet or .arrow file, no state.json"):
        (tmp_path / "empty").mkdir()
        list(open_source(tmp_path / "empty", "hf"))


def test_the_package_datasets_writes_what_is_read(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    from datasets.table import embed_table_storage

    paths = [write_video(tmp_path / f"v{number}.mp4", number) for number in (3, 4, 5)]
    features = datasets.Features(
        video=datasets.Video(), text=datasets.Value("string"), label=datasets.ClassLabel(names=list(CLASSES))
    )
    columns = {"video": paths, "text": ["three", "four", "five"], "label": [2, 1, 0]}
    made = datasets.Dataset.from_dict(columns, features=features)
    made.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=made, test=made.select([1])).save_to_disk(tmp_path / "both")
    (tmp_path / "hub/data").mkdir(parents=True)
    stored = made.with_format("arrow").map(embed_table_storage, batched=True, batch_size=2).with_format(None)
    stored.to_parquet(tmp_path / "hub/data/train-00000-of-00001.parquet")
    wanted = list(map(bytes_of, paths))
    for folder, options in (("saved", {}), ("both", {"split": "train"}), ("hub", {})):
        source = open_source(tmp_path / folder, **options)
        assert contents(source) == wanted
        told = [(row.captions, row.class_name) for row in rows_of(source)]
        assert told == [(("three",), "archery"), (("four",), "a run"), (("five",), "walk")]
        assert source.class_names == CLASSES
    [row] = rows_of(open_source(tmp_path / "both", split="test"))
    assert row.captions == ("four",) and json.loads((tmp_path / "both/dataset_dict.json").read_text())
