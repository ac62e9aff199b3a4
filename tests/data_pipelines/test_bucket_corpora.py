"""Corpora in buckets: the same batches as from a disk, copied in the order of use, within bounds."""

import contextlib
import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ivjax.data_pipelines.load.classes_in_use import classes_in_use, labels_in_use
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.media_loader import open_media
from ivjax.data_pipelines.load.mixture import Corpus
from ivjax.data_pipelines.store import cache_folder, shard_cache, shard_pieces
from ivjax.data_pipelines.store.clips import is_corpus, open_clips
from ivjax.data_pipelines.store.manifest import read_manifest, store_manifest
from ivjax.data_pipelines.store.records import pack
from ivjax.data_pipelines.store.shard_caching import ShardCaching
from ivjax.embed.media_list import MediaList, find_medium
from ivjax.errors import PassingError, UserError
from tests.data_pipelines.corpora import corpus_of, make_clip, write_corpus
from tests.data_pipelines.dialogue.talks import build_talks, dialogues, spec
from tests.data_pipelines.fake_bucket import address_of
from tests.data_pipelines.reading import SPEC, assert_same, batches_of, mixture

GIB = 2**30
CLIPS, SHARDS = 40, 10


@pytest.fixture(scope="module")
def clips():
    return [make_clip(number, frames=4) for number in range(CLIPS)]


@pytest.fixture
def folder(tmp_path, clips):
    """A corpus of ten shards with four clips each; at an address of its own, because those are remembered."""
    return corpus_of(tmp_path / "corpus", clips, SHARDS)


@pytest.fixture(autouse=True)
def disk(monkeypatch):
    """A disk with room."""
    usage = type("Usage", (), {"total": GIB, "free": GIB})
    monkeypatch.setattr(cache_folder.shutil, "disk_usage", lambda folder: usage)


