"""Layouts of datasets on a disk: configs, splits and shards, and files that are damaged or hostile."""

import json

import pyarrow
import pytest

from ivjax.data_pipelines.sources.arrow_files import open_arrow
from ivjax.data_pipelines.sources.hub.data_files import data_files
from ivjax.data_pipelines.sources.open_source import open_source
from ivjax.errors import UserError
from tests.data_pipelines.sources.helpers import assert_reasons, rows_of
from tests.data_pipelines.sources.hub_files import (
    VIDEO,
    VIDEO_FEATURE,
    class_feature,
    save_to_disk,
    small_table,
    table_of,
    videos,
    write_arrow,
    write_parquet,
)

CARD = """---
license: cc0-1.0
configs:
- config_name: en
  default: true
  data_files:
  - split: train
    path: "en/**/part-*.parquet"
  - split: held_out
    path: ["en/b/part-9.parquet"]
- config_name: de
  data_files: "de/*"
- config_name: fr
  data_files: "fr/*.txt"
---
# A dataset
"""


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def names_of(folder, **options):
    found = data_files(folder, **options)
    return found.split, [path.relative_to(folder).as_posix() for path in found.files]


@pytest.mark.parametrize(
    "files, splits",
    [
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], {"train": 2}),
        (
            ["data/mini_dev-00000-of-00001-0a1b2c.parquet", "data/test-00000-of-00001.parquet"],
            {"mini_dev": 1, "test": 1},
        ),
        (
            ["default/train/0000.parquet", "default/train/0001.parquet", "default/val/0000.parquet"],
            {"train": 2, "validation": 1},
        ),
        (["train.parquet", "my_eval.parquet"], {"train": 1, "test": 1}),
        (["dev/a.parquet", "training data/my_test.parquet"], {"validation": 1, "train": 1}),
        (["words.parquet", "cache-0123.arrow", ".hidden/x.parquet"], {"train": 1}),
        (["latest.parquet", "contest.parquet"], {"train": 2}),
    ],
)
def test_splits_are_told_by_the_names_of_files_and_folders(tmp_path, files, splits):
    touch(tmp_path, *files)
    for split, count in splits.items():
        found, names = names_of(tmp_path, split=split)
        assert (found, len(names)) == (split, count) and names == sorted(names)
    if len(splits) > 1:
        with pytest.raises(
            UserError, match=f"has the splits {', '.join(sorted(splits))}|choose one: --set split"
        ):
            data_files(tmp_path)


def test_folders_of_configs_and_the_cards_configs_are_chosen_by_name(tmp_path):
    by_folder = touch(tmp_path / "f", "en/train/0000.parquet", "de/train/0000.parquet", "README.md")
    assert names_of(by_folder, config="de") == ("train", ["de/train/0000.parquet"])
    with pytest.raises(UserError, match="has the configs de, en; choose one: --set config=de"):
        data_files(by_folder)
    with pytest.raises(UserError, match="has the configs de, en, and no config nl; choose another"):
        data_files(by_folder, config="nl")
    by_card = touch(
        tmp_path / "c", "en/a/part-1.parquet", "en/b/part-9.parquet", "en/other.parquet", "de/x.parquet"
    )
    (by_card / "README.md").write_text(CARD)
    assert names_of(by_card, config="en", split="train") == (
        "train",
        ["en/a/part-1.parquet", "en/b/part-9.parquet"],
    )
    assert names_of(by_card, config="en", split="held_out") == ("held_out", ["en/b/part-9.parquet"])
    assert names_of(by_card, config="de") == ("train", ["de/x.parquet"])
    with pytest.raises(UserError, match="has the configs en, de; choose one"):  # fr has no table
        data_files(by_card)


def test_shards_that_are_missing_or_of_two_downloads_are_named(tmp_path):
    touch(tmp_path / "a", *(f"data/train-0000{n}-of-00004.parquet" for n in (0, 3)))
    with pytest.raises(
        UserError, match="data lacks train-00001-of-00004 and has 2 of 4 shards; fetch the others"
    ):
        data_files(tmp_path / "a")
    touch(tmp_path / "b", "train-00000-of-00001.parquet", "train-00000-of-00002.parquet")
    with pytest.raises(UserError, match="holds shards of train of 1 and 2 in all; remove those of the older"):
        data_files(tmp_path / "b")


SAVED = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}


@pytest.mark.parametrize(
    "state, message",
    [
        ("{", "state.json is damaged"),
        ("[" * 100_000, "state.json is damaged"),
        ("[]", "state.json is no JSON object; save the dataset again"),
        ("{}", "state.json names no files; save the dataset again"),
        ('{"_data_files": 7}', "state.json names no files"),
        ('{"_data_files": [7]}', "names None, which is not in its folder; it is not read"),
        ('{"_data_files": [{"filename": "../t.arrow"}]}', "names '../t.arrow', which is not in its folder"),
        ('{"_data_files": [{"filename": "/etc/passwd"}]}', "names '/etc/passwd', which is not in its folder"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "lacks gone.arrow, which its state.json names"),
        (
            json.dumps(SAVED | {"_indices_data_files": [{"filename": "i.arrow"}]}),
            "keeps the order of its rows",
        ),
    ],
)
def test_a_damaged_or_hostile_description_is_one_sentence(tmp_path, state, message):
    save_to_disk(tmp_path / "saved", small_table())
    (tmp_path / "saved/state.json").write_text(state)
    with pytest.raises(UserError, match=message):
        list(open_source(tmp_path / "saved"))


