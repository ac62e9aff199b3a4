"""Comparing corpora: by bytes, by what they were made of, and clip by clip."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ivjax.data_pipelines.build.options import BuildOptions
from ivjax.data_pipelines.build.selection import make_plan
from ivjax.data_pipelines.build.source_identity import source_digest
from ivjax.data_pipelines.inspect.compare import compare
from ivjax.data_pipelines.inspect.stats import collect
from ivjax.data_pipelines.store.manifest import MANIFEST, Manifest, read_manifest, store_manifest
from ivjax.data_pipelines.store.records import pack
from tests.data_pipelines.corpora import corpus_of, make_clip, write_corpus
from tests.data_pipelines.footage import QUICK, build_small, some_rows

CLIPS = [make_clip(number, 2) for number in range(4)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return some_rows(tmp_path_factory.mktemp("videos"), 2, 2)


def test_one_source_has_one_digest_in_any_folder_and_any_number_of_shards(rows, tmp_path):
    moved = Path(shutil.copytree(Path(rows[0].path).parent, tmp_path / "moved"))
    elsewhere = [replace(row, path=str(moved / Path(row.path).name)) for row in rows]
    build_small(rows, tmp_path / "one")
    build_small(elsewhere, tmp_path / "two", shard_clips=3)
    one, two = (read_manifest(tmp_path / name) for name in ("one", "two"))
    assert one.source_digest == two.source_digest != "" and one.digest != two.digest
    assert one.libraries["av"] and one.libraries["libavcodec"].count(".") == 2
    assert json.loads((tmp_path / "one" / MANIFEST).read_text())["digest"] == one.digest
    found = compare(tmp_path / "one", tmp_path / "two")
    assert found.alike and found.same_source and not found.same_bytes and not any(found.differ.values())
    assert list(found.otherwise) == ["shard_clips"]
    assert found.text().endswith("only media bytes or their order differ")


@pytest.mark.parametrize("what", ["caption", "label", "time", "file", "recipe", "rows", "order"])
def test_whatever_a_corpus_is_made_of_changes_the_digest_of_its_source(rows, tmp_path, what):
    changed, recipe = list(rows), QUICK
    if what == "caption":
        changed[0] = replace(rows[0], captions=("another",))
    if what == "label":
        changed[0] = replace(rows[0], label=3)
    if what == "time":
        changed[0] = replace(rows[0], end=rows[0].end + 0.04)
    if what == "file":
        longer = tmp_path / Path(rows[0].path).name
        longer.write_bytes(Path(rows[0].path).read_bytes() + bytes(8))
        changed = [replace(row, path=str(longer)) if row.path == rows[0].path else row for row in rows]
    if what == "recipe":
        recipe = replace(QUICK, short_side=32)
    if what == "rows":
        changed = rows[:-1]
    if what == "order":
        changed = rows[::-1]
    digests = [planned_digest(rows, QUICK), planned_digest(changed, recipe)]
    assert digests[0] != digests[1]


def planned_digest(rows, recipe):
    """The digest of rows as a build would store it."""
    options = BuildOptions("test", Path("out"), recipe=recipe)
    return source_digest(make_plan(rows, options).jobs, recipe, ())


def test_the_order_of_columns_does_not_change_the_digest(rows):
    one = [replace(rows[0], scores={"a": 1.0, "b": 2.0})]
    other = [replace(rows[0], scores={"b": 2.0, "a": 1.0})]
    assert planned_digest(one, QUICK) == planned_digest(other, QUICK)


def test_equal_corpora_are_equal(tmp_path):
    found = compare(corpus_of(tmp_path / "one", CLIPS), corpus_of(tmp_path / "two", CLIPS))
    assert found.alike and found.same_bytes and found.same_source is None
    assert found.text().splitlines() == [
        "clips: 4 and 4",
        "bytes: the same",
        "source: not known of both",
        "the corpora are equal",
    ]


def test_differences_are_named_by_kind_and_clip(tmp_path):
    one, two, three, four = CLIPS
    others = [
        replace(one, payload=one.payload + b"x"),
        replace(two, label=9),
        replace(three, end=0.2, frames=1),
        make_clip(5, 1),
    ]
    first = corpus_of(tmp_path / "one", CLIPS)
    second = write_corpus(tmp_path / "two", [*map(pack, others), b"nothing"])
    store_manifest(second, replace(read_manifest(second), classes=("a",), libraries={"av": "18.1.0"}))
    found = compare(first, second)
    assert found.differ == {
        "annotations": ["clip1"],
        "times": ["clip2"],
        "pictures": ["clip2"],
        "bytes": ["clip0"],
    }
    assert found.only == (["clip3"], ["clip5"]) and found.unreadable == 1
    assert not found.alike and found.text().splitlines()[2:] == [
        "source: not known of both",
        "  libraries.av: None and 18.1.0",
        "class names: different",
        "records that cannot be read: 1",
        "only in the first: 1 clips (clip3)",
        "only in the second: 1 clips (clip5)",
        "different annotations: 1 clips (clip1)",
        "different times: 1 clips (clip2)",
        "different pictures: 1 clips (clip2)",
        "different bytes: 1 clips (clip0)",
        "the corpora differ",
    ]
    assert json.loads(found.as_json())["differ"]["times"] == ["clip2"]


def test_other_media_bytes_alone_leave_corpora_alike(tmp_path):
    other = [replace(clip, payload=clip.payload + b"x") for clip in CLIPS]
    found = compare(corpus_of(tmp_path / "one", CLIPS), corpus_of(tmp_path / "two", other))
    assert found.alike and not found.same_bytes and len(found.differ["bytes"]) == 4
    assert "different bytes: 4 clips (clip0, clip1, clip2, ...)" in found.text().splitlines()


def test_clips_of_one_id_are_compared_in_their_order(tmp_path):
    twice = [CLIPS[0], replace(CLIPS[1], id="clip0")]
    found = compare(corpus_of(tmp_path / "one", twice, 1), corpus_of(tmp_path / "two", twice[:1], 1))
    assert found.only == (["clip0#2"], [])


def test_stats_print_both_digests_and_old_manifests_are_still_read(tmp_path):
    folder = corpus_of(tmp_path / "corpus", CLIPS[:1], 1)
    digest = read_manifest(folder).digest
    store_manifest(folder, replace(read_manifest(folder), source_digest="5e"))
    stats = collect(folder)
    assert {f"digest of the bytes:  {digest}", "digest of the source: 5e"} <= set(stats.table().splitlines())
    assert (stats.as_dict()["digest"], stats.as_dict()["source_digest"]) == (digest, "5e")
    older = json.loads((folder / MANIFEST).read_text())
    for name in ("classes", "labels", "source_digest", "libraries", "digest"):
        del older[name]
    (folder / MANIFEST).write_text(json.dumps(older))
    manifest = read_manifest(folder)
    assert manifest == Manifest(manifest.shards, older["made_with"]) and manifest.digest == digest
    assert "digest of the source: unknown, an earlier version built it" in collect(folder).table()
