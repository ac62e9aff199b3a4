"""Jobs of a build: each makes one shard file of some rows, and a note beside it. All engines use them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ivjax.data_pipelines.build.clip_recipe import ClipRecipe, Drop, Outcome, Remark
from ivjax.data_pipelines.build.guard import GuardedMaker
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.manifest import ShardInfo, shard_info
from ivjax.data_pipelines.store.records import SCHEMA
from ivjax.data_pipelines.store.shards import ShardWriter, difference
from ivjax.drafts import store

NOTES = "build"  # the folder inside a corpus where finished shards are noted
_STEPS = 3  # raise it when the code makes other clips of the same row and recipe

RunRows = Callable[[Sequence[SourceRow]], Iterable[Outcome]]  # makes the clips of rows, in their order


@dataclass(frozen=True)
class ShardJob:
    """The job of one shard.

    Attributes:
        number: number of the shard.
        total: number of all shards.
        rows: rows that go into it.
        fingerprint: hash that changes when the job would make another shard.
    """

    number: int
    total: int
    rows: tuple[SourceRow, ...]
    fingerprint: str

    @property
    def name(self) -> str:
        """File name of the shard."""
        return f"shard-{self.number:05d}-of-{self.total:05d}.array_record"


@dataclass(frozen=True)
class BuildSettings:
    """Settings that all jobs share: output folder, recipe, and the time that a row may take."""

    folder: Path
    recipe: ClipRecipe
    row_seconds: float = 600.0


@dataclass(frozen=True)
class ShardNote:
    """The note of a finished shard: its drops, its remarks, and the fingerprint of its job."""

    shard: ShardInfo
    rows: int
    drops: tuple[Drop, ...]
    remarks: tuple[Remark, ...]
    fingerprint: str


def make_jobs(rows: Sequence[SourceRow], recipe: ClipRecipe, shard_clips: int) -> tuple[ShardJob, ...]:
    """Deals rows in order to shards of `shard_clips` rows."""
    total = -(-len(rows) // shard_clips)
    deals = (rows[number * shard_clips : (number + 1) * shard_clips] for number in range(total))
    return tuple(
        ShardJob(number, total, tuple(dealt), _fingerprint((SCHEMA, _STEPS, recipe, number, total), dealt))
        for number, dealt in enumerate(deals)
    )


def _fingerprint(shared: object, rows: Sequence[SourceRow]) -> str:
    # repr of frozen dataclasses names every option, so that none can be forgotten here.
    digest = hashlib.sha256(repr(shared).encode())
    for row in rows:
        digest.update((repr(row) + row.texts_hashed()).encode())
    return digest.hexdigest()


def build_shard(job: ShardJob, work: BuildSettings, run_rows: RunRows | None = None) -> ShardNote:
    """Writes a shard and then its note. Without `run_rows`, a child process makes the rows."""
    outcomes = _guarded(job.rows, work) if run_rows is None else run_rows(job.rows)
    drops: list[Drop] = []
    remarks: list[Remark] = []
    with ShardWriter(work.folder / job.name) as shard:
        for outcome in outcomes:
            for record in outcome.records:
                shard.write(record)
            drops += outcome.drops
            remarks += outcome.remarks
    note = ShardNote(shard.info, len(job.rows), tuple(drops), tuple(remarks), job.fingerprint)
    # After the shard has its name; a note without a shard would be believed.
    _write_note(work.folder, note)
    return note


def _guarded(rows: Sequence[SourceRow], work: BuildSettings) -> Iterator[Outcome]:
    with GuardedMaker(work.recipe, work.row_seconds) as maker:
        for row in rows:
            yield maker.make(row)


def finished(job: ShardJob, work: BuildSettings) -> ShardNote | None:
    """Returns the note of a finished job; None if the job is still to be done."""
    try:
        note = _read_note(work.folder, job.name)
        # Not by its whole content: each restart would read the whole corpus.
        whole = difference(work.folder / job.name, note.shard) is None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if whole and note.fingerprint == job.fingerprint else None


def _note_path(folder: Path, shard: str) -> Path:
    return folder / NOTES / f"{shard.removesuffix('.array_record')}.json"


def _write_note(folder: Path, note: ShardNote) -> None:
    path = _note_path(folder, note.shard.name)
    store(path, json.dumps(asdict(note), ensure_ascii=False) + "\n")


def _read_note(folder: Path, shard: str) -> ShardNote:
    stored = json.loads(_note_path(folder, shard).read_text("utf-8"))
    stored["shard"] = shard_info(stored["shard"])
    stored["drops"] = tuple(Drop(*drop) for drop in stored["drops"])
    stored["remarks"] = tuple(Remark(*remark) for remark in stored["remarks"])
    return ShardNote(**stored)