@pytest.mark.parametrize(
    "head, message",
    [
        ("a: [", "the head of .*README.md is no YAML .*; mend it, or take the file away"),
        ("!!python/object/apply:os.system ['true']", "is no YAML"),
        ("a: &a [x, *a]", None),
        ("configs: 7", None),
        ("configs: [{data_files: [{path: 7}]}]", None),
        ("configs: [{data_files: ['../../**', '**/**/**/**/**/**/x']}]", None),
    ],
)
def test_a_card_that_says_nothing_of_use_is_left_aside_and_a_broken_one_is_told(tmp_path, head, message):
    folder = touch(tmp_path / "hub", "data/train-00000-of-00001.parquet")
    (folder / "README.md").write_text(f"---\n{head}\n---\n")
    if message is None:
        assert names_of(folder)[1] == ["data/train-00000-of-00001.parquet"]
    else:
        with pytest.raises(UserError, match=message):
            data_files(folder)


@pytest.mark.parametrize(
    "features, message",
    [
        ("{", "the features that .* names are damaged .*; write the file again"),
        ('{"info": {}}', "the features that .* names are damaged"),
        ({"label": class_feature(["a", "a"])}, "the class names of label of .* are not all different"),
        ({"label": class_feature(["a", 7])}, "the class names of label of .* are no list of words"),
        (
            {"label": class_feature() | {"names": {"a": 1}}},
            "the class names of label of .* are no list of words",
        ),
        ({"label": class_feature(), "other": class_feature()}, None),
        (
            {"other": class_feature(), "more": class_feature()},
            "has the columns other, more of classes; choose",
        ),
        ({"video": VIDEO_FEATURE, "film": VIDEO_FEATURE}, None),
        ({"clip": VIDEO_FEATURE, "film": VIDEO_FEATURE}, "has the columns clip, film of media; choose with"),
    ],
)
def test_features_that_are_damaged_or_leave_a_choice_are_one_sentence(tmp_path, features, message):
    about = features if isinstance(features, str) else json.dumps({"info": {"features": features}})
    cells = videos((b"1", "a.mp4"))
    columns = {"clip": cells, "film": cells, "label": [0], "other": [1], "more": [2]}
    if message is None and "video" in features:
        columns["video"] = cells
    else:
        columns = (
            columns
            if "clip" in features
            else {"clip": cells} | {k: columns[k] for k in ("label", "other", "more")}
        )
    table = table_of(columns).replace_schema_metadata({"huggingface": about})
    path = write_parquet(tmp_path / "t.parquet", table)
    if message is None:
        assert len(rows_of(open_source(path))) == 1
    else:
        with pytest.raises(UserError, match=message):
            list(open_source(path))


def test_files_that_are_no_tables_are_one_sentence(tmp_path):
    for suffix, kind in (("parquet", "Parquet"), ("arrow", "Arrow")):
        path = tmp_path / f"t.{suffix}"
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        with pytest.raises(
            UserError, match=f"t.{suffix} is a pointer of Git LFS, not the data; git lfs pull"
        ):
            list(open_source(path))
        path.write_bytes(b"<html>" * 9)
        with pytest.raises(UserError, match=f"t.{suffix} is a damaged {kind} file .*; fetch it again"):
            list(open_source(path))
    table = table_of({"score": [1.0], "name": ["a"]})
    with pytest.raises(
        UserError, match="has no column of videos: of the type Video or Image.*; it has score, name"
    ):
        list(open_source(write_arrow(tmp_path / "n.arrow", table)))
    twice = pyarrow.Table.from_arrays([videos((b"1", "a"))] * 2, schema=pyarrow.schema([("v", VIDEO)] * 2))
    with pytest.raises(UserError, match="has several columns of one name: v, v; rename them"):
        list(open_source(write_arrow(tmp_path / "d.arrow", twice)))


def test_places_that_lead_out_of_an_arrow_file_are_errors_and_no_crash(tmp_path):
    path = write_arrow(tmp_path / "t.arrow", small_table())
    whole = path.read_bytes()
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 7, 14, 21))  # of the videos' bytes
    assert whole.count(offsets) == 1
    path.write_bytes(whole.replace(offsets, offsets[:-4] + (2**31 - 1).to_bytes(4, "little")))
    assert_reasons(open_source(path), [("t.arrow row 1", "this row and those after it are damaged")])
    with pytest.raises(pyarrow.ArrowInvalid):
        open_arrow(path).read("video", 2)


def test_a_name_of_the_hub_is_told_how_to_be_fetched():
    fetch = "`hf download friends/clips --repo-type dataset --local-dir DIR` fetches a dataset"
    with pytest.raises(UserError, match=f"friends/clips does not exist.*{fetch}"):
        open_source("friends/clips")
