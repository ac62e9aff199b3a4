"""Has shards in buckets copied to this machine before the rows that are made of them come up."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from ivjax.data_pipelines.store.manifest import BucketShard
from ivjax.data_pipelines.store.shard_cache import ShardCache
from ivjax.errors import UserError

_COPIES_AT_ONCE = 4


class ShardsAhead:
    """Looks through an order ahead of its readers, and has the shards copied that they will want.

    A shard is kept from when it is first seen to be wanted until all rows have been handed over that were
    seen to want it. So it looks ahead as far as the room allows. What it has not seen, or what had to make
    room for another process, is copied when a row asks for it.

    Args:
        number_at: returns the number of the example at a place of the order, which has no end.
        shards_of: returns the shards that an example is made of.
        shards: how many shards there are.
        room: bytes of shards that it may keep.
        farthest: how many rows it may look ahead.
        cache: what copies shards and keeps them; it is closed with this.
    """

    def __init__(
        self,
        number_at: Callable[[int], int],
        shards_of: Callable[[int], Sequence[BucketShard]],
        shards: int,
        room: int,
        farthest: int,
        cache: ShardCache,
    ):
        self._number_at, self._shards_of, self._shards = number_at, shards_of, shards
        self._room, self._farthest, self._cache = room, farthest, cache
        self._kept: dict[BucketShard, int] = {}  # the last place that was seen to want it
        self._changed = threading.Condition()
        self._passed = 0  # all rows before this place have been handed over
        self._looking: threading.Thread | None = None
        self._ended = threading.Event()
        self._copying = ThreadPoolExecutor(_COPIES_AT_ONCE, "ivjax-shards")

    def begin(self, place: int, stride: int) -> None:
        """Looks ahead from a place on, at every `stride`th."""
        self._end()
        self._ended, self._passed = threading.Event(), place
        self._looking = threading.Thread(target=self._look, args=(place, stride, self._ended), daemon=True)
        self._looking.start()

    @contextlib.contextmanager
    def reading(self, number: int) -> Iterator[None]:
        """Keeps the shards of an example while it is made; waits until they are there."""
        with contextlib.ExitStack() as stack:
            for shard in self._shards_of(number):
                stack.enter_context(self._cache.reading(shard))
            yield

    def passed(self, place: int) -> None:
        """Takes note that the rows before a place have been handed over."""
        with self._changed:
            self._passed = place
            self._changed.notify()

    def report(self) -> dict[str, float]:
        """Returns how much was copied so far."""
        return {"data/copied_gib": round(self._cache.copied / 2**30, 6)}

    def stop(self) -> None:
        """Ends what is being copied, and all waiting for it."""
        self._ended.set()
        self._cache.stop()

    def close(self) -> None:
        """Ends the threads, and closes the cache."""
        self.stop()
        self._end()
        self._copying.shutdown(cancel_futures=True)
        self._cache.close()

    def _end(self) -> None:
        """Ends looking ahead, and lets go of what was kept for it."""
        self._ended.set()
        with self._changed:
            self._changed.notify()
        if self._looking is not None:
            self._looking.join()
        self._let_go(list(self._kept))

    def _look(self, place: int, stride: int, ended: threading.Event) -> None:
        # Once all shards are kept there is nothing more to see.
        while len(self._kept) < self._shards and not ended.is_set():
            with self._changed:
                while place > self._passed + self._farthest and not ended.is_set():
                    self._changed.wait()
            for shard in self._shards_of(self._number_at(place)):
                self._keep(shard, place, ended)
            place += stride

    def _keep(self, shard: BucketShard, place: int, ended: threading.Event) -> None:
        """Has a shard copied and kept, once there is room."""
        with self._changed:
            while shard not in self._kept and not self._has_room(shard):
                if ended.is_set():
                    return
                self._changed.wait()
            new = shard not in self._kept
            self._kept[shard] = place
        if new:
            self._cache.want(shard.info)
            self._copying.submit(self._copy, shard)

    def _has_room(self, shard: BucketShard) -> bool:
        if self._is_too_much(shard):
            self._let_go([kept for kept, last in self._kept.items() if last < self._passed])
        return not self._is_too_much(shard)

    def _is_too_much(self, shard: BucketShard) -> bool:
        return sum(kept.info.bytes for kept in self._kept) + shard.info.bytes > self._room

    def _let_go(self, shards: Sequence[BucketShard]) -> None:
        for shard in shards:
            del self._kept[shard]
            self._cache.unwant(shard.info)

    def _copy(self, shard: BucketShard) -> None:
        # The row that wants it asks for it again, and raises.
        with contextlib.suppress(UserError):
            # Not kept any more, if the loader has been sent elsewhere in the order.
            while shard in self._kept and not self._cache.copy_ahead(shard) and self._cache.wait():
                pass
