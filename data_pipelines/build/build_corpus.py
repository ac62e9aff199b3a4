"""The steps of a build: plan, build the missing shards, write the report, then the manifest."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ivjax.data_pipelines.build.beam_engine import check_beam, run_beam
from ivjax.data_pipelines.build.build_report import Report, count_causes, write_report
from ivjax.data_pipelines.build.clip_recipe import Drop
from ivjax.data_pipelines.build.options import BuildOptions, check_options
from ivjax.data_pipelines.build.output_folder import claim, discard, identity, locked
from ivjax.data_pipelines.build.process_pool import run_pool
from ivjax.data_pipelines.build.selection import BuildPlan, make_plan
from ivjax.data_pipelines.build.shard_jobs import BuildSettings, ShardJob, ShardNote, finished
from ivjax.data_pipelines.build.source_identity import libraries, source_digest
from ivjax.data_pipelines.build.talks import talks_digest, write_dialogues
from ivjax.data_pipelines.sources.classes import describe_classes
from ivjax.data_pipelines.sources.open_source import open_source_of
from ivjax.data_pipelines.sources.row import BadRow, SourceRow
from ivjax.data_pipelines.store.manifest import MANIFEST, Manifest, store_manifest
from ivjax.errors import UserError
from ivjax.progress import Progress, Say

_NAMED = 3  # dropped rows that an error message spells out


def build(options: BuildOptions, say: Say = print) -> Report:
    """Builds the corpus of a source; after an interruption, the same call continues."""
    check_options(options)
    rows = open_source_of(options.source, options.kind, options.videos, options.source_options)
    return build_rows(rows, options, say)


def build_rows(rows: Iterable[SourceRow | BadRow], options: BuildOptions, say: Say = print) -> Report:
    """Builds a corpus of given rows; `options.source` is only a name then."""
    check_options(options)
    if options.engine == "beam":
        check_beam()
    began = time.monotonic()
    plan = make_plan(rows, options)
    if not plan.jobs:
        raise UserError(f"{options.source} gives nothing to build: {_describe(plan, plan.drops)}")
    work = BuildSettings(options.out.absolute(), options.recipe, options.row_seconds)
    digests = [talks_digest(plan.talks)] if plan.talks else []
    made_with = _made_with(options, identity(plan.jobs, (*plan.classes, *digests)))
    with locked(work.folder):
        claim(work.folder, made_with, options.overwrite)
        kept = _build_missing(plan, work, options, say)
        report = _finish(plan, work, made_with)
    return replace(report, kept_shards=kept, seconds=time.monotonic() - began)


def _build_missing(plan: BuildPlan, work: BuildSettings, options: BuildOptions, say: Say) -> int:
    """Builds the missing shards and returns how many were there already."""
    missing = [job for job in plan.jobs if finished(job, work) is None]
    kept = len(plan.jobs) - len(missing)
    rows = sum(len(job.rows) for job in plan.jobs)
    say(f"{rows:,} clips to make of {plan.rows:,} rows, {len(plan.jobs):,} shards, {kept:,} of them there")
    if plan.talks:
        say(f"{len(plan.talks):,} conversations are about them; each video is stored once")
    if plan.classes:
        say(describe_classes(plan.classes))
    elif not plan.annotated:
        # A column of another name is left aside without an error, and a training on labels ends much later.
        say(
            "no row has a caption or a label; in a table they are the columns caption and label, in a folder "
            "the subfolders are classes"
        )
    if missing:
        # Gone while shards are missing, so that nobody trains on half a corpus.
        (work.folder / MANIFEST).unlink(missing_ok=True)
        done = rows - sum(len(job.rows) for job in missing)
        with Progress(rows, "clips", say, done=done) as progress:
            _run(missing, work, options, progress.advance)
    return kept


def _run(
    jobs: Sequence[ShardJob], work: BuildSettings, options: BuildOptions, tick: Callable[[int], None]
) -> None:
    if options.engine == "beam":
        run_beam(jobs, work, options.runner, options.beam_options, tick)
    else:
        run_pool(jobs, work, options.processes, tick)


def _finish(plan: BuildPlan, work: BuildSettings, made_with: Mapping[str, Any]) -> Report:
    """Writes the report and the manifest from the notes of all shards."""
    notes: list[ShardNote] = []
    for job in plan.jobs:
        note = finished(job, work)
        if note is None:
            raise UserError(f"{work.folder / job.name} was not built; run the same command again to go on")
        notes.append(note)
    drops = [*plan.drops, *(drop for note in notes for drop in note.drops)]
    remarks = [remark for note in notes for remark in note.remarks]
    manifest = Manifest(
        shards=tuple(note.shard for note in notes),
        made_with=made_with,
        classes=plan.classes,
        labels=plan.labels,
        source_digest=source_digest(plan.jobs, work.recipe, plan.classes, plan.talks),
        libraries=libraries(),
    )
    if plan.talks:
        dialogues, without_media = write_dialogues(work.folder, manifest, plan.talks)
        manifest, drops = replace(manifest, dialogues=dialogues), [*drops, *without_media]
    if not manifest.clips or (plan.talks and not manifest.conversations):
        discard(work.folder)
        raise UserError(f"{made_with['source']} gives an empty corpus: {_describe(plan, drops)}")
    report = Report(
        folder=work.folder,
        rows=plan.rows,
        clips=manifest.clips,
        conversations=manifest.conversations,
        bytes=sum(shard.bytes for shard in manifest.shards),
        shards=len(manifest.shards),
        dropped=count_causes(drops, plan.not_drawn),
        remarks=count_causes(remarks),
        digest=manifest.digest,
    )
    # The manifest comes last: a folder that has one is whole.
    write_report(report, [*drops, *remarks])
    store_manifest(work.folder, manifest)
    return report


def _describe(plan: BuildPlan, drops: Sequence[Drop]) -> str:
    """Returns why no clip is left."""
    if not plan.rows:
        return "it has no rows; is it the right file?"
    counts = ", ".join(f"{n:,} {cause}" for cause, n in count_causes(drops, plan.not_drawn).items())
    first = "; ".join(f"{drop.id or drop.where}: {drop.detail}" for drop in drops[:_NAMED])
    return f"of {plan.rows:,} rows, {counts}; the first: {first}"


def _made_with(options: BuildOptions, corpus: str) -> dict[str, Any]:
    """Returns the manifest's account of how the corpus was made; every engine gives the same."""
    return {
        "corpus": corpus,
        "source": options.source,
        "kind": options.kind,
        "videos": options.videos,
        "classes": options.classes,
        "source_options": {name: str(value) for name, value in sorted(options.source_options.items())},
        "filters": {**asdict(options.filters), "min_scores": dict(options.filters.min_scores)},
        "draw": options.draw and asdict(options.draw),
        "recipe": asdict(options.recipe),
        "shard_clips": options.shard_clips,
    }
