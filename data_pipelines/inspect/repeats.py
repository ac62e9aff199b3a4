"""Finds repeated values among any number of values, in bounded memory."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_BUCKETS = 256
_BUFFER = 1 << 16  # bytes of a bucket before they go to its file
_ENTRY = 24  # 16 bytes of hash, 8 of place


class Repeats:
    """Collects values with their places, then finds the repeated ones. Thread-safe.

    Each value takes 24 bytes. Many values go to files of `folder`, of which one at a time is in memory.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        self._files = [folder / f"{number:02x}" for number in range(_BUCKETS)]
        self._buffers = [bytearray() for _ in self._files]
        self._lock = threading.Lock()

    def add(self, value: bytes, place: int) -> None:
        """Adds the value of a place."""
        digest = hashlib.blake2b(value, digest_size=16).digest()
        # The first byte of a hash deals values evenly to 256 files, each small enough to sort in memory.
        bucket = digest[0]
        with self._lock:
            self._buffers[bucket] += digest + place.to_bytes(8, "little")
            if len(self._buffers[bucket]) >= _BUFFER:
                self._spill(bucket)

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yields (place, first place with the same value) of every repeated value."""
        for bucket in range(_BUCKETS):
            entries = self._entries(bucket)
            entries = entries[np.lexsort((entries[:, 2], entries[:, 1], entries[:, 0]))]
            same = np.flatnonzero((entries[1:, :2] == entries[:-1, :2]).all(1)) + 1
            first = np.arange(len(entries))
            first[same] = 0
            first = np.maximum.accumulate(first)
            yield from zip(entries[same, 2].tolist(), entries[first[same], 2].tolist(), strict=True)

    def _entries(self, bucket: int) -> np.ndarray:
        """Returns the hashes and places of a bucket: (n, 3) uint64."""
        file = self._files[bucket]
        if file.exists():
            self._spill(bucket)
            stored = np.fromfile(file, "<u8")
        else:  # so few values that opening 256 files would take longer than all other checks
            stored = np.frombuffer(bytes(self._buffers[bucket]), "<u8")
        return stored.reshape(-1, _ENTRY // 8)

    def _spill(self, bucket: int) -> None:
        with self._files[bucket].open("ab") as file:
            file.write(self._buffers[bucket])
        self._buffers[bucket].clear()
