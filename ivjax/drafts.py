"""Files that several processes share: written in one move, and locked by one process at a time."""

import contextlib
import fcntl
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ivjax.errors import UserError


def clear_drafts(folder: Path) -> None:
    """Removes what killed processes have left half-written."""
    for draft in folder.glob(".*.draft"):
        draft.unlink(missing_ok=True)


def draft_of(path: Path) -> Path:
    """Returns the hidden path beside a file under which this process writes it until it is whole."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.draft")


def store(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all."""
    draft = draft_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(draft, path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be written: {reason}; make room or choose another folder") from None
    finally:
        draft.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Moves a file or folder that cannot be used to a free name beside it, which is returned."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.unreadable-{number}")
        if not aside.exists():
            path.rename(aside)
            return aside
    raise AssertionError("numbers do not end")


@contextlib.contextmanager
def locked(
    path: Path,
    patience: float | None = None,
    on_wait: Callable[[], None] = lambda: None,
    mode: int = 0o666,
) -> Iterator[None]:
    """Holds a lock file; one process of the machine is inside at a time. Not to be nested.

    Args:
        path: The lock file, made if it is not there.
        patience: Seconds to wait for another process before TimeoutError is raised; None waits for ever.
        on_wait: Called once if there is somebody to wait for.
        mode: Permissions of a new lock file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The system releases a lock when its process ends in whatever way; a file that marks one would stay.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        if not try_lock(handle):
            on_wait()
            _wait_for_lock(handle, patience)
        yield
    finally:
        os.close(handle)


def _wait_for_lock(handle: int, patience: float | None) -> None:
    if patience is None:
        fcntl.flock(handle, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + patience
    while not try_lock(handle):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


def try_lock(handle: int) -> bool:
    """Locks an open file for this process unless another one has it; says whether it did."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