@pytest.fixture
def quick(monkeypatch):
    """Failures are over soon."""
    for name in ("_WAIT_SECONDS", "_POLL_SECONDS"):
        monkeypatch.setattr(shard_cache, name, 0.01)
    monkeypatch.setattr(shard_pieces, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(shard_pieces, "PATIENCE_SECONDS", 0.5)


def largest(folder, count):
    """The bytes of so many shards, the largest ones."""
    return sum(sorted((shard.bytes for shard in read_manifest(folder).shards), reverse=True)[:count])


def caching(folder, shards):
    """Options of a cache beside a corpus that has room for its largest shards, so many of them."""
    return ShardCaching(largest(folder, shards) / GIB, str(folder.parent / "cache"))


def stored(cache: ShardCaching):
    """The bytes of the shards in a cache."""
    taken = 0
    for file in Path(cache.folder).glob("*.array_record"):
        with contextlib.suppress(FileNotFoundError):  # it has had to go
            taken += file.stat().st_size
    return taken


def labels(batches):
    """The labels of batches in the order of their places."""
    return [int(row["label"]) for batch in batches for _, row in sorted(batch.items())]


@pytest.mark.parametrize("group", [0, 2])
def test_batches_equal_those_from_a_disk_on_any_number_of_hosts(bucket, folder, group):
    reference, _ = batches_of(mixture(folder, shuffle_shards=group), 10)
    cache = caching(folder, 2 * group + 1 if group else SHARDS)
    data = mixture(address_of(folder), shuffle_shards=group, shard_cache=cache)
    found, _ = batches_of(data, 10)
    assert_same(found, reference)
    split, _ = batches_of(data, 10, hosts=4)
    assert_same(split, reference)
    # The second time around, all that there is room for lay there.
    assert Counter(bucket.shards()).keys() == {shard.name for shard in read_manifest(folder).shards}
    if not group:
        assert set(Counter(bucket.shards()).values()) == {1}


def test_decode_processes_read_what_was_copied(bucket, folder):
    options = {"shuffle_shards": 1, "shard_cache": caching(folder, 3)}
    reference, _ = batches_of(mixture(folder, shuffle_shards=1), 25, batch=8)
    found, _ = batches_of(mixture(address_of(folder), workers=2, **options), 25, batch=8)
    assert_same(found, reference)
    # Five epochs: shards were removed, and copied and opened again.
    assert max(Counter(bucket.shards()).values()) > 1


def test_a_small_cache_stays_within_its_bounds_and_copies_each_shard_once_an_epoch(bucket, folder):
    cache = caching(folder, 5)
    data = mixture(address_of(folder), shuffle_shards=2, shard_cache=cache)
    # Three batches are being made at a time, which are fewer clips than a group has.
    batch, epochs = 2, 4
    loader = data.open(BatchRequest(SPEC, batch, 7))
    assert [remark.partition(": ")[0] for remark in loader.remarks] == [address_of(folder)]
    for _ in range(epochs * CLIPS // batch):
        next(loader)
        assert stored(cache) <= cache.gib * GIB
    assert loader.report()["data/copied_gib"] > 0
    loader.close()
    ahead = 2 * 2 + 1
    assert SHARDS < len(bucket.shards()) <= epochs * SHARDS + ahead


def test_shards_come_in_the_order_of_their_first_use(bucket, folder, monkeypatch):
    monkeypatch.setattr("ivjax.data_pipelines.load.shards_ahead._COPIES_AT_ONCE", 1)
    bucket.seconds = 0.05
    data = mixture(address_of(folder), shuffle_shards=2, shard_cache=caching(folder, 5))
    found, _ = batches_of(data, 5, batch=8)
    first_use = list(dict.fromkeys(label // 4 for label in labels(found)))
    names = list(dict.fromkeys(bucket.shards()))
    numbers = [int(name.split("-")[1]) for name in names]
    # The first is the one whose records a start looks at; of a group the readers take some, too.
    groups = [set(first_use[n : n + 2]) for n in range(0, SHARDS, 2)]
    rest = [number for number in numbers if number != numbers[0]]
    places = [next(place for place, group in enumerate(groups) if number in group) for number in rest]
    assert places == sorted(places)


def test_a_restart_goes_on_with_the_next_batch_and_what_lies_there(bucket, folder):
    data = mixture(address_of(folder), shuffle_shards=2, shard_cache=caching(folder, SHARDS))
    reference, _ = batches_of(mixture(folder, shuffle_shards=2), 10)
    before, state = batches_of(data, 4)
    after, _ = batches_of(data, 6, hosts=2, state=json.loads(json.dumps(state)))
    assert_same([*before, *after], reference)
    # Up to four were being copied when the first loader was closed.
    assert len(set(bucket.shards())) == SHARDS and len(bucket.shards()) <= SHARDS + 4
    # A run whose corpus has moved into a bucket, or out of it, goes on.
    _, state = batches_of(mixture(folder, shuffle_shards=2), 4)
    moved, _ = batches_of(data, 6, state=state)
    assert_same(moved, reference[4:])


def test_failing_requests_and_damaged_answers_change_nothing(bucket, folder, quick, caplog):
    reference, _ = batches_of(mixture(folder), 10)
    bucket.fails, bucket.damaged = 3, 2
    found, _ = batches_of(mixture(address_of(folder), shard_cache=caching(folder, SHARDS)), 10)
    assert_same(found, reference)
    assert "cannot be read now (RuntimeError: 503, try again)" in caplog.text


def test_a_bucket_that_stays_away_is_one_sentence(bucket, folder, quick):
    data = mixture(address_of(folder), shard_cache=caching(folder, SHARDS))
    bucket.fails = 1
    with pytest.raises(
        PassingError, match="could not be read for .* minutes .RuntimeError: 503.*; run the same"
    ):
        data.open(BatchRequest(SPEC, 8))


def test_a_broken_clip_has_the_same_replacement(bucket, clips, tmp_path):
    records = [pack(clip) for clip in clips]
    records[5] = b"nothing"
    records[8:12] = [b"nothing"] * 4
    folder = write_corpus(tmp_path / "corpus", records, SHARDS)
    options = {"shuffle_shards": 2, "broken": 1.0}
    reference, _ = batches_of(mixture(folder, **options), 10)
    cache = caching(folder, 5)
    found, _ = batches_of(mixture(address_of(folder), shard_cache=cache, **options), 10)
    assert_same(found, reference)
    assert sum(int(row["replaced"]) for batch in found for row in batch.values()) == 10


@pytest.mark.parametrize(
    ("group", "shards", "sentence"),
    [
        (0, 9, "or set data.shuffle_shards, with which two groups of so many shards are in use and not all"),
        (2, 4, "or lower data.shuffle_shards=2, of which two groups are in use"),
    ],
)
def test_a_cache_too_small_for_the_order_is_an_error_at_the_start(bucket, folder, group, shards, sentence):
    with pytest.raises(
        UserError, match="data.shard_cache.gib=.* too little: .* set it to 0.00[12], " + sentence
    ):
        data = mixture(address_of(folder), shuffle_shards=group, shard_cache=caching(folder, shards))
        data.open(BatchRequest(SPEC, 8))
    assert not bucket.shards()
    # Eval corpora count, before the first evaluation.
    both = mixture(address_of(folder), eval_corpora=(Corpus(address_of(folder.parent / "eval")),))
    corpus_of(folder.parent / "eval", [make_clip(7)], 1)
    with pytest.raises(UserError, match="too little"):
        mixture(*both.corpora, eval_corpora=both.eval_corpora, shard_cache=caching(folder, SHARDS)).open(
            BatchRequest(SPEC, 8)
        )


def test_shards_that_are_not_the_manifests_are_an_error_at_the_start(bucket, folder, tmp_path):
    manifest = read_manifest(folder)
    last = folder / manifest.shards[-1].name
    last.write_bytes(last.read_bytes()[:-5])
    with pytest.raises(
        UserError, match=f"{last.name} has .* bytes, its manifest says .*; copy it there again"
    ):
        open_clips(address_of(folder))
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(UserError, match="is not a corpus: it has no manifest.json; copy one there"):
        open_clips(address_of(other))
    store_manifest(other / "further", manifest)
    with pytest.raises(UserError, match="shard-00000-of-00010.array_record is missing; copy it there again"):
        open_clips(address_of(other / "further"))
    assert not is_corpus(address_of(other)) and is_corpus(address_of(folder))


def test_classes_are_those_of_the_manifest(bucket, folder):
    store_manifest(folder, dataclasses.replace(read_manifest(folder), classes=("run", "walk"), labels=3))
    data = mixture(address_of(folder))
    assert classes_in_use(data) == {address_of(folder): ("run", "walk")}
    assert labels_in_use(data) == {address_of(folder): 3}


def test_other_readers_copy_what_they_read(bucket, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    found, here = open_clips(address_of(folder)), open_clips(str(folder))
    assert [found[number] for number in (0, 1, 39)] == [here[number] for number in (0, 1, 39)]
    assert found.place(39) == here.place(39) and found.digest() == here.digest()
    found.close()
    assert bucket.shards() == ["shard-00000-of-00010.array_record", "shard-00009-of-00010.array_record"]
    assert len(list((tmp_path / "caches" / "ivjax" / "shards").glob("*.array_record"))) == 2
    names = [item.id for item in MediaList([address_of(folder)])]
    assert len(names) == CLIPS and names[7] == f"{address_of(folder)}::7::clip7"
    assert find_medium(names[7], "/elsewhere") == here[7].payload


def test_conversations_in_a_bucket_give_the_same_rows(bucket, tmp_path):
    folder = build_talks(tmp_path / "talks")[0]
    buckets = {"short": spec(180, 4, 2), "long": spec(460, 12, 4)}

    def rows(place, **options):
        loader = open_media(
            dialogues(place, **options), {name: BatchRequest(rows, 2, 3) for name, rows in buckets.items()}
        )
        found = [next(loader) for _ in range(6)]
        loader.close()
        return found

    cache = ShardCaching(1.0, str(tmp_path / "cache"))
    for one, other in zip(rows(address_of(folder), shard_cache=cache), rows(folder), strict=True):
        assert one.medium == other.medium
        for name, array in other.rows.items():
            np.testing.assert_array_equal(one.rows[name], array)
    assert max(Counter(bucket.shards()).values()) == 1
