"""Memory without a name that processes share, with a lock that outlives none of them."""

import contextlib
import fcntl
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

import numpy as np

_ALIGNMENT = 64


def memory_file(size: int) -> IO[bytes]:
    """Returns a file of `size` bytes in memory, freed with the last process that has it, however that ends.

    Its pages take memory only when they are written to.
    """
    if hasattr(os, "memfd_create"):
        # memfd and not /dev/shm, which containers limit to 64 MB.
        file: IO[bytes] = os.fdopen(os.memfd_create("ivjax"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    file.truncate(aligned(size))
    return file


class SharedMemory:
    """The memory of a file descriptor: `reserved` bytes for an index, then bytes that processes take.

    Taken bytes are never freed, except by whoever took the last ones.
    """

    def __init__(self, file: int, reserved: int):
        self._file = file
        self._bytes = np.frombuffer(mmap.mmap(file, os.fstat(file).st_size), np.uint8)
        self._used = self._bytes[:8].view(np.uint64)
        self._first = _ALIGNMENT + aligned(reserved)
        self._thread_lock = threading.Lock()

    @staticmethod
    def size(reserved: int, taken: int) -> int:
        """Returns the size of a file with room for both."""
        return _ALIGNMENT + aligned(reserved) + taken

    @property
    def used(self) -> int:
        """Bytes that are taken. Read it under the lock."""
        return int(self._used[0])

    def index(self, offset: int, kind: np.dtype, count: int) -> np.ndarray:
        """Returns an array in the reserved bytes, all zeros at first."""
        start = _ALIGNMENT + offset
        return self._bytes[start : start + count * kind.itemsize].view(kind)

    def view(self, offset: int, size: int) -> np.ndarray:
        """Returns `size` taken bytes: (size,) uint8."""
        return self._bytes[self._first + offset : self._first + offset + size]

    def take(self, size: int) -> int | None:
        """Takes bytes and returns their offset; None if there are not so many. Call it under the lock."""
        offset = self.used
        if self._first + offset + size > len(self._bytes):
            return None
        self._used[0] = offset + aligned(size)
        return offset

    def give_back(self, offset: int, size: int) -> None:
        """Frees bytes, unless others have been taken behind them. Call it under the lock."""
        if self.used == offset + aligned(size):
            self._used[0] = offset

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps all other threads and processes out meanwhile."""
        # The kernel frees a file's lock when its process ends, however it ends. Threads of one process
        # share that lock, so they need one more.
        with self._thread_lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)


def aligned(size: int) -> int:
    """Returns `size` rounded up to whole cache lines."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT
