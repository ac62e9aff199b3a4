"""An order that goes through a corpus a few shards at a time."""

from collections import Counter

import pytest

from ivjax.data_pipelines.load.shard_groups import ShardGroups
from ivjax.data_pipelines.store.numbering import Concatenation
from ivjax.data_pipelines.store.records import pack
from ivjax.errors import UserError
from tests.data_pipelines.corpora import corpus_of, make_clip, write_corpus
from tests.data_pipelines.reading import assert_same, batches_of, mixture

COUNTS = (3, 0, 7, 5, 1, 4, 6)


def epoch(order, number):
    """The clips of an epoch of the corpus of COUNTS."""
    return [order[place] for place in range(number * sum(COUNTS), (number + 1) * sum(COUNTS))]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """40 clips in ten shards; their labels are their numbers."""
    clips = [make_clip(number, frames=4) for number in range(40)]
    return corpus_of(tmp_path_factory.mktemp("sharded"), clips, shards=10)


def test_each_clip_comes_once_an_epoch_and_each_group_before_the_next():
    order = ShardGroups(Concatenation([4] * 10), 0, 3, seed=3)
    for number in range(3):
        clips = [order[place] for place in range(40 * number, 40 * number + 40)]
        assert sorted(clips) == list(range(40))
        groups = [{clip // 4 for clip in clips[place : place + 12]} for place in range(0, 40, 12)]
        assert [len(group) for group in groups] == [3, 3, 3, 1]
        mixed = [clips[place : place + 12] != sorted(clips[place : place + 12]) for place in (0, 12, 24)]
        assert all(mixed)


def test_shards_may_be_of_any_size_and_empty():
    order = ShardGroups(Concatenation(COUNTS), 0, 2, seed=3)
    assert all(sorted(epoch(order, number)) == list(range(sum(COUNTS))) for number in range(5))


def test_epochs_groups_and_seeds_differ():
    order, again = (ShardGroups(Concatenation(COUNTS), 100, 3, seed=3) for _ in range(2))
    first, second = epoch(order, 0), epoch(order, 1)
    assert min(first) == 100 and first != second and epoch(again, 1) == second and epoch(again, 0) == first
    assert epoch(ShardGroups(Concatenation(COUNTS), 100, 3, seed=4), 0) != first
    assert first != sorted(first)
    many = ShardGroups(Concatenation(COUNTS), 0, 99, seed=3)
    assert sorted(epoch(many, 0)) == list(range(sum(COUNTS)))


def test_batches_are_the_same_on_any_number_of_hosts_and_over_a_restart(sharded, corpus):
    data = mixture(sharded, corpus, shuffle_shards=2)
    whole, _ = batches_of(data, 16)
    split, _ = batches_of(data, 16, hosts=4)
    assert_same(split, whole)
    before, state = batches_of(data, 5, hosts=2)
    after, _ = batches_of(data, 11, state=state)
    assert_same([*before, *after], whole)
    alone, _ = batches_of(mixture(sharded, shuffle_shards=2), 10)
    labels = [int(row["label"]) for batch in alone for _, row in sorted(batch.items())]
    assert Counter(labels[:40]) == Counter(labels[40:]) == Counter(range(40))
    # Four clips a shard, two shards a group, eight rows a batch.
    assert all(len({label // 4 for label in labels[n : n + 8]}) == 2 for n in range(0, 80, 8))


def test_an_order_of_other_groups_does_not_go_on(sharded):
    for before, after in ((2, 3), (2, 0), (0, 2)):
        _, state = batches_of(mixture(sharded, shuffle_shards=before), 1)
        with pytest.raises(UserError, match="or has another shuffle_shards, so its order cannot go on"):
            batches_of(mixture(sharded, shuffle_shards=after), 1, state=state)


def test_a_broken_clip_is_replaced_out_of_its_shard_and_a_broken_shard_out_of_the_corpus(tmp_path):
    records = [pack(make_clip(number, frames=4)) for number in range(12)]
    records[1] = b"nothing"
    records[8:12] = [b"nothing"] * 4
    folder = write_corpus(tmp_path, records, shards=3)
    batches, _ = batches_of(mixture(folder, shuffle_shards=1, broken=1.0), 2, batch=12)
    order = ShardGroups(Concatenation([4] * 3), 0, 1, seed=7)
    replaced = {
        place: (order[place], int(row["sample"]))
        for batch in batches
        for place, row in batch.items()
        if row["replaced"]
    }
    assert Counter(broken for broken, _ in replaced.values()) == {1: 2, 8: 2, 9: 2, 10: 2, 11: 2}
    for broken, found in replaced.values():
        assert found in ((0, 2, 3) if broken == 1 else (0, 2, 3, 4, 5, 6, 7))
