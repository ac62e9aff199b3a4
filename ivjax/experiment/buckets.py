"""Run folders in buckets, gs://BUCKET/RUN.

Checkpoints are written to the bucket and read from there. All else of a run is small and consists of plain
files: it lies in a mirror on this machine, from which what has changed is sent to the bucket.
"""

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ivjax.errors import UserError, in_short
from ivjax.experiment.bucket_files import bucket_path, is_bucket
from ivjax.progress import Say

if TYPE_CHECKING:
    from etils import epath

PUSH_SECONDS = 30.0
_MARK = ".bucket"  # in a mirror: the address that it is of
# What lies in the bucket alone, and what no later start needs on its machine.
_APART, _NOT_PULLED = (
    ("checkpoints", "unreadable-checkpoints", "compiled", "owner.json"),
    ("tensorboard", "wandb"),
)
_COMMITTED = "commit_success.txt"  # in a bucket a checkpoint is whole once Orbax has written this
_LAST_TRIES, _WAIT_SECONDS = 4, 2.0  # beside those of the packages, which try each request again


def address_of(folder: Path) -> str | None:
    """Returns the address of a folder in a mirror; None of any other folder."""
    for place in (folder, *folder.parents):
        mark = place / _MARK
        if mark.is_file():
            return "/".join([mark.read_text(), *folder.relative_to(place).parts])
    return None


def known_as(folder: Path) -> str:
    """Returns what people call a folder: its address, if it is a mirror."""
    return address_of(folder) or str(folder)


def storage(folder: Path) -> "epath.Path":
    """Returns where the checkpoints of a run folder lie: in the folder itself, or in its bucket."""
    address = address_of(folder)
    if address:
        return bucket_path(address)
    from etils import epath

    return epath.Path(folder.absolute())


def in_bucket(path: "epath.Path") -> bool:
    """Whether a path leads into a bucket."""
    return is_bucket(str(path))


def is_committed(step: "epath.Path") -> bool:
    """Whether the folder of a checkpoint is whole: on a disk it gets its name only then."""
    return not in_bucket(step) or (step / _COMMITTED).exists()


def disown(step: "epath.Path") -> None:
    """Marks a checkpoint of a bucket as one that is not whole; there it would take long to move it."""
    (step / _COMMITTED).unlink(missing_ok=True)


@contextlib.contextmanager
def opened(place: str, say: Say) -> Iterator[Path]:
    """Gives the folder for a run's files; those of a run in a bucket are sent there, the last at the end."""
    if not is_bucket(place):
        yield Path(place).expanduser()
        return
    mirror = _Mirror(place.rstrip("/"), say)
    _mirrors[mirror.folder] = mirror
    try:
        yield mirror.folder
    finally:
        del _mirrors[mirror.folder]
        mirror.close()


@functools.cache
def reading(address: str) -> Path:
    """Returns a mirror of a run folder in a bucket, as it is now, for readers."""
    mirror = _pulled(address.rstrip("/"))
    atexit.register(shutil.rmtree, mirror.parent, ignore_errors=True)
    return mirror


def local(place: str) -> Path:
    """Returns the folder to read a run from: itself, or the mirror of one in a bucket."""
    return reading(place) if is_bucket(place) else Path(place)


def push(folder: Path) -> None:
    """Sends what has changed, if the folder lies in a mirror; returns once it has arrived."""
    for place, mirror in _mirrors.items():
        if folder.is_relative_to(place):
            mirror.push()


def create(file: "epath.Path", text: str) -> bool:
    """Writes a file of a bucket if there is none; of several who try at once, one is told that it did."""
    import fsspec

    # epath can only write in any case.
    with contextlib.suppress(FileExistsError):
        fsspec.filesystem("gcs").pipe_file(str(file), text.encode(), mode="create")
    # An answer that was lost, and sent for again, finds its own file. And some that speak the language of the
    # store do not refuse the second of two writers: each waits for the other, and reads who came last.
    time.sleep(_WAIT_SECONDS)
    return file.read_text() == text


class _Seen(NamedTuple):
    changed: int
    size: int


_mirrors: dict[Path, "_Mirror"] = {}  # those that are written to, by their folder


class _Mirror:
    """Sends what changes in a mirror to its bucket, now and then and when asked."""

    def __init__(self, address: str, say: Say):
        self.folder = _pulled(address)
        self._address, self._say = address, say
        self._sent = _files(self.folder)
        self._lock = threading.Lock()
        self._failing = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._push_now_and_then, daemon=True)
        self._thread.start()

    def push(self) -> None:
        with self._lock:
            try:
                self._push()
            except Exception as error:  # whatever the packages of several stores raise
                if not self._failing:
                    self._say(f"{self._address} cannot be written now ({in_short(error)}); it is tried again")
                self._failing = True
            else:
                self._failing = False

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for _ in range(_LAST_TRIES):
            self.push()
            if not self._failing:
                shutil.rmtree(self.folder.parent, ignore_errors=True)
                return
            time.sleep(_WAIT_SECONDS)
        self._say(f"files of {self._address} could not be sent; they are in {self.folder}")

    def _push_now_and_then(self) -> None:
        while not self._ended.wait(PUSH_SECONDS):
            self.push()

    def _push(self) -> None:
        place = storage(self.folder)
        there = _files(self.folder)
        for name, seen in there.items():
            if self._sent.get(name) != seen:
                place.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
                # Whole, because nothing can be appended to what a bucket holds.
                place.joinpath(name).write_bytes((self.folder / name).read_bytes())
                self._sent[name] = seen
        for name in self._sent.keys() - there.keys():
            place.joinpath(name).unlink(missing_ok=True)
            del self._sent[name]


def _pulled(address: str) -> Path:
    """Makes a mirror of what lies at an address; returns its folder."""
    place = bucket_path(address)
    folder = Path(tempfile.mkdtemp(prefix="ivjax-")) / address.rpartition("/")[2]
    folder.mkdir()
    (folder / _MARK).write_text(address)
    try:
        for name, entry in _below(place):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(entry.read_bytes())
    except Exception as error:  # whatever the packages of several stores raise
        raise UserError(f"{address} cannot be read ({in_short(error)})") from error
    return folder


def _below(place: "epath.Path", parts: tuple[str, ...] = ()) -> Iterator[tuple[str, "epath.Path"]]:
    """Yields (name, file) of all files that belong into a mirror."""
    if not place.is_dir():
        return
    for entry in place.iterdir():
        inner = (*parts, entry.name)
        if entry.name in (*_APART, *_NOT_PULLED):
            continue
        if entry.is_dir():
            yield from _below(entry, inner)
        else:
            yield "/".join(inner), entry


def _files(folder: Path) -> dict[str, _Seen]:
    """The files of a mirror that belong into the bucket, and when they changed."""
    found: dict[str, _Seen] = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _APART]
        for name in names:
            # Drafts and the mark have hidden names.
            if name not in _APART and not name.startswith("."):
                file = Path(root, name)
                with contextlib.suppress(FileNotFoundError):
                    found[file.relative_to(folder).as_posix()] = _seen(file)
    return found


def _seen(file: Path) -> _Seen:
    status = file.stat()
    return _Seen(status.st_mtime_ns, status.st_size)
