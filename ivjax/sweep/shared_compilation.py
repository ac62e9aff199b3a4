"""Compilations that runs of a sweep share: one process at a time compiles a step, and each is counted."""

import contextlib
import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ivjax.drafts import locked

_STARTS = "starts.jsonl"
_CACHE = "/jax/compilation_cache/"


class CompileCounts(NamedTuple):
    """The number of different steps of some runs, and how often one was compiled, not read back."""

    distinct: int
    compiled: int


def share_cache(folder: Path) -> None:
    """Makes this process store all that it compiles in a folder, however quickly it compiled."""
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
    # By default jax stores only what took a second to compile, and nothing that is small.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@contextlib.contextmanager
def counted_alone(cache: Path, key: str, run: Path) -> Iterator[None]:
    """Inside, a start of `run` compiles the steps named `key`, and what it compiled is counted.

    Another process with the same key waits, so that it finds the program in the cache.
    """
    # The lock is per program: workers with different steps compile side by side.
    events = _events()
    with locked(cache / f"{key}.lock"):
        before = events.copy()
        yield
        new = events - before
        line = {"key": key, "compiled": new["cache_misses"], "cached": new["cache_hits"]}
        with (run / _STARTS).open("a") as file:
            file.write(json.dumps(line) + "\n")


@functools.cache
def _events() -> Counter[str]:
    """Hits and misses of the compilation cache in this process, from the first call on."""
    seen: Counter[str] = Counter()

    # jax passes further keywords in some versions.
    def heard(event: str, **_: Any) -> None:
        if event.startswith(_CACHE):
            seen[event.removeprefix(_CACHE)] += 1

    # Once a process, hence the cache: two listeners would count each event twice.
    jax.monitoring.register_event_listener(heard)
    return seen


def compile_counts(folders: Iterable[Path]) -> CompileCounts:
    """Sums up the starts of the runs in these folders."""
    steps: dict[str, int] = {}
    compiled = 0
    for file in (folder / _STARTS for folder in folders):
        for line in file.read_text().splitlines() if file.is_file() else ():
            start = json.loads(line)
            # The most of all starts: a run that was resumed may have compiled fewer programs the second time.
            steps[start["key"]] = max(steps.get(start["key"], 0), start["compiled"] + start["cached"])
            compiled += start["compiled"]
    return CompileCounts(sum(steps.values()), compiled)
