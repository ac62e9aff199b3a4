"""Clips through loaders: one order on any hosts and workers, over resumes, in mixtures and repeats."""

from collections import Counter

import numpy as np
import pytest

from ivjax.data_pipelines.fields import Frames
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.data_pipelines.load.mixture import Corpus
from ivjax.data_pipelines.sampling import Intervals
from ivjax.errors import UserError
from tests.data_pipelines.corpora import corpus_of, make_clip
from tests.data_pipelines.reading import FIELDS, SPEC, assert_same, batches_of, mixture


@pytest.fixture(scope="module")
def reference(corpus, other):
    return batches_of(mixture(corpus, other), 6)[0]


@pytest.mark.parametrize(
    ("hosts", "workers"), [(2, 0), (4, 1), (1, 2), pytest.param(2, 2, marks=pytest.mark.slow)]
)
def test_global_batches_do_not_depend_on_hosts_and_workers(corpus, other, reference, hosts, workers):
    assert_same(batches_of(mixture(corpus, other, workers=workers), 6, hosts)[0], reference)


def test_restored_on_other_hosts_and_workers_the_order_goes_on(corpus, other, reference):
    first, state = batches_of(mixture(corpus, other, workers=1), 2, hosts=2)
    rest, _ = batches_of(mixture(corpus, other), 4, hosts=4, state=state)
    assert_same(first + rest, reference)


def test_every_clip_comes_once_an_epoch_with_new_frames_and_crops(corpus):
    found, _ = batches_of(mixture(corpus), 6)
    rows = [batch[index] for batch in found for index in sorted(batch)]
    first, second = rows[:24], rows[24:48]
    for epoch in (first, second):
        assert sorted(int(row["label"]) for row in epoch) == list(range(24))
    again = {int(row["label"]): row["video"] for row in second}
    assert sum((again[int(row["label"])] != row["video"]).any() for row in first) > 20


def test_another_seed_draws_other_frames(corpus):
    one, two = batches_of(mixture(corpus), 3)[0], batches_of(mixture(corpus), 3, seed=8)[0]
    order = [[int(b[i]["label"]) for b in found for i in sorted(b)] for found in (one, two)]
    assert order[0] != order[1]


def test_a_mixture_keeps_its_shares_over_a_resume(corpus, other):
    data = mixture(Corpus(str(corpus), 3.0), Corpus(str(other), 1.0))
    first, state = batches_of(data, 5)
    rest, _ = batches_of(data, 5, state=state)
    labels = [int(row["label"]) for batch in first + rest for row in batch.values()]
    assert Counter(label >= 100 for label in labels) == {False: 60, True: 20}
    seen = Counter(label for label in labels if label >= 100)
    assert max(seen.values()) - min(seen.values()) <= 1


def test_a_clip_stands_several_times_in_a_batch_with_the_same_frames_and_other_crops(corpus):
    data = mixture(corpus, repeats=2)
    found, state = batches_of(data, 6)
    plain, _ = batches_of(mixture(corpus), 3)
    order = [[int(batch[i]["sample"]) for batch in many for i in sorted(batch)] for many in (found, plain)]
    assert order[0] == [number for number in order[1] for _ in range(2)]
    rows = [batch[i]["video"] for batch in found for i in sorted(batch)]
    assert sum((one != two).any() for one, two in zip(rows[::2], rows[1::2], strict=True)) >= 20
    still = mixture(corpus, repeats=2, fields=FIELDS | {"video": Frames(Intervals(4))})
    for batch in batches_of(still, 3)[0]:
        for place in range(min(batch), max(batch), 2):
            np.testing.assert_array_equal(batch[place]["video"], batch[place + 1]["video"])
    for hosts in (2, 4):
        again, same = batches_of(data, 6, hosts)
        assert_same(again, found)
        assert same == state
    first, state = batches_of(data, 2, hosts=4)
    assert_same(first + batches_of(data, 4, state=state)[0], found)
    with pytest.raises(UserError, match="data.repeats=3 does not divide batch=8"):
        batches_of(mixture(corpus, repeats=3), 1)


def test_a_changed_corpus_does_not_go_on(corpus, other, tmp_path):
    _, state = batches_of(mixture(other), 1)
    changed = corpus_of(tmp_path, [make_clip(200)], shards=1)
    state["identity"] = {str(changed): state["identity"][str(other)]}
    loader = mixture(changed).open(BatchRequest(SPEC, 8))
    with pytest.raises(UserError, match="is not the one that this run has been reading"):
        loader.restore(state)
    loader.close()
