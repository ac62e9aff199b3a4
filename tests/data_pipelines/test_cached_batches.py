"""Batches from the cache of decoded clips equal those that are decoded anew, array by array."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from ivjax.data_pipelines.augment.recipe import (
    FINETUNE,
    TEST,
    TRAIN_STAGE1,
    TRAIN_STAGE2,
    VALIDATE,
)
from ivjax.data_pipelines.fields import ArraySpec, Frames, Label
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.mixture import Corpus, Mixture
from ivjax.data_pipelines.sampling import Dense, Intervals, PerSecond, Segments, Stretched, Ticks
from ivjax.data_pipelines.store.records import pack
from ivjax.errors import UserError
from tests.data_pipelines import reading
from tests.data_pipelines.corpora import corpus_of, make_clip, write_corpus
from tests.data_pipelines.damage import damaged
from tests.data_pipelines.test_frame_cache import PAYLOADS
from tests.data_pipelines.treacherous import Deadly

MIB = 1 / 1024  # of a GiB
CLIPS = 12
SPEC = {
    "index": ArraySpec((), np.dtype(np.uint32)),
    "replaced": ArraySpec((), np.dtype(np.uint8)),
    "label": ArraySpec((), np.dtype(np.int32)),
    "video": ArraySpec((4, 24, 24, 3), np.dtype(np.uint8)),
}
# FINETUNE rotates, shears and recolours (RandAugment), flips and erases.
READERS = {
    "stage 1": Frames(Segments(4), TRAIN_STAGE1),
    "stage 2": Frames(Intervals(4), TRAIN_STAGE2),
    "fine-tuning": Frames(Dense(4, 1), FINETUNE),
    "validation": Frames(PerSecond(4, 2.0), VALIDATE),
    "test": Frames(Stretched(4, 1, "middle"), TEST),
    "short clips": Frames(Ticks(4, short="repeat_first"), TRAIN_STAGE2),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Clips of 3 to 9 frames; every third has colours, pixels or a rotation of its own."""
    kinds = list(PAYLOADS.values())
    clips = [make_clip(n, frames=3 + n % 7) for n in range(CLIPS)]
    for n in range(0, CLIPS, 3):
        clips[n] = replace(clips[n], payload=kinds[-1 - n // 3])
    return corpus_of(tmp_path_factory.mktemp("corpus"), clips)


def mixture(folder, frames, **options):
    return Mixture((Corpus(str(folder)),), {"video": frames, "label": Label()}, **options)


def batches(folder, frames, count=9, hosts=1, **options):
    data = mixture(folder, frames, **options)
    return reading.batches(lambda host: data.open(BatchRequest(SPEC, 4, 7, host)), count, hosts, None)[0]


@pytest.fixture(scope="module")
def decoded(corpus):
    """Name of a reader -> its batches without a cache."""
    return functools.cache(lambda name: batches(corpus, READERS[name], workers=0))


@pytest.mark.parametrize("name", READERS)
def test_three_epochs_from_the_cache_equal_three_that_are_decoded(corpus, decoded, name):
    reading.assert_same(batches(corpus, READERS[name], workers=0, cache_gib=4 * MIB), decoded(name))


@pytest.mark.parametrize(("workers", "hosts", "kib"), [(2, 1, 4096), (0, 2, 4096), (0, 1, 40)])
def test_workers_share_the_cache_and_one_that_is_too_small_changes_nothing(
    corpus, decoded, workers, hosts, kib
):
    found = batches(corpus, READERS["stage 2"], 9, hosts, workers=workers, cache_gib=kib / 2**20)
    reading.assert_same(found, decoded("stage 2"))


def test_the_share_of_hits_and_the_size_are_reported(corpus):
    loader = mixture(corpus, READERS["test"], workers=1, cache_gib=4 * MIB).open(BatchRequest(SPEC, CLIPS, 7))
    shares = []
    for _ in range(8):
        next(loader)
        report = loader.report()
        shares.append(report.get("data/cache_hits"))
    loader.close()
    assert shares[0] is None or shares[0] < 1
    assert shares[-1] == 1.0
    assert 0 < report["data/cache_gib"] < 4 * MIB
    plain = mixture(corpus, READERS["test"], workers=0).open(BatchRequest(SPEC, CLIPS))
    assert not [name for name in plain.report() if "cache" in name]
    plain.close()


def test_broken_clips_are_replaced_by_the_same_ones(tmp_path):
    records = [pack(make_clip(n, frames=5)) for n in range(40)]
    for way in range(10):
        records[4 * way + 1] = damaged(make_clip(4 * way + 1), way, 5)[0]
    folder = write_corpus(tmp_path, records)
    reference = batches(folder, READERS["stage 2"], 30, workers=0, broken=1.0)
    found = batches(folder, READERS["stage 2"], 30, workers=0, broken=1.0, cache_gib=4 * MIB)
    reading.assert_same(found, reference)
    assert sum(int(row["replaced"]) for batch in found for row in batch.values()) == 30


@pytest.mark.slow
def test_a_killed_and_a_hanging_worker_leave_the_cache_as_it_should_be(tmp_path):
    clips = [make_clip(n, frames={3: 9, 6: 10, 8: 11}.get(n, 8)) for n in range(CLIPS)]
    folder = corpus_of(tmp_path / "corpus", clips, shards=1)
    options = {"workers": 2, "seconds": 2.0, "broken": 1.0, "cache_gib": 4 * MIB}
    loader = mixture(folder, Frames(Deadly(str(tmp_path))), **options).open(BatchRequest(SPEC, CLIPS, 7))
    found = [next(loader) for _ in range(4)]
    causes = {fault.record: fault.cause for fault in loader.broken.named}
    loader.close()
    assert causes == {3: "crash", 6: "hang"}  # and 8, which takes too long as a whole, is no broken clip
    plain = mixture(folder, Frames(Intervals(4)), workers=0).open(BatchRequest(SPEC, CLIPS, 7))
    for batch in found:
        expected = next(plain)
        whole = batch["replaced"] == 0
        np.testing.assert_array_equal(batch["video"][whole], expected["video"][whole])
        assert whole.sum() >= CLIPS - 2
    plain.close()


def test_a_negative_size_is_an_error_of_the_option(corpus):
    with pytest.raises(UserError, match="data.cache_gib=-1"):
        mixture(corpus, READERS["test"], workers=0, cache_gib=-1.0).open(BatchRequest(SPEC, 4))
