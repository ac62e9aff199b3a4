"""Copies of shards that lie in buckets, kept on this machine while they are wanted and there is room."""

import contextlib
import hashlib
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from ivjax.data_pipelines.child import AbandonedError
from ivjax.data_pipelines.store.cache_folder import FULL, CacheFolder, NoRoomError
from ivjax.data_pipelines.store.cache_users import CacheUser, Claims
from ivjax.data_pipelines.store.manifest import BucketShard, ShardInfo
from ivjax.errors import UserError

PATIENCE_SECONDS = 600.0  # in which a bucket must answer, or room be made, before a run ends
_POLL_SECONDS, _WAIT_SECONDS = 0.2, 2.0  # for what another one copies; after a failure
_COPIES = 3  # of a shard that arrives damaged, before a run ends

# Gives the content of a shard, piece by piece, and ends early once the event is set. Raises UserError if it
# cannot be had, and no OSError.
Pieces = Callable[[BucketShard, threading.Event], Iterable[bytes]]


class _DamagedError(Exception):
    """What has arrived is not what the manifest describes."""


class _Failed(NamedTuple):
    when: float
    error: UserError


class ShardCache:
    """Shards of corpora in buckets, copied to a folder of this machine. Thread-safe.

    A shard that a process holds stays; others make room for new ones, least recently used first. A shard
    that several processes want is copied once.

    Args:
        folder: where the shards lie; it may be shared by processes of this machine, not by machines.
        gib: the space that all of them may take; where several processes use the folder, the largest counts.
        pieces: gives the content of a shard.
        path: where the options of the cache stand in the experiment, for messages.
    """

    def __init__(self, folder: Path, gib: float, pieces: Pieces, path: str):
        self._gib, self._pieces, self._path = gib, pieces, path
        self._limit = int(gib * 2**30)
        self._folder = CacheFolder(folder, f"{path}.folder")
        self._holds: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._failed: dict[BucketShard, _Failed] = {}
        self.copied = 0  # bytes so far
        with self._folder.alone():
            self._user = CacheUser(folder / "users", Claims(self._limit, {}))

    @property
    def folder(self) -> Path:
        """Where the shards lie."""
        return self._folder.place

    def reserve(self, needs: Mapping[str, int], remedy: str) -> None:
        """Raises UserError if there is no room for all that this process will hold at one time.

        Args:
            needs: bytes by name; what several processes name alike they hold in common.
            remedy: what lets it need less, for the message.
        """
        with self._folder.alone():
            before = self._user.claimed()
            own, total = sum(needs.values()), sum((before.needs | dict(needs)).values())
            others = (
                f", and those of other users of the folder {_gib(total - own)} GiB" if total > own else ""
            )
            told = f"the shards that are in use at one time take {_gib(own)} GiB{others}"
            if total > before.limit:
                raise UserError(
                    f"{self._path}.gib={self._gib:g} is too little: {told}; set it to {_gib(total)}, "
                    f"or {remedy}"
                )
            room = self._folder.room()
            if total > room:
                raise UserError(
                    f"the disk of {self._path}.folder={self.folder} has {room / 2**30:.3g} GiB for shards, "
                    f"and {told}; make room, name a folder on another disk, or {remedy}"
                )
            self._user.claim(Claims(self._limit, needs))

    def hold(self, info: ShardInfo) -> None:
        """Keeps a shard, or the room that it will take, until `release`."""
        with self._lock:
            self._holds[info.sha256] += 1
            if self._holds[info.sha256] == 1:
                with self._folder.alone():
                    self._user.hold(info.sha256)

    def release(self, info: ShardInfo) -> None:
        """Lets go of a shard that was held."""
        with self._lock:
            self._holds[info.sha256] -= 1
            if not self._holds[info.sha256]:
                del self._holds[info.sha256]
                with self._folder.alone():
                    self._user.release(info.sha256)
                    self._folder.touch(info.sha256)

    @contextlib.contextmanager
    def reading(self, shard: BucketShard) -> Iterator[None]:
        """Keeps a shard on this machine while it is read; waits until it is there."""
        self.hold(shard.info)
        try:
            self.fetch(shard)
            yield
        finally:
            self.release(shard.info)

    def fetch(self, shard: BucketShard) -> None:
        """Returns once a shard that is held lies here whole; raises UserError if it does not come."""
        started = time.monotonic()
        while not self._folder.is_whole(shard.info):
            if self._stopped.is_set():
                raise AbandonedError
            failed = self._failed.get(shard)
            # Who has waited for another thread has been as patient as it was.
            if failed is not None and failed.when > started:
                raise failed.error
            try:
                if not self._try_to_copy(shard):
                    self._stopped.wait(_POLL_SECONDS)
            except UserError as error:
                self._failed[shard] = _Failed(time.monotonic(), error)
                raise

    def stop(self) -> None:
        """Ends what is being copied, and all waiting for it."""
        self._stopped.set()

    def close(self) -> None:
        """Lets go of all shards; they stay until others need their room."""
        self.stop()
        with self._lock, self._folder.alone():
            for sha256 in self._holds:
                self._folder.touch(sha256)
            self._holds.clear()
            self._user.close()

    def _try_to_copy(self, shard: BucketShard) -> bool:
        """Copies a shard; returns False if somebody else is doing that."""
        with contextlib.ExitStack() as stack:
            with self._folder.alone():
                if self._folder.is_whole(shard.info):
                    return True
                draft = self._folder.draft(shard.info)
                if draft is None:
                    return False
                # Its lock is held until it has another name or none, so that there is one writer.
                stack.enter_context(draft)
            try:
                self._copy(shard, draft)
                with self._folder.alone():
                    self._folder.keep(shard.info)
                    self.copied += shard.info.bytes
            except BaseException:
                with self._folder.alone():
                    self._folder.drop(shard.info)
                raise
        return True

    def _copy(self, shard: BucketShard, draft: IO[bytes]) -> None:
        """Writes a shard into its draft, from the start again after whatever may pass."""
        deadline, damaged = math.inf, 0
        while True:
            try:
                self._begin_draft(shard.info.bytes, draft)
                self._write(shard, draft)
                return
            except _DamagedError:
                damaged += 1
                if damaged == _COPIES:
                    raise UserError(
                        f"{shard.address} is not what its manifest describes, {_COPIES} copies of it were "
                        "compared; copy it there again"
                    ) from None
            except (NoRoomError, OSError) as error:
                deadline = min(deadline, time.monotonic() + PATIENCE_SECONDS)
                if time.monotonic() >= deadline:
                    raise UserError(self._unfit(shard, error)) from None
            self._stopped.wait(_WAIT_SECONDS)
            if self._stopped.is_set():
                raise AbandonedError

    def _begin_draft(self, size: int, draft: IO[bytes]) -> None:
        """Makes room for a draft, and gives it its full size, at which others count it."""
        with self._folder.alone():
            draft.seek(0)
            draft.truncate(0)
            self._folder.make_room(size, self._user.claimed().limit, self._user.held())
            draft.truncate(size)

    def _write(self, shard: BucketShard, draft: IO[bytes]) -> None:
        digest = hashlib.sha256()
        try:
            for piece in self._pieces(shard, self._stopped):
                draft.write(piece)
                digest.update(piece)
            draft.flush()
            # Else a machine that loses its power now might have the name and not the content.
            os.fsync(draft.fileno())
        except OSError as error:
            if error.errno in FULL:
                # Others have filled the disk.
                with self._folder.alone():
                    self._folder.remove(shard.info.bytes, self._user.held())
            raise
        if self._stopped.is_set():
            raise AbandonedError
        if digest.hexdigest() != shard.info.sha256:
            raise _DamagedError

    def _unfit(self, shard: BucketShard, error: Exception) -> str:
        told = f"{shard.address} ({_gib(shard.info.bytes)} GiB)"
        waited = f"for {PATIENCE_SECONDS / 60:g} minutes"
        if isinstance(error, NoRoomError):
            return (
                f"{self.folder} has had no room for {told} {waited}, because all that lies there is in use; "
                f"raise {self._path}.gib={self._gib:g}"
            )
        reason = getattr(error, "strerror", None) or error
        return (
            f"{told} could not be written to {self.folder} {waited} ({reason}); make room there, or set "
            f"{self._path}.folder"
        )


def _gib(size: int) -> str:
    """Returns bytes as GiB with at most three decimals, rounded up."""
    return f"{math.ceil(size / 2**30 * 1000) / 1000:g}"
