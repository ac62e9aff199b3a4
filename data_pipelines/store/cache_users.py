"""The processes that use a folder in common, and what each of them wants to stay there.

Each has a folder of its own, with `.lock`, which it holds while it lives, `claims.json`, and an empty file
for each thing that it wants. Who calls sees to it that one process at a time looks or changes.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ivjax.drafts import store, try_lock

_LOCK, _CLAIMS = ".lock", "claims.json"


class Claims(NamedTuple):
    """What a user asks for.

    Attributes:
        limit: bytes that may lie in the folder; of several users the largest counts.
        needs: bytes that it wants at one time, by name; what several users name alike they want in common.
    """

    limit: int
    needs: Mapping[str, int]


class CacheUser:
    """One user of a folder; what a process wanted that has ended counts no more.

    Args:
        users: the folder of all users' folders.
        claims: what it asks for.
    """

    def __init__(self, users: Path, claims: Claims):
        users.mkdir(exist_ok=True)
        self._users = users
        self._own = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=users))
        # The system unlocks it when this process ends in whatever way.
        self._alive: int | None = os.open(self._own / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try_lock(self._alive)
        self.claim(claims)

    def want(self, name: str) -> None:
        """Wants a thing to stay."""
        (self._own / name).touch()

    def unwant(self, name: str) -> None:
        """Wants a thing no more."""
        (self._own / name).unlink(missing_ok=True)

    def wanted(self) -> set[str]:
        """Returns what is wanted, by whomever."""
        users = (self._own, *self._others())
        return {name for user in users for name in os.listdir(user)} - {_LOCK, _CLAIMS}

    def claim(self, claims: Claims) -> None:
        """Says what this user asks for."""
        store(self._own / _CLAIMS, json.dumps(claims._asdict()))

    def claimed(self) -> Claims:
        """Returns what all users ask for together."""
        limit = 0
        needs: dict[str, int] = {}
        for user in (self._own, *self._others()):
            with contextlib.suppress(FileNotFoundError):
                claims = Claims(**json.loads((user / _CLAIMS).read_text()))
                limit, needs = max(limit, claims.limit), needs | dict(claims.needs)
        return Claims(limit, needs)

    def close(self) -> None:
        """Wants nothing any more; a second time does nothing."""
        if self._alive is not None:
            shutil.rmtree(self._own, ignore_errors=True)
            os.close(self._alive)
            self._alive = None

    def _others(self) -> Iterator[Path]:
        """Yields the folders of others; removes those of processes that have ended."""
        for user in self._users.iterdir():
            if user == self._own:
                continue
            if _is_alive(user):
                yield user
            else:
                shutil.rmtree(user, ignore_errors=True)


def _is_alive(user: Path) -> bool:
    try:
        handle = os.open(user / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(handle)
    finally:
        os.close(handle)
