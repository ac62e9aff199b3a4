"""One job trains in a run folder at a time: a file in it names the owner, which gives signs of life."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from etils import epath

from ivjax.drafts import store
from ivjax.errors import UserError
from ivjax.experiment.buckets import create, in_bucket, storage
from ivjax.progress import Say
from ivjax.train.saving import check_folder

NAME = "owner.json"
BEAT_SECONDS = 5.0
# Of an owner on another machine: several signs of life, one of which a slow filesystem may delay. A bucket
# that is out of order for a while delays one by half a minute.
PATIENCE_SECONDS, BUCKET_PATIENCE_SECONDS = 30.0, 120.0


@dataclass(frozen=True)
class Owner:
    """What the file says.

    Attributes:
        host: the machine of the job's first process.
        space: the space of process numbers there; containers of one machine have their own.
        process: its number.
        born: when that process began, as its machine counts; tells it from a later one of the same number.
        token: drawn at its start.
        beat: how many signs of life it has given.
    """

    host: str
    space: str
    process: int
    born: str
    token: str
    beat: int = 0

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Ownership:
    """The ownership of a run folder by this process."""

    def __init__(self, folder: Path, file: epath.Path, owner: Owner):
        self._folder = folder
        self._file = file
        self._owner = owner
        self._lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._give_signs, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises UserError if another job has taken the folder since, or if it is there no more."""
        if self._lost:
            check_folder(self._folder)
            raise UserError(
                f"another job has taken over the run folder {self._file.parent}, as this one gave no sign of "
                "life; it goes on from the last checkpoint"
            )

    def release(self) -> None:
        """Gives the folder free."""
        self._ended.set()
        self._thread.join()
        found = _read(self._file)
        if not self._lost and found is not None and found.token == self._owner.token:
            self._file.unlink(missing_ok=True)

    def _give_signs(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            if _taken(self._file, self._owner.token):
                self._lost = True
                return
            self._owner = replace(self._owner, beat=self._owner.beat + 1)
            # A full disk or a slow mount must not end a run; the next sign may get through.
            with contextlib.suppress(Exception):  # whatever the packages of several stores raise
                self._write()

    def _write(self) -> None:
        if in_bucket(self._file):
            self._file.write_text(_text(self._owner))
        else:
            store(Path(self._file), _text(self._owner))


@contextlib.contextmanager
def owned(folder: Path, say: Say) -> Iterator[Ownership]:
    """Owns a run folder inside the block; UserError if another job that lives does.

    The file of an owner that is dead is taken over: at once if it was on this machine, otherwise once it has
    given no sign of life for a while.
    """
    file = storage(folder) / NAME
    ownership = Ownership(folder, file, _take(file, say))
    try:
        yield ownership
    finally:
        ownership.release()


def _take(file: epath.Path, say: Say) -> Owner:
    number = os.getpid()
    mine = Owner(socket.gethostname(), _space(), number, _born(number), uuid.uuid4().hex)
    while not _create(file, mine):
        found = _read(file)
        if found is not None and _lives(file, found, mine, say):
            raise UserError(
                f"the run folder {file.parent} is in use by {found}; wait for its end, or choose another "
                "--workdir"
            )
        with contextlib.suppress(FileNotFoundError):
            _remove(file, mine)
            say(f"{found or 'an owner that left no name'} no longer lives; its run folder is taken over")
    return mine


def _create(file: epath.Path, owner: Owner) -> bool:
    """Writes the file if there is none."""
    if in_bucket(file):
        return create(file, _text(owner))
    try:
        # Exclusive: of two jobs that start together one is refused.
        with Path(file).open("x") as created:
            created.write(_text(owner))
    except FileExistsError:
        return False
    return True


def _remove(file: epath.Path, mine: Owner) -> None:
    """Removes the file of a dead owner; FileNotFoundError if another starter has."""
    if not in_bucket(file):
        # Moved first, which only one of several can do.
        file = file.rename(file.with_name(f".{file.name}.{mine.token}"))
    file.unlink()


def _lives(file: epath.Path, found: Owner, mine: Owner, say: Say) -> bool:
    if (found.host, found.space) == (mine.host, mine.space):
        return bool(found.born) and _born(found.process) == found.born
    patience = BUCKET_PATIENCE_SECONDS if in_bucket(file) else PATIENCE_SECONDS
    say(f"waiting {patience:.0f} s for a sign of life of {found}, which trained in this folder")
    # By what changes in the file, and not by times: clocks of two machines differ.
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        time.sleep(min(1.0, patience / 4))
        if _read(file) != found:
            return True
    return False


def _read(file: epath.Path) -> Owner | None:
    """What the file says; None if it is gone, or nothing that an owner has written."""
    for _ in range(3):
        try:
            return Owner(**json.loads(file.read_text()))
        except FileNotFoundError:
            return None
        # One that was created a moment ago may still be empty.
        except (OSError, ValueError, TypeError):
            time.sleep(0.2)
    return None


def _taken(file: epath.Path, token: str) -> bool:
    """Whether the file is gone or names another owner; one that cannot be read now is asked again later."""
    found = _read(file)
    return not file.exists() if found is None else found.token != token


def _text(owner: Owner) -> str:
    return json.dumps(asdict(owner))


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _born(process: int) -> str:
    """When a process of this machine began, "unknown" where the system does not tell; "" if there is none."""
    try:
        if Path("/proc/self/stat").exists():
            # The 22nd field; the name before it, in brackets, may hold blanks.
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
        os.kill(process, 0)
    except (FileNotFoundError, ProcessLookupError):
        return ""
    except OSError:
        return "unknown"
    return "unknown"
