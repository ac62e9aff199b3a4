"""Saves that fail: a run goes on without them for a while, and says so in one sentence."""

import contextlib
import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from ivjax.errors import FULL, PassingError, UserError, in_short
from ivjax.experiment.buckets import known_as
from ivjax.progress import Say
from ivjax.train.watch import is_lost_connection

# More in a row, and too much work would be lost with the run; fewer would end it for what passes by itself.
MOST_FAILURES = 3
_log = logging.getLogger(__name__)
_MOST_DETAILS = 100_000  # bytes; a failed save logs some 50,000 of them
_DISK_ERRORS = (*FULL, errno.EROFS, errno.EACCES, errno.EIO, errno.ENOTDIR, errno.ENOENT)


class FailedSaves:
    """Counts saves that fail one after the other; the last that is allowed ends the run."""

    def __init__(self, folder: Path, say: Say):
        self._folder = folder
        self._say = say
        self._steps: list[int] = []

    def succeeded(self) -> None:
        """A save is whole: earlier failures are forgotten."""
        self._steps.clear()

    def failed(self, step: int, error: Exception, last: bool = False) -> None:
        """Says that the save of `step` failed; raises UserError if no other is to be tried."""
        check_folder(self._folder)
        if is_lost_connection(error):
            raise error
        _log.error("no checkpoint of step %d", step, exc_info=error)
        self._steps.append(step)
        steps = ", ".join(map(str, self._steps))
        why = f"no checkpoint of step {steps} could be saved in {known_as(self._folder)} ({reason(error)})"
        remedy = f"make room or mend the folder and run again; details are in {_log_file(self._folder)}"
        # The other processes of a job wait for this one inside the save; a new start brings them together.
        if jax.process_count() > 1:
            raise PassingError(f"{why}; {remedy}") from None
        if last or len(self._steps) >= MOST_FAILURES:
            raise UserError(f"{why}; {remedy}") from None
        left = MOST_FAILURES - len(self._steps)
        self._say(f"{why}; the run goes on, and ends if the next {left} fail too")


def check_folder(folder: Path) -> None:
    """Raises UserError if a run folder is there no more."""
    if not folder.is_dir():
        raise UserError(f"the run folder {folder} was deleted or moved while the run was writing to it")


def reason(error: BaseException) -> str:
    """Why something failed, in a few words."""
    # Writers in C++ wrap what the system says into pages.
    text = " ".join(str(error).split())
    said = (os.strerror(number) for number in _DISK_ERRORS)
    return next((words for words in said if words in text), in_short(error))


@contextlib.contextmanager
def details_in(folder: Path) -> Iterator[None]:
    """Sends what the checkpoint library logs of its failures, page by page, to a file inside the block."""
    logging.getLogger("asyncio").removeFilter(_is_not_of_saves)
    details = _Details(_log_file(folder), delay=True)
    details.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    loggers = [_log, logging.getLogger("absl"), logging.getLogger("asyncio")]
    for logger in loggers:
        logger.addHandler(details)
        logger.propagate = False
    shown = sys.unraisablehook
    sys.unraisablehook = lambda error: _log_or_show(error, shown)
    try:
        yield
    finally:
        sys.unraisablehook = shown
        for logger in loggers:
            logger.removeHandler(details)
            logger.propagate = True
        # What was under way reports its failure when it is cleared away, which is after the last sentence.
        logging.getLogger("asyncio").addFilter(_is_not_of_saves)
        with contextlib.suppress(OSError):
            details.close()


def _log_file(folder: Path) -> Path:
    # One for each process: several cannot append to one file on all shared filesystems.
    return folder / f"save_errors.{jax.process_index()}.log"


def _log_or_show(error: Any, shown: Callable[[Any], Any]) -> None:
    # Reads and writes under way fail too, or report to those who have given up since then.
    if _is_of_saves(error.exc_traceback) or "loop is closed" in str(error.exc_value):
        _log.error("too late: %s", error.exc_value)
    else:
        shown(error)


def _is_not_of_saves(record: logging.LogRecord) -> bool:
    return not (record.exc_info and _is_of_saves(record.exc_info[2]))


def _is_of_saves(trace: TracebackType | None) -> bool:
    return any("orbax" in frame.filename for frame in traceback.extract_tb(trace))


class _Details(logging.FileHandler):
    def emit(self, record: logging.LogRecord) -> None:
        # Dropped, if the folder is what failed: the sentence on the screen has the reason.
        with contextlib.suppress(OSError):
            if self.stream is None:
                self.stream = self._open()
            if self.stream.tell() < _MOST_DETAILS:
                self.stream.write(f"{self.format(record)}\n")
                self.stream.flush()
