"""Finds values that occur twice among any number of them, in bounded memory."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_BUCKETS = 256
_HELD = 1 << 16  # bytes of a bucket before they go to its file
_ENTRY = 24  # 16 bytes of hash, 8 of place


class Repeats:
    """Takes values with their places, on any thread; afterwards tells which came before.

    What is kept, 24 bytes a value, lies in files of `folder`, a 256th of it is in memory at a time.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        self._files = [folder / f"{number:02x}" for number in range(_BUCKETS)]
        self._held = [bytearray() for _ in self._files]
        self._lock = threading.Lock()

    def add(self, value: bytes, place: int) -> None:
        """Remembers that `value` stands at `place`."""
        digest = hashlib.blake2b(value, digest_size=16).digest()
        bucket = digest[0]
        with self._lock:
            self._held[bucket] += digest + place.to_bytes(8, "little")
            if len(self._held[bucket]) >= _HELD:
                self._spill(bucket)

    def pairs(self) -> Iterator[tuple[int, int]]:
        """(a value's place, the first place with the same value) of every value that is not the first."""
        for bucket, file in enumerate(self._files):
            self._spill(bucket)
            entries = np.fromfile(file, "<u8").reshape(-1, _ENTRY // 8)
            entries = entries[np.lexsort((entries[:, 2], entries[:, 1], entries[:, 0]))]
            same = np.flatnonzero((entries[1:, :2] == entries[:-1, :2]).all(1)) + 1
            first = np.arange(len(entries))
            first[same] = 0
            first = np.maximum.accumulate(first)
            yield from zip(entries[same, 2].tolist(), entries[first[same], 2].tolist(), strict=True)

    def _spill(self, bucket: int) -> None:
        with self._files[bucket].open("ab") as file:
            file.write(self._held[bucket])
        self._held[bucket].clear()
