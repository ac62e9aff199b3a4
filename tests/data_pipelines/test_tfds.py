"""The TFDS builder: made, read by TFDS and by ivjax, without TensorFlow; the same clips as the shards."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ivjax.data_pipelines.store.clips import class_names, open_clips
from ivjax.data_pipelines.store.records import Clip, Turn
from ivjax.data_pipelines.video.encode import encode_image
from ivjax.errors import UserError
from tests.data_pipelines.footage import QUICK, build_small, clips_of, coded, some_rows

tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")

from ivjax.data_pipelines.build import tfds_internvid as internvid  # noqa: E402
from ivjax.data_pipelines.store import tfds_clips  # noqa: E402


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return some_rows(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def source(rows, tmp_path_factory):
    """An InternVid-style list of the rows, with one video that is not there."""
    path = tmp_path_factory.mktemp("source") / "list.csv"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["YoutubeID", "Start_timestamp", "End_timestamp", "Caption", "UMT_Score"])
        for row in rows:
            lines.writerow([Path(row.path).stem, row.start, row.end, row.captions[0], 0.5])
        lines.writerow(["lostlostlos", 0, 1, "nothing", 0.5])
    return path


@pytest.fixture(scope="module")
def builder(rows, source, tmp_path_factory):
    config = internvid.InternvidConfig(
        name="small", source=str(source), videos=str(Path(rows[0].path).parent), recipe=QUICK, workers=1
    )
    builder = tfds.builder("internvid", config=config, data_dir=str(tmp_path_factory.mktemp("tfds")))
    builder.download_and_prepare()
    return builder


def by_time(clips):
    return sorted(clips, key=lambda clip: (clip.video, clip.start))


def test_tfds_holds_the_clips_that_the_shards_hold(builder, rows, tmp_path):
    build_small(rows, tmp_path / "shards")
    found = by_time(tfds_clips.example_to_clip(example) for example in builder.as_data_source("train"))
    expected = by_time(clips_of(tmp_path / "shards"))
    assert len(found) == 12
    for one, other in zip(found, expected, strict=True):
        assert one == replace(other, id=one.id, scores=one.scores)
        assert list(one.scores.values()) == [0.5]
    assert "tensorflow" not in sys.modules


def test_tfds_finds_it_by_name_and_slices_it(builder):
    data_dir = Path(builder.data_dir).parents[2]
    half = tfds.data_source("internvid/small", data_dir=str(data_dir), split="train[:50%]")
    whole = builder.as_data_source("train")
    assert [example["id"] for example in half] == [whole[n]["id"] for n in range(6)]


def test_ivjax_reads_the_folder(builder):
    clips = open_clips(str(builder.data_dir))
    assert isinstance(clips, tfds_clips.TfdsClips)
    source = builder.as_data_source("train")
    assert [clips[n] for n in range(len(clips))] == [tfds_clips.example_to_clip(source[n]) for n in range(12)]
    shard, record = clips.place(11)
    assert (Path(builder.data_dir) / shard).is_file() and record == 11
    assert len(clips.digest()) == 64
    clips.close()


def test_what_was_dropped_is_told_beside_the_data(builder):
    (line,) = (Path(builder.data_dir) / "report.jsonl").read_text().splitlines()
    assert json.loads(line)["cause"] in ("missing", "bad row") and "lostlostlos" in line


def test_every_field_survives():
    clip = Clip(
        id="ünï",
        payload=bytes(range(256)),
        media="image",
        captions=("one", "zwei"),
        conversation=(Turn("user", "who?"), Turn("assistant", "me")),
        label=0,
        video="v",
        start=0.125,
        end=2000.75,
        frames=5,
        fps=12.5,
        width=64,
        height=48,
        audio=True,
        scores={"umt": 0.25, "aesthetic": 5.5},
        attributes={"colour": "red"},
    )
    features = tfds_clips.features()
    for one in (clip, Clip("bare", b"\0\n")):
        assert tfds_clips.example_to_clip(_round_trip(features, tfds_clips.clip_to_example(one))) == one


def _round_trip(features, example):
    from tensorflow_datasets.core import example_parser, example_serializer

    stored = example_serializer.ExampleSerializer(features.get_serialized_info()).serialize_example(
        features.encode_example(example)
    )
    parsed = example_parser.ExampleParserNp(features.get_tensor_info()).parse_example(stored)
    return features.decode_example_np(parsed)


def test_a_builder_without_a_source_and_a_folder_of_another_kind_are_errors(tmp_path):
    with pytest.raises(UserError, match="needs a source"):
        tfds.builder("internvid", data_dir=str(tmp_path)).download_and_prepare()

    empty = internvid.InternvidConfig(name="empty", source=str(_lost(tmp_path)), recipe=QUICK, workers=1)
    with pytest.raises(UserError, match="gives no clip: of 1 rows"):
        tfds.builder("internvid", config=empty, data_dir=str(tmp_path)).download_and_prepare()

    class Numbers(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        code_path = None

        def _info(self):
            features = tfds.features.FeaturesDict({"n": np.int64})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield 0, {"n": 1}

    other = Numbers(data_dir=str(tmp_path), file_format="array_record")
    other.download_and_prepare()
    with pytest.raises(UserError, match="not made by the TFDS builder internvid"):
        tfds_clips.TfdsClips(Path(other.data_dir))


def _lost(folder):
    path = folder / "lost.csv"
    path.write_text("YoutubeID,Start_timestamp,End_timestamp,Caption\nlostlostlos,0,1,nothing\n")
    return path


def test_class_names_stand_beside_the_shards_of_tfds(tmp_path):
    for name in ("walk/a", "jump/b"):
        path = tmp_path / "videos" / f"{name}.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_image(coded(ord(name[0]))))
    config = internvid.InternvidConfig(name="c", source=str(tmp_path / "videos"), recipe=QUICK, workers=1)
    builder = tfds.builder("internvid", config=config, data_dir=str(tmp_path / "tfds"))
    builder.download_and_prepare()
    assert class_names(str(builder.data_dir)) == ("jump", "walk")
    labels = {clip["id"]: int(clip["label"]) for clip in builder.as_data_source("train")}
    assert labels == {b"jump/b.png": 0, b"walk/a.png": 1}
