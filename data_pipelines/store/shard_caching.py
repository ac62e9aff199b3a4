"""Options of the cache of shards; importable without the packages that read shards."""

import os
from dataclasses import dataclass
from pathlib import Path

from ivjax.experiment.ranges import Positive


@dataclass(frozen=True)
class ShardCaching:
    """Where shards of corpora in buckets are copied to, and how many of them stay there.

    Attributes:
        gib: the most space that shards take there, in GiB; all runs of a machine that name the folder share
            it.
        folder: a folder on a disk of this machine; empty: `ivjax/shards` in the user's folder of caches.
    """

    gib: Positive = 100.0
    folder: str = ""

    def place(self) -> Path:
        """Returns the folder."""
        if self.folder:
            return Path(self.folder).expanduser().absolute()
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(caches, "ivjax", "shards")
