"""The one exception for what a user can mend: the command line prints its sentence and no traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and how to mend it, in one sentence.

    Attributes:
        status: The exit status of a command that it ends.
    """

    status = 2


class PassingError(UserError):
    """What may pass by itself, such as a lost machine: those who start jobs may start this one again."""

    status = 1


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a sentence that says which of `names` might have been meant; empty if none is near."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""
