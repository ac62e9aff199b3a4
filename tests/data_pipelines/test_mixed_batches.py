"""Mixup and CutMix in loaders: soft targets, and the same pixels on any number of hosts."""

import numpy as np
import pytest

from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.fields import ArraySpec
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.errors import UserError
from tests.data_pipelines.reading import SPEC, assert_same, batches_of, mixture

MIXED = SPEC | {"targets": ArraySpec((24,), np.dtype(np.float32))}


def mixed_batches(data, count, hosts=1, state=None, batch=8):
    return batches_of(data, count, hosts, state, batch=batch, spec=MIXED)


def test_mixing_turns_labels_into_soft_targets(corpus):
    spec = {"video": SPEC["video"], "targets": ArraySpec((30,), np.dtype(np.float32))}
    loaders = [mixture(corpus, mix=Mix(30)).open(BatchRequest(spec, 8, 7)) for _ in range(2)]
    plain = mixture(corpus).open(BatchRequest(SPEC, 8, 7))
    for _ in range(3):
        one, two, unmixed = (next(loader) for loader in (*loaders, plain))
        np.testing.assert_array_equal(one["targets"], two["targets"])
        np.testing.assert_array_equal(one["video"], two["video"])
        assert (one["video"] != unmixed["video"]).any()
        labels = unmixed["label"]
        heavy = np.sort(np.argsort(one["targets"], axis=-1)[:, -2:], axis=-1)
        assert (heavy == np.sort(np.stack([labels, np.roll(labels, 4)], -1), axis=-1)).all()
    for loader in (*loaders, plain):
        loader.close()
    with pytest.raises(UserError, match="data.mix.classes=7 and the stage wants 30"):
        mixture(corpus, mix=Mix(7)).open(BatchRequest(spec, 8))


@pytest.mark.parametrize("group", [None, 1, 2, 4])
def test_mixed_global_batches_are_the_same_on_one_two_and_four_hosts(corpus, group):
    data = mixture(corpus, mix=Mix(24, group=group))
    reference, _ = mixed_batches(data, 4)
    kept = [row["targets"].max() for batch in reference for row in batch.values()]
    assert len(np.unique(np.round(kept, 5))) > 3
    for hosts in (2, 4):
        assert_same(mixed_batches(data, 4, hosts)[0], reference)


def test_mixed_batches_go_on_after_a_stop_even_with_another_size(corpus):
    data = mixture(corpus, mix=Mix(24, group=2))
    reference, _ = mixed_batches(data, 4)
    first, state = mixed_batches(data, 1, hosts=2)
    rest, _ = mixed_batches(data, 3, hosts=4, state=state)
    assert_same(first + rest, reference)
    larger, after = mixed_batches(data, 1, state=state, batch=12)
    assert sorted(larger[0]) == list(range(8, 20))
    more = [mixed_batches(data, 1, hosts, after, batch=12)[0] for hosts in (1, 2)]
    assert_same(*more)
