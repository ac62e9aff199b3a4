"""The files of a cache of shards, in a folder that the processes of a machine share.

There are
  SHA256.array_record    a whole shard, locked by who reads it; its time of change is that of its last use
  .SHA256.draft          one that is being copied, at its full size, locked by who copies it
  users/                 the processes that use the folder, and which shards each of them wants to stay
  lock                   held while any of these is made, renamed or removed
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Set
from pathlib import Path
from typing import IO

from ivjax.data_pipelines.store.manifest import ShardInfo
from ivjax.drafts import locked, try_lock
from ivjax.errors import FULL, UserError

_SPARE = 0.05  # of a disk is left to others, as far as shards go that nobody wants
_ENDING = ".array_record"
_WRITABLE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class CacheFolder:
    """The files of a cache.

    What changes the folder is to be called inside of `alone`.

    Attributes:
        place: the folder.

    Args:
        path: the option that names it, for messages.
    """

    def __init__(self, place: Path, path: str):
        self.place, self._path = place, path

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Lets one thread of one process of this machine at the folder. Not to be nested."""
        try:
            with locked(self.place / "lock"):
                yield
        except OSError as error:
            if error.errno in FULL:
                raise
            reason = error.strerror or error
            raise UserError(
                f"{self._path}={self.place} cannot be used ({reason}); name another folder"
            ) from None

    def is_whole(self, info: ShardInfo) -> bool:
        """Whether a shard is there."""
        try:
            return cached_file(self.place, info).stat().st_size == info.bytes
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def reading(self, info: ShardInfo) -> Iterator[bool]:
        """Keeps a shard from being removed; gives whether it is there."""
        try:
            file = cached_file(self.place, info).open("rb")
        except FileNotFoundError:
            yield False
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_SH)
            # Who removes a shard empties it, under a lock of its own: it may have been first.
            there = os.fstat(file.fileno()).st_size == info.bytes
            if there:
                os.utime(file.fileno())
            yield there

    def draft(self, info: ShardInfo) -> IO[bytes] | None:
        """Opens the draft of a shard, locked for as long as it is open; None if another process has it."""
        file = os.fdopen(os.open(self._draft(info), _WRITABLE, 0o666), "rb+")
        if try_lock(file.fileno()):
            return file
        file.close()
        return None

    def keep(self, info: ShardInfo) -> None:
        """Gives a draft its name; it is whole."""
        os.replace(self._draft(info), cached_file(self.place, info))

    def drop(self, info: ShardInfo) -> None:
        """Removes a draft."""
        self._draft(info).unlink(missing_ok=True)

    def room(self) -> int:
        """Returns the bytes that shards could take on this disk."""
        return shutil.disk_usage(self.place).free + self.taken()

    def crowded(self, size: int) -> int:
        """Returns how many bytes must go, with so many more on this disk, for a part of it to stay free."""
        disk = shutil.disk_usage(self.place)
        return int(disk.total * _SPARE) + size - disk.free

    def taken(self) -> int:
        """Returns the bytes of shards and drafts."""
        return sum(file.stat().st_size for file in (*self._shards(), *self._drafts()))

    def clear_drafts(self) -> None:
        """Removes the drafts of processes that have ended."""
        for draft in self._drafts():
            with draft.open("rb") as file:
                if try_lock(file.fileno()):
                    draft.unlink()

    def remove(self, size: int, wanted: Set[str], urgent: bool) -> int:
        """Removes shards, in all of so many bytes at least; returns of how many.

        Those go first whose last use was longest ago; none that is being read; and those whose hash is
        wanted only if it is urgent, after the others.
        """
        if size <= 0:
            return 0
        shards = [(file.stem in wanted, file.stat().st_mtime_ns, file) for file in self._shards()]
        removed = 0
        for is_wanted, _, file in sorted(shards):
            if removed >= size or (is_wanted and not urgent):
                break
            removed += _remove(file)
        return removed

    def _draft(self, info: ShardInfo) -> Path:
        return self.place / f".{info.sha256}.draft"

    def _shards(self) -> list[Path]:
        return list(self.place.glob(f"*{_ENDING}"))

    def _drafts(self) -> list[Path]:
        return list(self.place.glob(".*.draft"))


def cached_file(folder: Path, info: ShardInfo) -> Path:
    """Returns where a shard lies in the folder of a cache."""
    # By its content, so that corpora of one name do not get into each other's way.
    return folder / f"{info.sha256}{_ENDING}"


def _remove(file: Path) -> int:
    """Removes a file unless it is being read; returns the bytes that this frees."""
    with file.open("rb+") as content:
        if not try_lock(content.fileno()):
            return 0
        size = os.fstat(content.fileno()).st_size
        file.unlink()
        # Decode processes may still have it open, and would keep its room.
        content.truncate(0)
    return size
