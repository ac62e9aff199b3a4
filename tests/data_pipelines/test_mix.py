"""Mixup and CutMix: soft targets that follow the pixels, and the same ones on any number of hosts."""

import numpy as np
import pytest

from ivjax.data_pipelines.augment.mix import Mix
from ivjax.data_pipelines.fields import ArraySpec
from ivjax.data_pipelines.load.loader import BatchRequest
from ivjax.errors import UserError
from tests.data_pipelines.reading import SPEC, assert_same, batches_of, mixture

SHADES = np.zeros((8, 2, 30, 30, 3), np.uint8) + 30 * np.arange(8, dtype=np.uint8)[:, None, None, None, None]


def mixed(mix, hosts=1, host=0, seed=5):
    """A host's rows of a batch of 8, and their targets."""
    places = np.arange(host, 8, hosts)
    return mix.apply(SHADES[places], places, places, 8, lambda place: np.random.default_rng([seed, place]))


def shares(targets):
    """Returns the share of each class in smoothed targets."""
    return (targets - 0.1 / targets.shape[-1]) / 0.9


def test_mixed_targets_sum_to_one_and_follow_the_pixels():
    kinds = set()
    for seed in range(40):
        places = np.arange(4)
        video, targets = Mix(classes=5).apply(
            SHADES[:4], places, places, 4, lambda place, s=seed: np.random.default_rng([s, place])
        )
        np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-5)
        kept = shares(targets)[0, 0]
        np.testing.assert_allclose(shares(targets)[0, 2], 1 - kept, atol=1e-5)
        assert abs(video[0].mean() - (1 - kept) * 60) < 1
        kinds.add(len(np.unique(video[0])) == 2)
    assert kinds == {True, False}


@pytest.mark.parametrize("group", [None, 1, 2, 4])
def test_rows_of_a_group_share_their_draw_on_any_number_of_hosts(group):
    whole, targets = mixed(Mix(classes=8, group=group))
    kept = np.diag(shares(targets))
    draws = {None: 1, 1: 8, 2: 4, 4: 2}[group]
    assert len(np.unique(kept.round(5))) == draws
    if group != 1:  # both rows of a pair, half a batch apart
        np.testing.assert_allclose(kept[:4], kept[4:], rtol=1e-6)
    for hosts in (2, 4):
        for host in range(hosts):
            video, part = mixed(Mix(classes=8, group=group), hosts=hosts, host=host)
            np.testing.assert_array_equal(video, whole[host::hosts])
            np.testing.assert_array_equal(part, targets[host::hosts])


def test_boxes_of_cutmix_can_be_given_by_their_sides():
    for seed in range(5):
        video, targets = mixed(Mix(classes=8, mixup=0.0, cut=(0.2, 0.5), group=1), seed=seed)
        for row in range(8):
            pasted = video[row, 0, ..., 0] == SHADES[(row + 4) % 8, 0, 0, 0, 0]
            height, width = pasted.any(1).sum(), pasted.any(0).sum()
            assert 6 <= height <= 15 and 6 <= width <= 15 and pasted.sum() == height * width
            np.testing.assert_allclose(shares(targets)[row, row], 1 - height * width / 900, atol=1e-5)
    with pytest.raises(UserError, match="Mix.cut="):
        Mix(2, cut=(0.5, 0.2))


def test_mixing_wants_pairs_within_hosts_whole_groups_and_known_labels():
    with pytest.raises(UserError, match="batch=12 gives each of 4 hosts an odd number of rows"):
        Mix(2).check("data.mix", 12, 4)
    for group in (3, 8, 0):
        with pytest.raises(UserError, match=f"data.mix.group={group} and batch=12"):
            Mix(2, group=group).check("data.mix", 12, 1)
    Mix(2, group=4).check("data.mix", 12, 3)
    with pytest.raises(UserError, match="labels reach from 0 to 7, Mix.classes=2"):
        mixed(Mix(2))
    same, targets = mixed(Mix(8, probability=0.0, smoothing=0.0))
    assert (same == SHADES).all() and (targets == np.eye(8)).all()


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
