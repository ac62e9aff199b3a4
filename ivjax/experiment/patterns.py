"""Patterns of parameter paths: the one language in which parameters are chosen by path.

A pattern is a glob over the whole path (`vision/*_embed`); `*` also crosses slashes. A pattern that names a
branch (`vision`) covers everything below it.
"""

import fnmatch
import functools
import re
from collections.abc import Iterable


def covers(patterns: Iterable[str], path: str) -> bool:
    """Whether one of the patterns names the path (`vision/*_embed`) or a branch it lies on (`vision`)."""
    return _compiled(tuple(patterns)).match(path) is not None


# One expression for all patterns: a file of many tensors is compared with those of every family.
@functools.lru_cache(maxsize=1024)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    globs = [glob for pattern in patterns for glob in (pattern, f"{pattern}/*")]
    # Without patterns, one that matches nothing; the empty expression matches everything.
    return re.compile("|".join(map(fnmatch.translate, globs)) or r"(?!)")
