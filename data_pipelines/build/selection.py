"""Selects rows and deals them to shards: a deterministic function that opens no video."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ivjax.data_pipelines.build.clip_recipe import Drop
from ivjax.data_pipelines.build.options import BuildOptions, Draw
from ivjax.data_pipelines.build.shard_jobs import ShardJob, make_jobs
from ivjax.data_pipelines.build.talks import Separated, Talk, separate
from ivjax.data_pipelines.sampling.diversity import original_draw, streaming_draw
from ivjax.data_pipelines.sources.classes import ClassNumbers, given_classes
from ivjax.data_pipelines.sources.row import BadRow, SourceRow
from ivjax.data_pipelines.video.footage import TOLERANCE
from ivjax.errors import UserError

Span = tuple[float, float]  # first and last second of a row in its video
_WHOLE: Span = (0.0, float("inf"))


@dataclass(frozen=True)
class BuildPlan:
    """The selected rows of a build, dealt to shards.

    Attributes:
        jobs: one for each shard.
        rows: number of rows of the source.
        drops: rows that are left out.
        not_drawn: number of good rows that the draw left out.
        classes: class names in the order of their numbers; empty: there are none.
        talks: conversations about the rows' clips.
    """

    jobs: tuple[ShardJob, ...]
    rows: int
    drops: tuple[Drop, ...]
    not_drawn: int
    classes: tuple[str, ...] = ()
    talks: tuple[Talk, ...] = ()

    @property
    def labels(self) -> int:
        """One more than the highest class number of the rows; 0 if none has a class."""
        numbers = (row.label for job in self.jobs for row in job.rows)
        return max((number + 1 for number in numbers if number is not None), default=0)

    @property
    def annotated(self) -> bool:
        """Whether a row has a caption, a conversation or a class."""
        rows = (row for job in self.jobs for row in job.rows)
        return bool(self.talks) or any(
            row.captions or row.conversation or row.label is not None for row in rows
        )


def make_plan(rows: Iterable[SourceRow | BadRow], options: BuildOptions) -> BuildPlan:
    """Filters and draws rows, and deals them to shards; rows of one file stay together."""
    # All rows' classes count, also those of rows that are left out: filters must not change the numbers.
    classes = ClassNumbers(options.source, given_classes(rows, options.classes))
    sieve = _Sieve(options, classes)
    kept: list[SourceRow] = []
    drops: list[Drop] = []
    for row in rows:
        drop = Drop("", row.where, row.cause, row.reason) if isinstance(row, BadRow) else sieve.drop(row)
        if drop is not None:
            drops.append(drop)
        else:
            assert isinstance(row, SourceRow)
            kept.append(row)
    if options.classes and kept and not classes.met:
        raise UserError(
            f"classes={options.classes} gives class names, and no row of {options.source} has a class; leave "
            "it out, or name a source with labels"
        )
    drawn = classes.number(kept if options.draw is None else _drawn(kept, options.draw))
    # Where rows are split, each piece keeps the whole conversation.
    stored, talks = Separated(drawn, ()) if options.recipe.splits else separate(drawn)
    jobs = make_jobs(_by_file(stored), options.recipe, options.shard_clips)
    not_drawn = len(kept) - len(drawn)
    return BuildPlan(jobs, len(kept) + len(drops), tuple(drops), not_drawn, classes.names(), talks)


class _Sieve:
    """The filters of rows. Duplicates depend on the rows before, so rows must come in order."""

    def __init__(self, options: BuildOptions, classes: ClassNumbers):
        self._classes = classes
        self._recipe = options.recipe
        self._filters = options.filters
        self._seen: set[tuple[object, ...]] = set()
        self._spans: dict[str, list[Span]] = {}

    def drop(self, row: SourceRow) -> Drop | None:
        """Returns why a row is dropped; None keeps it."""
        # Duplicates last: a row that another filter drops must not shadow a later good one.
        for reason in (self._class, self._times, self._scores, self._duplicate):
            found = reason(row)
            if found is not None:
                return Drop(row.id, row.path, *found)
        return None

    def _class(self, row: SourceRow) -> tuple[str, str] | None:
        fault = self._classes.fault(row)
        return None if fault is None else ("other class", fault)

    def _times(self, row: SourceRow) -> tuple[str, str] | None:
        start, end = _span(row)
        if row.media == "image":
            return None
        if not (0 <= start < end) or start == float("inf"):
            return "wrong times", f"it runs from {start:g} s to {end:g} s"
        seconds, recipe = end - start, self._recipe
        if seconds + TOLERANCE < recipe.min_seconds:
            return "too short", f"it lasts {seconds:.3f} s, less than {recipe.min_seconds:g} s"
        # Shots and windows may be short enough, and where a file ends is not known yet
        if recipe.max_seconds is None or recipe.splits or row.end is None:
            return None
        if seconds - TOLERANCE > recipe.max_seconds:
            return "too long", f"it lasts {seconds:.3f} s, more than {recipe.max_seconds:g} s"
        return None

    def _scores(self, row: SourceRow) -> tuple[str, str] | None:
        for name, least in self._filters.min_scores.items():
            if name not in row.scores:
                known = ", ".join(row.scores) or "none"
                return "no score", f"it has no score {name} (its scores: {known})"
            if not row.scores[name] >= least:
                return "low score", f"{name} is {row.scores[name]:g}, below {least:g}"
        return None

    def _duplicate(self, row: SourceRow) -> tuple[str, str] | None:
        span = _span(row)
        said = row.captions, tuple(row.texts.items()), row.conversation
        content = (row.path, span, *said, row.label, row.class_name)
        if content in self._seen:
            return "duplicate", "an earlier row says the same of the same time"
        self._seen.add(content)
        if self._filters.overlap is None:
            return None
        spans = self._spans.setdefault(row.path, [])
        most = max((overlap(span, other) for other in spans), default=0.0)
        if most >= self._filters.overlap:
            return "duplicate", f"it shares {most:.0%} of its time with an earlier row of this video"
        spans.append(span)
        return None


def _span(row: SourceRow) -> Span:
    return (
        _WHOLE[0] if row.start is None else row.start,
        _WHOLE[1] if row.end is None else row.end,
    )


def overlap(one: Span, other: Span) -> float:
    """Returns the intersection over union of two spans of time."""
    if one == other:
        return 1.0
    shared = min(one[1], other[1]) - max(one[0], other[0])
    union = max(one[1], other[1]) - min(one[0], other[0])
    return max(shared, 0.0) / union if union < float("inf") else 0.0


def _by_file(rows: Sequence[SourceRow]) -> list[SourceRow]:
    """Returns rows by file, in the order of each file's first row, and by time within a file."""
    files: dict[str, list[SourceRow]] = {}
    for row in rows:
        files.setdefault(row.path, []).append(row)
    return [row for path in files for row in sorted(files[path], key=_span)]


def _drawn(rows: Sequence[SourceRow], draw: Draw) -> list[SourceRow]:
    """Returns the rows that a draw takes, in its order."""
    videos = [row.video or row.path for row in rows]
    if draw.method == "streaming":
        pairs = [(row.id, video) for row, video in zip(rows, videos, strict=True)]
        return [rows[index] for index in streaming_draw(pairs, draw.count, draw.seed)]
    # The original knows a video by 11 letters; which ones does not matter, only which rows share them.
    numbers = {video: number for number, video in enumerate(dict.fromkeys(videos))}
    names = [f"{numbers[video]:011d}" for video in videos]
    return [rows[index] for index in original_draw(names, draw.count, draw.seed)]
