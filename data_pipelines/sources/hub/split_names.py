"""Names of splits in paths, and patterns of paths, as `datasets` reads them."""

import fnmatch
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

# Words in the names of files and folders that tell a split.
_WORDS: Mapping[str, Sequence[str]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_BETWEEN = re.compile(r"[-._ 0-9]+")
# SPLIT-00000-of-00005; files of some years ago have a hash behind it.
SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?:-[0-9a-f]+)?")


def canonical_split(name: str) -> str:
    """Returns the usual name of a split, such as validation for val; any other name unchanged."""
    return next((split for split, words in _WORDS.items() if name in words), name)


def is_split_name(name: str) -> bool:
    """Whether a word of a name tells a split."""
    return any(canonical_split(word) in _WORDS for word in _BETWEEN.split(name))


def split_of(path: PurePath) -> str:
    """Returns the split of a file, by the name of a shard, else by words of its path; train without any."""
    if (shard := SHARD.fullmatch(path.stem)) is not None:
        return shard["split"]
    # Folders count more than files: train/my_test.parquet is of train.
    for name in (*path.parts[:-1], path.stem):
        for word in _BETWEEN.split(name):
            if canonical_split(word) in _WORDS:
                return canonical_split(word)
    return "train"


def fits(path: PurePath, pattern: str) -> bool:
    """Whether a relative path is that of a pattern: * and [...] within a name, ** over folders."""
    return _fits(path.parts, PurePath(pattern).parts)


# Cached, because several ** would otherwise try the same rest of a path again and again.
@functools.lru_cache(maxsize=2**16)
def _fits(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern or not names:
        return not names and all(each == "**" for each in pattern)
    if pattern[0] == "**":
        return _fits(names, pattern[1:]) or _fits(names[1:], pattern)
    return fnmatch.fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])
