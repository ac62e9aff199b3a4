"""The files of a cache of shards, in a folder that the processes of a machine share.

There are
  SHA256.array_record    a whole shard; the time of its last change is when it was last let go of
  .SHA256.draft          one that is being copied, at its full size, locked by who copies it
  users/                 who reads, and what they hold
  lock                   held while any of these is made, renamed or removed
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Set
from pathlib import Path
from typing import IO

from ivjax.data_pipelines.store.manifest import ShardInfo
from ivjax.drafts import locked, try_lock
from ivjax.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)  # what a system says when a disk is full
_ENDING = ".array_record"
_WRITABLE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class NoRoomError(Exception):
    """The shards that are held leave no room for another."""


class CacheFolder:
    """The files of a cache.

    All that asks for or changes more than one file is to be called inside of `alone`.

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

    def touch(self, sha256: str) -> None:
        """Takes note that the shard of a hash was used until now."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.place / f"{sha256}{_ENDING}")

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
        return shutil.disk_usage(self.place).free + self._taken()

    def make_room(self, size: int, limit: int, held: Set[str]) -> None:
        """Removes shards until so many bytes more stay within a limit; raises NoRoomError if they cannot.

        Those that are used least recently go first, and none whose hash is among those held.
        """
        for draft in self._drafts():
            _remove_if_left(draft)
        over = self._taken() + size - limit
        if self.remove(over, held) < over:
            raise NoRoomError

    def remove(self, size: int, held: Set[str]) -> int:
        """Removes shards that are not held, in all of so many bytes at least; returns of how many."""
        removed = 0
        free = (file for file in self._shards() if file.stem not in held)
        for file in sorted(free, key=lambda file: file.stat().st_mtime_ns):
            if removed >= size:
                break
            removed += _remove(file)
        return removed

    def _draft(self, info: ShardInfo) -> Path:
        return self.place / f".{info.sha256}.draft"

    def _taken(self) -> int:
        return sum(file.stat().st_size for file in (*self._shards(), *self._drafts()))

    def _shards(self) -> list[Path]:
        return list(self.place.glob(f"*{_ENDING}"))

    def _drafts(self) -> list[Path]:
        return list(self.place.glob(".*.draft"))


def cached_file(folder: Path, info: ShardInfo) -> Path:
    """Returns where a shard lies in the folder of a cache."""
    # By its content, so that corpora of one name do not get into each other's way.
    return folder / f"{info.sha256}{_ENDING}"


def _remove_if_left(draft: Path) -> None:
    """Removes a draft whose process has ended."""
    with draft.open("rb") as file:
        if try_lock(file.fileno()):
            draft.unlink()


def _remove(file: Path) -> int:
    """Removes a file; returns its size."""
    with file.open("rb+") as content:
        size = os.fstat(content.fileno()).st_size
        file.unlink()
        # Decode processes may still have it open, and would keep its room.
        content.truncate(0)
    return size
