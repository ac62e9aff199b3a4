"""Copies of shards that lie in buckets, kept on this machine while they are wanted and there is room."""

import contextlib
import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from ivjax.data_pipelines.child import AbandonedError
from ivjax.data_pipelines.store.cache_folder import CacheFolder
from ivjax.data_pipelines.store.cache_users import CacheUser, Claims
from ivjax.data_pipelines.store.manifest import BucketShard, ShardInfo
from ivjax.errors import FULL, UserError

PATIENCE_SECONDS = 600.0  # in which a bucket must answer, or room be made, before a run ends
_POLL_SECONDS, _WAIT_SECONDS = 0.2, 2.0  # for what another one copies; after a failure
_COPIES = 3  # of a shard that arrives damaged, before a run ends

# Gives the content of a shard, piece by piece, and ends early once the event is set. Raises UserError if it
# cannot be had, and no OSError.
ShardPieces = Callable[[BucketShard, threading.Event], Iterable[bytes]]


class _DamagedError(Exception):
    """What has arrived is not what the manifest describes."""


class _NoRoomError(Exception):
    """The shards that have to stay leave no room for another."""


class _Failed(NamedTuple):
    when: float
    error: UserError


class ShardCache:
    """Shards of corpora in buckets, copied to a folder of this machine. Thread-safe.

    There is one copy of a shard, made once, whoever asks for it. To make room, the shard goes whose last use
    was longest ago, except those that are being read. Those that a process wants go last, and only for one
    that is to be read now.

    Args:
        folder: where the shards lie; it may be shared by processes of this machine, not by machines.
        gib: the space that all of them may take; where several processes use the folder, the largest counts.
        pieces: gives the content of a shard.
        path: where the options of the cache stand in the experiment, for messages.
    """

    def __init__(self, folder: Path, gib: float, pieces: ShardPieces, path: str):
        self._gib, self._pieces, self._path = gib, pieces, path
        self._limit = int(gib * 2**30)
        self._folder = CacheFolder(folder, f"{path}.folder")
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
        """Raises UserError if there is no room for all that this process will want at one time.

        Args:
            needs: bytes by name; what several processes name alike they want in common.
            remedy: what lets it need less, for the message.
        """
        with self._folder.alone():
            before = self._user.claimed()
            own, total = sum(needs.values()), sum({**before.needs, **needs}.values())
            told = f"the shards that are in use at one time take {_gib(own)} GiB"
            if total > own:
                told += f", and those of other users of the folder {_gib(total - own)} GiB"
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

    def want(self, info: ShardInfo) -> None:
        """Wants a shard to stay, or to be copied soon."""
        with self._folder.alone():
            self._user.want(info.sha256)

    def unwant(self, info: ShardInfo) -> None:
        """Wants a shard no more."""
        with self._folder.alone():
            self._user.unwant(info.sha256)

    @contextlib.contextmanager
    def reading(self, shard: BucketShard) -> Iterator[None]:
        """Keeps a shard on this machine, copied first if it is not there; raises UserError if that fails."""
        while True:
            with self._folder.reading(shard.info) as there:
                if there:
                    yield
                    return
            self._fetch(shard)

    def copy_ahead(self, shard: BucketShard) -> bool:
        """Copies a shard if there is room beside those that are wanted; returns whether it is there."""
        try:
            return self._try_to_copy(shard, urgent=False)
        except _NoRoomError:
            return False

    def wait(self) -> bool:
        """Waits a moment for room, or for somebody else's copy; returns False if this was stopped."""
        return not self._stopped.wait(_WAIT_SECONDS)

    def stop(self) -> None:
        """Ends what is being copied, and all waiting for it."""
        self._stopped.set()

    def close(self) -> None:
        """Wants nothing any more. All shards stay until others need their room."""
        self.stop()
        with self._folder.alone():
            self._user.close()

    def _fetch(self, shard: BucketShard) -> None:
        """Returns once a shard has been copied; raises UserError if it does not come."""
        started, deadline = time.monotonic(), math.inf
        while True:
            failed = self._failed.get(shard)
            # Who has waited for another thread has been as patient as it was.
            if failed is not None and failed.when > started:
                raise failed.error
            try:
                if self._try_to_copy(shard, urgent=True):
                    return
            except _NoRoomError:
                deadline = min(deadline, time.monotonic() + PATIENCE_SECONDS)
                if time.monotonic() >= deadline:
                    raise UserError(
                        f"{self.folder} has had no room for {_told(shard)} for {PATIENCE_SECONDS / 60:g} "
                        f"minutes, as all that lies there is being read; raise {self._path}.gib={self._gib:g}"
                    ) from None
            if self._stopped.wait(_POLL_SECONDS):
                raise AbandonedError

    def _try_to_copy(self, shard: BucketShard, urgent: bool) -> bool:
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
                self._copy(shard, draft, urgent)
                with self._folder.alone():
                    self._folder.keep(shard.info)
                    self.copied += shard.info.bytes
            except BaseException as error:
                with self._folder.alone():
                    self._folder.drop(shard.info)
                if isinstance(error, UserError):
                    self._failed[shard] = _Failed(time.monotonic(), error)
                raise
        return True

    def _copy(self, shard: BucketShard, draft: IO[bytes], urgent: bool) -> None:
        """Writes a shard into its draft, from the start again after whatever may pass."""
        deadline, damaged = math.inf, 0
        while True:
            try:
                self._begin_draft(shard.info.bytes, draft, urgent)
                self._write(shard, draft)
                return
            except _DamagedError:
                damaged += 1
                if damaged == _COPIES:
                    raise UserError(
                        f"{shard.address} is not what its manifest describes, {_COPIES} copies of it were "
                        "compared; copy it there again"
                    ) from None
            except OSError as error:
                deadline = min(deadline, time.monotonic() + PATIENCE_SECONDS)
                if time.monotonic() >= deadline:
                    raise UserError(
                        f"{_told(shard)} could not be written to {self.folder} for {PATIENCE_SECONDS / 60:g} "
                        f"minutes ({error.strerror or error}); make room there, or set {self._path}.folder"
                    ) from None
            if self._stopped.wait(_WAIT_SECONDS):
                raise AbandonedError

    def _begin_draft(self, size: int, draft: IO[bytes], urgent: bool) -> None:
        """Makes room for a draft, and gives it its full size, at which others count it."""
        with self._folder.alone():
            draft.seek(0)
            draft.truncate(0)
            self._folder.clear_drafts()
            wanted = self._user.wanted()
            over = self._folder.taken() + size - self._user.claimed().limit
            over -= self._folder.remove(max(over, self._folder.crowded(size)), wanted, urgent=False)
            if over > 0 and (not urgent or self._folder.remove(over, wanted, urgent) < over):
                raise _NoRoomError
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
                    self._folder.remove(shard.info.bytes, self._user.wanted(), urgent=False)
            raise
        if self._stopped.is_set():
            raise AbandonedError
        if digest.hexdigest() != shard.info.sha256:
            raise _DamagedError


def _told(shard: BucketShard) -> str:
    return f"{shard.address} ({_gib(shard.info.bytes)} GiB)"


def _gib(size: int) -> str:
    """Returns bytes as GiB with at most three decimals, rounded up."""
    return f"{math.ceil(size / 2**30 * 1000) / 1000:g}"
