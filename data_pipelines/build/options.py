"""What a build is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ivjax.data_pipelines.build.clip_recipe import ClipRecipe, check_recipe
from ivjax.data_pipelines.child import usable_cores
from ivjax.errors import UserError


@dataclass(frozen=True)
class Filters:
    """Which rows are left out before any video is opened.

    min_scores: a row needs each of these scores, and at least so much of it.
    overlap: a row is a duplicate if an earlier one of the same video shares this much of their time
    (intersection over union, above 0 up to 1); None leaves out only rows that are equal in all but the id.
    """

    min_scores: Mapping[str, float] = field(default_factory=dict)
    overlap: float | None = None


@dataclass(frozen=True)
class Draw:
    """Diversity sampling: `count` rows, every video with the same chance however many rows it has.

    original: InternVid's draw, bit for bit. streaming: equal in distribution, for any number of rows.
    """

    count: int
    method: Literal["original", "streaming"] = "original"
    seed: int = 42


@dataclass(frozen=True)
class BuildOptions:
    """`ivjax data build SOURCE OUT`.

    kind, videos, source_options: see `open_source`. shard_clips: rows of a shard; choose it for files of
    256 MB to 1 GB. workers: processes of the pool, 0 for one per core. row_seconds: a row that takes
    longer is given up. runner, beam_options: Beam's own. overwrite: replace whatever corpus `out` holds.
    """

    source: str
    out: Path
    kind: str = "auto"
    videos: str | None = None
    source_options: Mapping[str, Any] = field(default_factory=dict)
    recipe: ClipRecipe = ClipRecipe()
    filters: Filters = Filters()
    draw: Draw | None = None
    shard_clips: int = 1000
    engine: Literal["pool", "beam"] = "pool"
    workers: int = 0
    row_seconds: float = 600.0
    runner: str = "DirectRunner"
    beam_options: tuple[str, ...] = ()
    overwrite: bool = False

    @property
    def processes(self) -> int:
        """How many processes the pool has."""
        return self.workers or usable_cores()


def check_options(options: BuildOptions) -> None:
    """Raises UserError for options that cannot be."""
    check_recipe(options.recipe)
    overlap, draw = options.filters.overlap, options.draw
    if overlap is not None and not 0 < overlap <= 1:
        raise UserError(
            f"overlap={overlap} is not above 0 and up to 1; 1 finds rows of exactly the same times"
        )
    if draw is not None and draw.count < 1:
        raise UserError(f"a draw of {draw.count} clips leaves nothing; ask for at least 1")
    for name, least in (("shard_clips", 1), ("workers", 0)):
        if getattr(options, name) < least:
            raise UserError(f"{name}={getattr(options, name)} is below {least}; choose {least} or more")
    if options.row_seconds <= 0:
        raise UserError(f"row_seconds={options.row_seconds} leaves no time for a row; choose more")
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"{options.out} is a file; name a folder for the corpus")
