"""The one exception for what a user can mend: the command line prints its sentence and no traceback."""

import difflib
import errno
import re
from collections.abc import Iterable

FULL = (errno.ENOSPC, errno.EDQUOT)  # what a system says when a disk is full
_LONGEST = 3000  # characters of a message; the names of all families take 1,000
_LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


class UserError(Exception):
    """Bad input. The message says what is wrong, where, and how to mend it, in one sentence.

    Further arguments are shown below it, a line each: the clips that it speaks of, for example.

    Attributes:
        status: The exit status of a command that it ends.
    """

    status = 2

    def __str__(self) -> str:
        return "\n  ".join(readable(str(line)) for line in self.args)


class PassingError(UserError):
    """What may pass by itself, such as a lost machine: those who start jobs may start this one again."""

    status = 1


def readable(text: str, longest: int = _LONGEST) -> str:
    """Returns a text as one line of printable characters; of a long one, the middle is left out.

    What a file from anybody says of itself must neither break a line nor reach a terminal as a command.
    """
    if len(text) > longest:
        # The end stays, because it says how to mend what is wrong.
        text = f"{text[: longest * 3 // 4]} ... {text[-longest // 4 :]}"
    text = _LINE_BREAKS.sub(" ", text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_short(error: BaseException) -> str:
    """Returns the kind of an error and the beginning of what it says, as a part of a sentence."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """The end of a sentence that says which of `names` might have been meant; empty if none is near."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""
