"""The tables of one split, all shards of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ivjax.data_pipelines.sources.cells import ARROW_SUFFIXES
from ivjax.data_pipelines.sources.hub.split_names import SHARD
from ivjax.errors import UserError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # tables about the videos beside them


class DataFiles(NamedTuple):
    """The tables of a split.

    Attributes:
        split: its name.
        files: the tables, in order.
        folder: of the rows, only those whose media are in this folder beside the table; "" for all.
    """

    split: str
    files: tuple[Path, ...]
    folder: str = ""


def is_table(path: Path) -> bool:
    """Whether a file is a table that may hold media; results that `datasets` keeps beside them are none."""
    table = path.suffix.lower() in ARROW_SUFFIXES and path.name not in METADATA
    return table and not path.name.startswith((".", "cache-"))


def whole_split(folder: Path, split: str, files: Iterable[Path]) -> DataFiles:
    """Returns the tables of a split, paths relative to `folder`; UserError if a shard is missing."""
    ordered = sorted(files)
    numbers: dict[tuple[Path, str], dict[int, set[int]]] = {}
    for path in ordered:
        if (shard := SHARD.fullmatch(path.stem)) is not None:
            totals = numbers.setdefault((path.parent, shard["split"]), {})
            totals.setdefault(int(shard["total"]), set()).add(int(shard["number"]))
    for (place, name), totals in numbers.items():
        if len(totals) > 1:
            of = " and ".join(map(str, sorted(totals)))
            raise UserError(
                f"{folder / place} holds shards of {name} of {of} in all; remove those of the older"
            )
        ((total, there),) = totals.items()
        missing = next((number for number in range(total) if number not in there), None)
        if missing is not None:
            lacking = f"{name}-{missing:05d}-of-{total:05d}"
            raise UserError(
                f"{folder / place} lacks {lacking} and has {len(there)} of {total} shards; fetch the others"
            )
    return DataFiles(split, tuple(folder / path for path in ordered))
