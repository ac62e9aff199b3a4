"""The content of a shard in a bucket, piece by piece."""

import logging
import math
import threading
import time
from collections.abc import Iterator

from ivjax.data_pipelines.store.manifest import BucketShard
from ivjax.data_pipelines.store.shard_cache import PATIENCE_SECONDS
from ivjax.errors import PassingError, UserError, in_short
from ivjax.experiment.bucket_files import read_range

# Small enough for a slow line to bring it before a request is given up, which then loses no more.
_PIECE = 16 << 20
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0  # seconds before a failed request is sent again

_log = logging.getLogger(__name__)


def shard_pieces(shard: BucketShard, stopped: threading.Event) -> Iterator[bytes]:
    """Yields the content of a shard; see `ShardPieces`."""
    for start in range(0, shard.info.bytes, _PIECE):
        if not stopped.is_set():
            yield _piece(shard.address, start, min(start + _PIECE, shard.info.bytes), stopped)


def _piece(address: str, start: int, stop: int, stopped: threading.Event) -> bytes:
    """Returns a piece of a file, which it asks for again while the bucket fails; empty once stopped."""
    deadline, wait = math.inf, _FIRST_WAIT
    patience = f"{PATIENCE_SECONDS / 60:g} minutes"
    while not stopped.is_set():
        try:
            return read_range(address, start, stop)
        except FileNotFoundError:
            raise UserError(
                f"{address} is missing, and the manifest beside it names it; copy it there again"
            ) from None
        except Exception as error:  # whatever the packages of several stores raise
            reason = in_short(error)
            if deadline == math.inf:
                deadline = time.monotonic() + PATIENCE_SECONDS
                _log.warning("%s cannot be read now (%s); it is tried for %s", address, reason, patience)
            elif time.monotonic() >= deadline:
                raise PassingError(
                    f"{address} could not be read for {patience} ({reason}); run the same command again once "
                    "the bucket answers"
                ) from error
        stopped.wait(wait)
        wait = min(2 * wait, _LONGEST_WAIT)
    return b""
