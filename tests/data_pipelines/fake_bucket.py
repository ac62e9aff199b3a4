"""A store of buckets that is a folder of this machine: gs://bucket/PATH is the file /PATH."""

import os
import threading
import time
from pathlib import Path

_BUCKET = "gs://bucket"


def address_of(folder: Path) -> str:
    """The address of a folder."""
    return f"{_BUCKET}{folder}"


class FakeBucket:
    """What `bucket_files` asks a store for.

    Attributes:
        asked: the names of the files whose content was asked for, in order; each piece counts.
        fails: of so many requests for content one fails, from the first one on; 0: none.
        seconds: how long a request for content takes.
        damaged: so many requests for content are answered with other bytes.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails, self.seconds, self.damaged = 0, 0.0, 0
        self._lock = threading.Lock()

    def shards(self) -> list[str]:
        """The names of the shards that were asked for."""
        return [name for name in self.asked if name.endswith(".array_record")]

    def cat_file(self, address: str, start: int | None = None, stop: int | None = None) -> bytes:
        """The bytes of a file."""
        path = Path(address.removeprefix(_BUCKET))
        with self._lock:
            self.asked.append(path.name)
            number = len(self.asked)
            damaged = start is not None and self.damaged > 0
            self.damaged -= damaged
        time.sleep(self.seconds)
        if self.fails and start is not None and number % self.fails == 0:
            raise RuntimeError("503, try again")
        content = path.read_bytes()[start:stop]
        return bytes(len(content)) if damaged else content

    def ls(self, address: str, detail: bool) -> list[dict[str, object]]:
        """What lies in a folder."""
        assert detail
        folder = address.removeprefix(_BUCKET)
        return [
            {"name": f"{address}/{entry.name}", "size": entry.stat().st_size, "type": "file"}
            for entry in os.scandir(folder)
        ]
