"""The output folder of a build: its lock, its owner, and its clean-up."""

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from ivjax.data_pipelines.build.build_report import REPORT, REPORT_LINES
from ivjax.data_pipelines.build.shard_jobs import NOTES, ShardJob
from ivjax.data_pipelines.store.manifest import MANIFEST
from ivjax.drafts import clear_drafts, store
from ivjax.errors import UserError

_IDENTITY = "corpus.json"


def identity(jobs: Sequence[ShardJob], classes: Sequence[str] = ()) -> str:
    """Returns a hash that changes when jobs and class names would make another corpus."""
    parts = [*(job.fingerprint for job in jobs), *map(repr, classes)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other builders out of a folder. The system frees the lock of a killed builder."""
    notes = folder / NOTES
    notes.mkdir(parents=True, exist_ok=True)
    with (notes / "lock").open("w") as lock:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            _lock(lock, folder)
        yield


def _lock(file: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"another build is writing to {folder}; wait for it, or choose another folder"
        ) from None


def claim(folder: Path, made_with: Mapping[str, Any], overwrite: bool) -> None:
    """Prepares the folder for a corpus; raises UserError if it holds another one."""
    if overwrite:
        clear(folder)
    else:
        _refuse_other(folder, made_with)
    clear_drafts(folder)
    clear_drafts(folder / NOTES)
    path = folder / NOTES / _IDENTITY
    store(path, json.dumps(made_with, indent=1) + "\n")


def clear(folder: Path) -> None:
    """Removes the corpus. The manifest goes first, so that a partial corpus never looks complete."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in (*folder.glob("*.array_record"), folder / REPORT, folder / REPORT_LINES):
        path.unlink(missing_ok=True)
    for path in (folder / NOTES).glob("*.json"):
        path.unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Removes all files of a build without a result, and the folder if it is empty then."""
    clear(folder)
    with contextlib.suppress(OSError):
        (folder / NOTES / "lock").unlink()
        (folder / NOTES).rmdir()
        folder.rmdir()


def _refuse_other(folder: Path, made_with: Mapping[str, Any]) -> None:
    path = folder / NOTES / _IDENTITY
    advice = "choose another folder, or overwrite it (--overwrite)"
    if not (folder / MANIFEST).exists() and not any(folder.glob("*.array_record")):
        return
    if not path.is_file():
        raise UserError(f"{folder} holds a corpus that this command did not build; {advice}")
    try:
        before = json.loads(path.read_text("utf-8"))
        known = before.pop("corpus")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged, so what {folder} holds is not known; {advice}") from None
    # Through JSON, where tuples become lists, so that both sides have the same types.
    now = json.loads(json.dumps(made_with))
    if known != now.pop("corpus"):
        changed = _changes(before, now) or "the rows of the source"
        raise UserError(f"{folder} holds another corpus, which differs in {changed}; {advice}")


def _changes(before: Any, now: Any, name: str = "") -> str:
    """Returns the dotted names of the options that differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = sorted(before.keys() | now.keys())
        changes = (_changes(before.get(n), now.get(n), f"{name}.{n}" if name else n) for n in names)
        return ", ".join(change for change in changes if change)
    return "" if before == now else name
