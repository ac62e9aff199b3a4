"""Options of a build."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ivjax.data_pipelines.build.clip_recipe import ClipRecipe, check_recipe
from ivjax.data_pipelines.child import usable_cores
from ivjax.errors import UserError


@dataclass(frozen=True)
class Filters:
    """Filters of rows, applied before any video is opened.

    Attributes:
        min_scores: a row needs each of these scores, and at least this much of it.
        overlap: a row is a duplicate if an earlier row of the same video shares this much of their time
            (intersection over union, above 0 up to 1). None drops only rows that differ in nothing but the
            id.
    """

    min_scores: Mapping[str, float] = field(default_factory=dict)
    overlap: float | None = None


@dataclass(frozen=True)
class Draw:
    """Diversity sampling: every video is equally likely, whatever its number of rows.

    Attributes:
        count: rows to keep.
        method: `original` is InternVid's draw, bit for bit; `streaming` has the same distribution and takes
            any number of rows.
        seed: of the random numbers.
    """

    count: int
    method: Literal["original", "streaming"] = "original"
    seed: int = 42


@dataclass(frozen=True)
class BuildOptions:
    """Options of `ivjax data build SOURCE OUT`.

    Attributes:
        source: annotation file, folder or tar.
        out: folder of the corpus.
        kind: format of the source; `auto` recognises it.
        videos: folder of the media; None is that of the annotations.
        classes: file with class names in the order of their numbers, or a corpus that has some; None: the
            source's, sorted.
        source_options: further options of the source's format.
        recipe: cutting, filtering and encoding.
        filters: filters of rows.
        draw: diversity sampling; None keeps all rows.
        shard_clips: rows of a shard; choose it for files of 256 MB to 1 GB.
        engine: `pool` of processes, or Apache `beam`.
        workers: processes of the pool; 0 is one per core.
        row_seconds: a row that takes longer is dropped.
        runner: Beam's runner.
        beam_options: Beam's other options.
        overwrite: replaces another corpus in `out`.
    """

    source: str
    out: Path
    kind: str = "auto"
    videos: str | None = None
    classes: str | None = None
    source_options: Mapping[str, Any] = field(default_factory=dict)
    recipe: ClipRecipe = ClipRecipe()
    filters: Filters = Filters()
    draw: Draw | None = None
    # ArrayRecord pads to blocks of 64 KiB, so that many small shards waste space.
    shard_clips: int = 1000
    engine: Literal["pool", "beam"] = "pool"
    workers: int = 0
    row_seconds: float = 600.0
    runner: str = "DirectRunner"
    beam_options: tuple[str, ...] = ()
    overwrite: bool = False

    @property
    def processes(self) -> int:
        """Number of processes of the pool."""
        return self.workers or usable_cores()


def check_options(options: BuildOptions) -> None:
    """Raises UserError for wrong options."""
    check_recipe(options.recipe)
    overlap, draw = options.filters.overlap, options.draw
    if overlap is not None and not 0 < overlap <= 1:
        raise UserError(
            f"overlap={overlap} is not above 0 and up to 1; 1 finds rows of exactly the same times"
        )
    if draw is not None and draw.count < 1:
        raise UserError(f"draw.count must be at least 1, got {draw.count}")
    for name, least in (("shard_clips", 1), ("workers", 0)):
        if getattr(options, name) < least:
            raise UserError(f"{name}={getattr(options, name)} is below {least}; choose {least} or more")
    if options.row_seconds <= 0:
        raise UserError(f"row_seconds={options.row_seconds} leaves no time for a row; choose more")
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"{options.out} is a file; name a folder for the corpus")
