"""Embeds videos window by window into an index."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.embed.index import IndexContent, IndexOrigin, IndexWriter
from ivjax.embed.media_list import MediaList
from ivjax.embed.windows import PlannedVideo, Window, Windowing, plan_windows
from ivjax.errors import UserError
from ivjax.evals.encoding import TokenEncoder, in_batches
from ivjax.evals.items import UnscoredClip
from ivjax.evals.views import VideoView, read_views
from ivjax.progress import Progress, Say


@dataclass(frozen=True)
class EmbedOptions:
    """Options of embedding videos.

    Attributes:
        windowing: which parts of each video.
        batch: windows at a time.
        tokens: whether the last states of all tokens are kept, instead of one embedding.
        half: whether tokens are stored as float16.
        threads: how many decode (None: one per core).
    """

    windowing: Windowing = Windowing()
    batch: int = 16
    tokens: bool = False
    half: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, count in (("batch", self.batch), ("threads", self.threads)):
            if count is not None and count < 1:
                raise UserError(f"{name} must be 1 or more, got {count}")
        if self.half and not self.tokens:
            raise UserError("--float16 needs --tokens; pooled embeddings are small and stay float32")


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
    encoder: TokenEncoder, media: MediaList, out: Path, origin: IndexOrigin, options: EmbedOptions, say: Say
) -> EmbeddingOutcome:
    """Writes the index of all windows that can be read; raises UserError if there are none."""
    planned: Iterable[PlannedVideo | UnscoredClip] = plan_windows(media, options.windowing)
    total, unit = len(media), "videos"
    if total == 1:  # of one video, the windows tell better how far the work is
        planned = list(planned)
        total, unit = sum(len(one.windows) for one in planned if isinstance(one, PlannedVideo)), "windows"
    rows: IndexContent = "tokens" if options.tokens else "embeddings"
    dtype = np.float16 if options.half else np.float32
    with IndexWriter(out, rows, dtype) as writer, Progress(total, unit, say) as progress:
        feed = _WindowFeed(planned, progress, by_window=unit == "windows")
        for read in in_batches(feed.read(encoder, options.threads), options.batch):
            frames = np.stack([pictures for _, pictures in read])
            found = encoder.tokens(frames) if options.tokens else encoder.video(frames)
            _add(writer, _finite(found, dtype), [window for window, _ in read])
        broken = tuple(feed.broken.values())
        if not writer.count:
            raise UserError(f"none of {len(media)} videos can be embedded; the first one: {broken[0]}")
        writer.finish(origin)
    return EmbeddingOutcome(writer.count, len(media), broken)


class _WindowFeed:
    """Reads planned windows in order; `broken` holds the first failure of each video that has one."""

    def __init__(self, planned: Iterable[PlannedVideo | UnscoredClip], progress: Progress, by_window: bool):
        self._planned = planned
        self._progress = progress
        self._by_window = by_window
        self._waiting: deque[Window] = deque()
        self.broken: dict[str, UnscoredClip] = {}

    def read(self, encoder: TokenEncoder, threads: int | None) -> Iterator[tuple[Window, np.ndarray]]:
        """Yields each window that can be read, and its frames (T, H, W, 3) uint8."""
        for found in read_views(self._views(), encoder.frames, encoder.image, threads):
            window = self._waiting.popleft()
            if self._by_window or window.last:
                self._progress.advance()
            if isinstance(found, ClipError):
                place = f"{found.detail} (in the window from {window.start:g} s to {window.end:g} s)"
                # The first failure of a video tells most; the later windows mostly fail for the same reason.
                self.broken.setdefault(window.video, UnscoredClip(window.video, found.cause, place))
            else:
                yield window, found

    def _views(self) -> Iterator[VideoView]:
        for planned in self._planned:
            if isinstance(planned, UnscoredClip):
                self.broken[planned.clip] = planned
                self._progress.advance()
            else:
                self._waiting.extend(planned.windows)
                yield from planned.views


def _add(writer: IndexWriter, rows: np.ndarray, windows: Sequence[Window]) -> None:
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
