"""Patterns of parameter paths: the one language in which parameters are chosen by path.

A pattern is a glob over the whole path (`vision/*_embed`); `*` also crosses slashes. A pattern that names a
branch (`vision`) covers everything below it.
"""

import fnmatch
from collections.abc import Iterable


def covers(patterns: Iterable[str], path: str) -> bool:
    """Whether one of the patterns names the path (`vision/*_embed`) or a branch it lies on (`vision`)."""
    # fnmatch() itself ignores case on some systems.
    return any(fnmatch.fnmatchcase(path, p) or fnmatch.fnmatchcase(path, f"{p}/*") for p in patterns)
