"""The builder: exact corpora, restarts over SIGKILL, rows that break their process, and what it tells."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ivjax.data_pipelines.build.build_corpus import build
from ivjax.data_pipelines.build.options import BuildOptions, Filters
from ivjax.data_pipelines.build.output_folder import locked
from ivjax.data_pipelines.build.shard_jobs import NOTES
from ivjax.data_pipelines.sources.row import BadRow, SourceRow
from ivjax.data_pipelines.store.clips import class_names
from ivjax.data_pipelines.store.manifest import MANIFEST, read_manifest
from ivjax.data_pipelines.store.shards import check_files, sha256
from ivjax.data_pipelines.video.encode import encode_image
from ivjax.errors import UserError
from tests.data_pipelines.footage import (
    QUICK,
    build_small,
    clips_of,
    coded,
    contents,
    numbers_of,
    some_rows,
)

ROOT = Path(__file__).parents[2]
HELPERS = "tests.data_pipelines.footage"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return some_rows(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def corpus(rows, tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus") / "out"
    build_small(rows, out, workers=2)
    return out


def test_a_corpus_holds_every_row_cut_exactly_and_a_true_manifest(rows, corpus):
    clips = clips_of(corpus)
    assert [clip.id for clip in clips] == [row.id for row in rows]
    for clip, row in zip(clips, rows, strict=True):
        first = -(-round(row.start * 1000) // 40)
        assert numbers_of(clip.payload) == list(range(first, -(-round(row.end * 1000) // 40)))
        assert clip.captions == row.captions
    manifest = read_manifest(corpus)
    check_files(corpus, manifest)
    assert [shard.count for shard in manifest.shards] == [5, 5, 2]
    assert all(shard.sha256 == sha256(corpus / shard.name) for shard in manifest.shards)
    assert json.loads((corpus / "report.json").read_text())["clips"] == 12 == manifest.clips
    assert (corpus / "report.jsonl").read_text() == ""


def test_an_annotation_file_is_built_by_its_path(rows, tmp_path):
    lines = ["YoutubeID,Start_timestamp,End_timestamp,Caption"]
    for row in rows[:3]:
        lines.append(f"{Path(row.path).stem},00:00:{row.start:06.3f},00:00:{row.end:06.3f},{row.captions[0]}")
    (tmp_path / "list.csv").write_text("\n".join([*lines, "video000000,oh,no,what", ""]))
    videos = str(Path(rows[0].path).parent)
    options = BuildOptions(
        str(tmp_path / "list.csv"), tmp_path / "out", videos=videos, recipe=QUICK, workers=1
    )
    said = []
    report = build(options, said.append)
    assert report.dropped == {"bad row": 1} and said[0].startswith("3 clips to make of 4 rows, 1 shards, 0")
    assert [clip.captions for clip in clips_of(tmp_path / "out")] == [row.captions for row in rows[:3]]
    assert [clip.start for clip in clips_of(tmp_path / "out")] == [row.start for row in rows[:3]]


def test_a_folder_for_each_class_gives_labels_and_their_names(tmp_path):
    for name in ("walk/a", "jump/b", "walk/c"):
        path = tmp_path / "videos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_image(coded(ord(name[-1]))))
    train = BuildOptions(str(tmp_path / "videos"), tmp_path / "train", recipe=QUICK, workers=1)
    said = []
    build(train, said.append)
    assert "2 classes: 0 jump, 1 walk" in said
    labels = {clip.id: clip.label for clip in clips_of(train.out)}
    assert labels == {"jump/b.png": 0, "walk/a.png": 1, "walk/c.png": 1}
    assert class_names(str(train.out)) == ("jump", "walk")
    # A test set without jumps takes the numbers of the training set.
    shutil.rmtree(tmp_path / "videos" / "jump")
    test = replace(train, out=tmp_path / "test", classes=str(train.out))
    build(test, said.append)
    assert {clip.label for clip in clips_of(test.out)} == {1} and class_names(str(test.out)) == (
        "jump",
        "walk",
    )
    with pytest.raises(UserError, match="another corpus, which differs in classes"):
        build(replace(test, classes=None), said.append)


def test_a_finished_corpus_is_left_alone(rows, corpus):
    before = {p: p.stat().st_mtime_ns for p in corpus.glob("*.array_record")}
    report = build_small(rows, corpus)
    assert report.kept_shards == 3 and report.clips == 12
    assert {p: p.stat().st_mtime_ns for p in corpus.glob("*.array_record")} == before


def test_what_is_missing_or_damaged_is_built_again_and_only_that(rows, corpus, tmp_path):
    out = Path(shutil.copytree(corpus, tmp_path / "out"))
    first, second, third = sorted(out.glob("*.array_record"))
    second.unlink()
    third.write_bytes(b"half")
    (out / ".shard-00001-of-00003.array_record.77.draft").write_bytes(b"stale")
    untouched = first.stat().st_mtime_ns
    assert build_small(rows, out).kept_shards == 1
    assert first.stat().st_mtime_ns == untouched and contents(out) == contents(corpus)


@pytest.mark.slow
def test_killed_twice_it_goes_on_and_ends_with_the_same_bytes(rows, tmp_path):
    videos, out = Path(rows[0].path).parent, tmp_path / "out"
    slow = {"recipe": replace(QUICK, captioner=f"{HELPERS}:describe_slowly"), "shard_clips": 3}
    for finished in (1, 2):
        _kill_when(out, finished, videos)
    assert not (out / MANIFEST).exists()
    report = build_small(rows, out, **slow)
    assert 2 <= report.kept_shards < 4
    build_small(rows, tmp_path / "undisturbed", **slow, workers=2)
    assert contents(out) == contents(tmp_path / "undisturbed")


def _kill_when(out, shards, videos):
    """Starts a build and kills it as soon as so many shards are finished."""
    code = (
        "from pathlib import Path; from dataclasses import replace\n"
        "from tests.data_pipelines.footage import *\n"
        f"recipe = replace(QUICK, captioner='{HELPERS}:describe_slowly')\n"
        f"rows, out = some_rows(Path({str(videos)!r})), Path({str(out)!r})\n"
        "build_small(rows, out, recipe=recipe, shard_clips=3)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    while len(list((out / NOTES).glob("shard-*.json"))) < shards:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_rows_that_crash_hang_or_fail_are_named_and_all_others_are_made(rows, tmp_path):
    recipe = replace(QUICK, captioner=f"{HELPERS}:break_down")
    odd = [replace(rows[n], id=f"{word}{n}") for n, word in ((1, "crash"), (4, "hang"), (6, "raise"))]
    mixed = [
        *rows[:1],
        odd[0],
        *rows[2:4],
        odd[1],
        rows[5],
        odd[2],
        replace(rows[7], path="/nowhere.mp4"),
        BadRow("x:9", "no id"),
    ]
    report = build_small(mixed, tmp_path / "out", recipe=recipe, row_seconds=3.0, workers=2)
    assert report.dropped == {"bad row": 1, "captioner": 1, "crash": 1, "hang": 1, "missing": 1}
    assert [clip.id for clip in clips_of(tmp_path / "out")] == ["v0c0", "v0c2", "v0c3", "v1c1"]
    lines = [json.loads(line) for line in (tmp_path / "out/report.jsonl").read_text().splitlines()]
    told = {(line["id"] or line["where"]): line["cause"] for line in lines}
    assert told == {
        "crash1": "crash",
        "hang4": "hang",
        "raise6": "captioner",
        "v1c3": "missing",
        "x:9": "bad row",
    }
    assert "raised ValueError: no words" in next(line["detail"] for line in lines if line["id"] == "raise6")


def test_another_corpus_in_the_folder_is_not_overwritten_unless_asked(rows, tmp_path):
    out = tmp_path / "out"
    build_small(rows[:4], out)
    before = contents(out)
    with pytest.raises(UserError, match="holds another corpus, which differs in recipe.short_side; choose"):
        build_small(rows[:4], out, recipe=replace(QUICK, short_side=32))
    with pytest.raises(UserError, match="differs in the rows of the source"):
        build_small(rows[:3], out)
    assert contents(out) == before
    assert build_small(rows[:3], out, overwrite=True).clips == 3
    (out / NOTES / "corpus.json").unlink()
    with pytest.raises(UserError, match="did not build"):
        build_small(rows[:3], out)


def test_an_empty_result_is_an_error_that_says_why_and_leaves_nothing(rows, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="it has no rows"):
        build_small([], out)
    with pytest.raises(UserError, match="of 1 rows, 1 bad row; the first: a:1: no path"):
        build_small([BadRow("a:1", "no path")], out)
    with pytest.raises(UserError, match="empty corpus: of 1 rows, 1 missing; the first: v: /no.mp4 is not"):
        build_small([SourceRow("v", "/no.mp4")], out)
    assert not out.exists()


def test_two_builders_cannot_write_to_one_folder(rows, tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match="another build is writing"):
        build_small(rows, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard_clips": 0}, "shard_clips=0"),
        ({"recipe": replace(QUICK, short_side=255)}, "odd"),
        ({"recipe": replace(QUICK, min_seconds=3, max_seconds=2)}, "swap them"),
        ({"filters": Filters(overlap=1.5)}, "overlap=1.5"),
        ({"recipe": replace(QUICK, captioner="nowhere")}, "module:function"),
    ],
)
def test_options_that_cannot_be_are_errors(rows, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        build_small(rows, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_builder_starts_without_jax_and_without_beam():
    code = (
        "import sys, ivjax.data_pipelines.build.build_corpus, ivjax.data_pipelines.build.guard\n"
        "print({'jax', 'apache_beam', 'grain', 'torch', 'pyarrow'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "set()\n"
