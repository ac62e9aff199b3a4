"""Embeds videos window by window into an index."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.embed.index import IndexContent, IndexOrigin, IndexWriter
from ivjax.embed.media_list import MediaList
from ivjax.embed.windows import PlannedVideo, Window, Windowing, plan_windows
from ivjax.errors import UserError
from ivjax.evals.encoding import TokenEncoder, in_batches
from ivjax.evals.hearing import hearing_of, stacked
from ivjax.evals.items import UnscoredClip
from ivjax.evals.suites.suite import Feature
from ivjax.evals.views import VideoView, read_views
from ivjax.models.sizes import Compared
from ivjax.progress import Progress, Say


@dataclass(frozen=True)
class EmbedOptions:
    """Options of embedding videos.

    Attributes:
        windowing: which parts of each video.
        batch: windows at a time.
        feature: the vector that is kept, what the model `pooled` or the `mean` of its patches (None: the
            model's own choice; not kept if tokens are).
        tokens: whether the last states of all tokens are kept.
        half: whether tokens are stored as float16.
        threads: how many decode (None: one per core).
        medium: what of each window is embedded: the clip, its sound, or both together.
    """

    windowing: Windowing = Windowing()
    batch: int = 16
    feature: Feature | None = None
    tokens: bool = False
    half: bool = False
    threads: int | None = None
    medium: Compared = "video"

    def __post_init__(self) -> None:
        for name, count in (("batch", self.batch), ("threads", self.threads)):
            if count is not None and count < 1:
                raise UserError(f"{name} must be 1 or more, got {count}")
        if self.half and not self.tokens:
            raise UserError("--float16 needs --tokens; pooled embeddings are small and stay float32")
        if self.medium != "video" and (self.tokens or self.feature == "mean"):
            raise UserError(f"--tokens and --mean are of pictures; leave them out, or --medium {self.medium}")

    @property
    def dtypes(self) -> dict[IndexContent, type]:
        """The arrays that are kept, and how they are stored."""
        vectors = self.feature is not None or not self.tokens
        kept: dict[IndexContent, type] = {"embeddings": np.float32} if vectors else {}
        return kept | ({"tokens": np.float16 if self.half else np.float32} if self.tokens else {})


@dataclass(frozen=True)
class EmbeddingOutcome:
    """The result of an embedding job.

    Attributes:
        rows: rows of the index.
        given: videos or texts that were to be embedded.
        broken: the videos that could not be read.
        unit: what was given.
    """

    rows: int
    given: int
    broken: tuple[UnscoredClip, ...] = ()
    unit: str = "videos"

    def __str__(self) -> str:
        failed = f", {len(self.broken)} of them broken" if self.broken else ""
        return f"{self.rows} embeddings of {self.given} {self.unit}{failed}"


def embed_videos(
    encoder: TokenEncoder,
    media: MediaList,
    out: Path,
    origin: IndexOrigin,
    options: EmbedOptions,
    say: Say,
    view: VideoView = VideoView(""),
) -> EmbeddingOutcome:
    """Writes the index of all windows that can be read; raises UserError if there are none.

    view: how each window is read, but for its medium and times.
    """
    planned: Iterable[PlannedVideo | UnscoredClip] = plan_windows(
        media, options.windowing, view, hearing_of(encoder)
    )
    total, unit = len(media), "videos"
    if total == 1:  # of one video, the windows tell better how far the work is
        planned = list(planned)
        total, unit = sum(len(one.windows) for one in planned if isinstance(one, PlannedVideo)), "windows"
    with IndexWriter(out, options.dtypes) as writer, Progress(total, unit, say) as progress:
        feed = _WindowFeed(planned)
        for read in in_batches(feed.read(encoder, options.threads), options.batch):
            frames = stacked([found for _, found in read])
            windows = [window for window, _ in read]
            _add(writer, _embedded(encoder, frames, options.dtypes), windows)
            # After the model has seen them: readers run ahead of it.
            done = writer.count if unit == "windows" else feed.settled(windows[-1])
            progress.advance(done - progress.done)
        broken = tuple(feed.broken.values())
        if not writer.count:
            raise UserError(f"none of {len(media)} videos can be embedded; the first one: {broken[0]}")
        progress.advance(total - progress.done)  # broken windows at the end
        writer.finish(origin)
    return EmbeddingOutcome(writer.count, len(media), broken)


class _WindowFeed:
    """Reads planned windows in order; `broken` holds the first failure of each video that has one."""

    def __init__(self, planned: Iterable[PlannedVideo | UnscoredClip]):
        self._planned = planned
        self._waiting: deque[Window] = deque()
        self._numbers: dict[str, int] = {}
        self.broken: dict[str, UnscoredClip] = {}

    def read(self, encoder: TokenEncoder, threads: int | None) -> Iterator[tuple[Window, Any]]:
        """Yields each window that can be read, and its frames (T, H, W, 3) uint8, or what is heard of it."""
        hearing = hearing_of(encoder)
        for found in read_views(self._views(), encoder.frames, encoder.image, threads, hearing=hearing):
            window = self._waiting.popleft()
            if isinstance(found, ClipError):
                place = f"{found.detail} (in the window from {window.start:g} s to {window.end:g} s)"
                # The first failure of a video tells most; the later windows mostly fail for the same reason.
                self.broken.setdefault(window.video, UnscoredClip(window.video, found.cause, place))
            else:
                yield window, found

    def settled(self, window: Window) -> int:
        """Returns how many videos are done with this window."""
        return self._numbers[window.video] - (not window.last)

    def _views(self) -> Iterator[VideoView]:
        for number, planned in enumerate(self._planned, 1):
            if isinstance(planned, UnscoredClip):
                self.broken[planned.clip] = planned
                continue
            self._numbers[planned.windows[0].video] = number
            self._waiting.extend(planned.windows)
            yield from planned.views


def _embedded(
    encoder: TokenEncoder, frames: Any, dtypes: Mapping[IndexContent, type]
) -> dict[IndexContent, np.ndarray]:
    """What is kept of a batch of windows, by name."""
    if len(dtypes) == 2:
        vectors, tokens = encoder.video_and_tokens(frames)
        found: dict[IndexContent, np.ndarray] = {"embeddings": vectors, "tokens": tokens}
    elif "tokens" in dtypes:
        found = {"tokens": encoder.tokens(frames)}
    else:
        found = {"embeddings": encoder.video(frames)}
    return {name: _finite(rows, dtypes[name]) for name, rows in found.items()}


def _add(writer: IndexWriter, rows: Mapping[IndexContent, np.ndarray], windows: Sequence[Window]) -> None:
    writer.add(
        rows,
        video=[window.video for window in windows],
        start=[window.start for window in windows],
        end=[window.end for window in windows],
    )


def _finite(found: np.ndarray, dtype: type) -> np.ndarray:
    # Overflow to float16 gives infinities, which are reported below with their cause.
    with np.errstate(over="ignore"):
        rows: np.ndarray = found.astype(dtype, copy=False)
    if not np.isfinite(rows).all():
        cause = "the weights are broken" if dtype == np.float32 else "they may exceed float16"
        raise UserError(f"some of the model's states are not finite; {cause}")
    return rows
