"""The cache of shards: its bounds, what stays in it, failures, and processes that share it."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from ivjax.data_pipelines.child import AbandonedError
from ivjax.data_pipelines.store import cache_folder, shard_cache
from ivjax.data_pipelines.store.cache_folder import cached_file
from ivjax.data_pipelines.store.manifest import BucketShard, ShardInfo
from ivjax.data_pipelines.store.shard_cache import ShardCache
from ivjax.errors import UserError

SIZE = 1000
GIB = 2**30

_HOLDER = """
import sys, time
from pathlib import Path
from ivjax.data_pipelines.store.shard_cache import ShardCache
from tests.data_pipelines.test_shard_cache import GIB, SIZE, content, shard

def pieces(wanted, stopped):
    yield content(wanted)[:10]
    if sys.argv[2] == "copies":
        print("ready", flush=True)
        time.sleep(600)
    yield content(wanted)[10:]

cache = ShardCache(Path(sys.argv[1]), 3 * SIZE / GIB, pieces, "data.shard_cache")
cache.reserve({"zero": SIZE}, "wait")
with cache.reading(shard(0)):
    print("ready", flush=True)
    time.sleep(600)
"""


def content(wanted):
    """The bytes of a shard."""
    return (wanted.address.encode() * SIZE)[:SIZE]


def shard(number):
    """A shard of SIZE bytes."""
    address = f"gs://bucket/corpus/{number}"
    empty = BucketShard(address, ShardInfo(str(number), 1, SIZE, ""))
    return BucketShard(address, ShardInfo(str(number), 1, SIZE, hashlib.sha256(content(empty)).hexdigest()))


class Source:
    """Gives the content of shards, and counts how often.

    Attributes:
        asked: how often each was asked for.
        faults: what happens to the next requests, one after the other: an error, or other bytes.
    """

    def __init__(self):
        self.asked = Counter()
        self.faults = []

    def __call__(self, wanted, stopped):
        self.asked[wanted.info.name] += 1
        time.sleep(0.02)
        fault = self.faults.pop(0) if self.faults else content(wanted)
        if isinstance(fault, Exception):
            raise fault
        yield fault[:300]
        yield fault[300:]


def use_disk(monkeypatch, total, free):
    """Puts the cache on a disk of another size."""
    usage = type("Usage", (), {"total": total, "free": free})
    monkeypatch.setattr(cache_folder.shutil, "disk_usage", lambda folder: usage)


@pytest.fixture
def source(monkeypatch):
    monkeypatch.setattr(shard_cache, "_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(shard_cache, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(shard_cache, "PATIENCE_SECONDS", 0.3)
    use_disk(monkeypatch, GIB, GIB)
    return Source()


@pytest.fixture
def opened(source, tmp_path):
    """Opens caches of room for so many shards in one folder, and closes them."""
    caches = []

    def open_cache(shards=3, pieces=source):
        caches.append(ShardCache(tmp_path, shards * SIZE / GIB, pieces, "data.shard_cache"))
        return caches[-1]

    yield open_cache
    for cache in caches:
        cache.close()


def read(cache, *numbers):
    """Reads shards one after the other."""
    for number in numbers:
        with cache.reading(shard(number)):
            assert cached_file(cache.folder, shard(number).info).read_bytes() == content(shard(number))
        time.sleep(0.01)  # the order of use is that of times


def there(cache):
    """The numbers of the shards that lie in the folder."""
    return {n for n in range(20) if cached_file(cache.folder, shard(n).info).is_file()}


def test_the_shard_goes_whose_last_use_was_longest_ago(opened, source):
    cache = opened()
    read(cache, 0, 1, 2, 0, 3)
    assert there(cache) == {0, 2, 3} and source.asked == {"0": 1, "1": 1, "2": 1, "3": 1}
    with cache.reading(shard(2)):
        read(cache, 4, 5, 6)
        assert there(cache) == {2, 5, 6} and cache.copied == 7 * SIZE
    assert not list(cache.folder.glob(".*.draft"))


def test_wanted_shards_go_last_and_only_for_one_that_is_read_now(opened, source):
    one, other = opened(), opened()
    for number in (0, 1):
        one.want(shard(number).info)
        assert one.copy_ahead(shard(number))
    read(other, 2, 3)
    assert there(one) == {0, 1, 3}
    one.want(shard(3).info)
    assert not other.copy_ahead(shard(4)) and there(one) == {0, 1, 3}
    read(other, 0, 4)
    assert there(one) == {0, 3, 4}
    one.unwant(shard(3).info)
    assert other.copy_ahead(shard(5)) and there(one) == {0, 4, 5}


def test_a_part_of_the_disk_is_left_free_as_far_as_nobody_wants_what_lies_there(opened, monkeypatch):
    cache = opened(shards=9)
    read(cache, 0, 1, 2, 3)
    use_disk(monkeypatch, 40 * SIZE, SIZE)
    cache.want(shard(2).info)
    read(cache, 4)
    assert there(cache) == {2, 3, 4}  # two had to go: a twentieth of the disk is two shards
    for number in (3, 4):
        cache.want(shard(number).info)
    read(cache, 5)
    assert there(cache) == {2, 3, 4, 5}


def test_a_removed_shard_takes_no_room_while_it_is_open_elsewhere(opened):
    cache = opened(shards=1)
    read(cache, 0)
    with cached_file(cache.folder, shard(0).info).open("rb") as reader:
        read(cache, 1)
        assert os.fstat(reader.fileno()).st_size == 0


def test_shards_stay_for_later_processes(opened, source, tmp_path):
    first = opened()
    read(first, 0, 1, 2)
    first.close()
    later = ShardCache(tmp_path, 2 * SIZE / GIB, source, "data.shard_cache")
    read(later, 2, 1)
    assert source.asked == {"0": 1, "1": 1, "2": 1}
    read(later, 3)
    assert there(later) == {1, 3}  # this one may have two
    later.close()


def test_threads_and_users_copy_a_shard_once(opened, source):
    caches = [opened() for _ in range(2)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: read(caches[n % 2], n // 2 % 2), range(16)))
    assert source.asked == {"0": 1, "1": 1}


def test_room_is_waited_for_and_then_said_to_be_too_little(opened, source, monkeypatch):
    cache = opened(shards=1)
    with (
        cache.reading(shard(0)),
        pytest.raises(
            UserError, match="has had no room for gs://bucket/corpus/1 .* being read; raise data.shard"
        ),
    ):
        read(cache, 1)
    monkeypatch.setattr(shard_cache, "PATIENCE_SECONDS", 60)
    with cache.reading(shard(0)):
        waiting = threading.Thread(target=read, args=(cache, 1))
        waiting.start()
        time.sleep(0.05)
        assert there(cache) == {0}
    waiting.join()
    assert there(cache) == {1}


def test_too_little_room_is_an_error_before_anything_is_read(opened, monkeypatch):
    cache, other = opened(shards=4), opened(shards=3)
    cache.reserve({"a": 2 * SIZE, "b": SIZE}, "do so")
    other.reserve({"a": 2 * SIZE, "c": SIZE}, "do so")  # `a` they have in common, and the larger limit counts
    with pytest.raises(UserError) as caught:
        opened(shards=4).reserve({"d": SIZE}, "lower data.shuffle_shards=9")
    assert str(caught.value) == (
        "data.shard_cache.gib=3.72529e-06 is too little: the shards that are in use at one time take 0.001 "
        "GiB, and those of other users of the folder 0.001 GiB; set it to 0.001, or lower "
        "data.shuffle_shards=9"
    )
    other.close()
    opened(shards=4).reserve({"d": SIZE}, "do so")
    use_disk(monkeypatch, 10 * SIZE, SIZE)
    with pytest.raises(
        UserError, match="the disk of data.shard_cache.folder=.* name a folder on another disk"
    ):
        cache.reserve({"a": 2 * SIZE}, "do so")


def test_what_arrives_damaged_is_copied_again(opened, source):
    cache = opened()
    source.faults = [bytes(SIZE), content(shard(0))[:-1]]
    read(cache, 0)
    assert source.asked == {"0": 3}
    source.faults = [bytes(SIZE)] * 3
    with pytest.raises(
        UserError, match="corpus/1 is not what its manifest describes, 3 copies .*; copy it there"
    ):
        read(cache, 1)
    assert there(cache) == {0} and not list(cache.folder.glob(".*.draft"))
    read(cache, 1)


def test_a_full_disk_is_relieved_or_told(opened, source, monkeypatch):
    cache, failures = opened(shards=4), [2]

    def full(handle):
        failures[0] -= 1
        if failures[0] >= 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    read(cache, 0, 1, 2)
    monkeypatch.setattr(shard_cache.os, "fsync", full)
    read(cache, 3)
    assert there(cache) == {2, 3}  # each failure has cost the one that was used least recently
    failures[0] = 10**9
    with pytest.raises(
        UserError, match="could not be written to .* minutes .No space left on device.; make room"
    ):
        read(cache, 4)
    monkeypatch.undo()
    read(opened(pieces=Source()), 4)


def test_what_cannot_be_had_is_told_to_all_who_wait(opened, source):
    errors, together = [], threading.Barrier(4)

    def fail_later(wanted, stopped):
        # By then all wait, also on a machine that has much else to do.
        time.sleep(1 if source.faults else 0)
        yield from source(wanted, stopped)

    cache = opened(pieces=fail_later)
    source.faults = [UserError("gone")]

    def ask():
        together.wait()
        with pytest.raises(UserError, match="gone"):
            read(cache, 0)
        errors.append(True)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 4 and source.asked == {"0": 1}
    read(cache, 0)  # later ones try again


def test_a_stop_ends_all_waiting(opened):
    ended = threading.Event()

    def slow(wanted, stopped):
        yield content(wanted)[:10]
        stopped.wait()
        ended.set()

    cache, errors = opened(pieces=slow), []

    def ask():
        with pytest.raises(AbandonedError):
            read(cache, 0)
        errors.append(True)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    cache.stop()
    for thread in threads:
        thread.join()
    assert ended.is_set() and len(errors) == 3 and not there(cache)
    assert not list(cache.folder.glob(".*.draft"))


@pytest.mark.multiprocess
@pytest.mark.parametrize("state", ["reads", "copies"])
def test_a_killed_process_keeps_nothing(opened, source, tmp_path, state):
    command = [sys.executable, "-c", _HOLDER, str(tmp_path), state]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    cache = opened(shards=3)
    with pytest.raises(UserError, match="and those of other users of the folder"):
        cache.reserve({"others": 3 * SIZE}, "wait")
    read(cache, 1, 2, 3)
    kept = {0} if state == "reads" else set()
    assert there(cache) == kept | {2, 3}  # what it copies has its room, too
    process.send_signal(signal.SIGKILL)
    process.wait()
    cache.reserve({"others": 3 * SIZE}, "wait")
    read(cache, 4)
    assert there(cache) == {2, 3, 4}
    read(cache, 0)
    assert source.asked["0"] == 1 and len(list((tmp_path / "users").iterdir())) == 1


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path, source):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="data.shard_cache.folder=.*cannot be used .*; name another folder"):
        ShardCache(tmp_path / "file", 1.0, source, "data.shard_cache")
