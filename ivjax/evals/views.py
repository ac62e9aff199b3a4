"""Reads parts of videos as frames for a model, in order; a few threads decode ahead."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np

from ivjax.data_pipelines.augment.geometry import Crop
from ivjax.data_pipelines.child import usable_cores
from ivjax.data_pipelines.sampling import FrameRule, Intervals
from ivjax.data_pipelines.sampling.frame_rule import check_counts, check_view
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import Video, VideoFacts
from ivjax.data_pipelines.video.footage import exact, fetch
from ivjax.data_pipelines.video.frame_array import FrameArray
from ivjax.data_pipelines.video.frame_folder import FrameFolder
from ivjax.data_pipelines.video.upright import upright, upright_size
from ivjax.evals.hearing import Hearing

FrameReader: TypeAlias = Video | FrameFolder | FrameArray
# A file, `archive.tar::member`, the bytes of one, a folder of images, or frames (T, H, W, 3) uint8.
Media: TypeAlias = str | Path | bytes | np.ndarray
_MOST_THREADS = 8
_AHEAD_BYTES = 512 * 2**20  # of decoded views that wait for the consumer


@dataclass(frozen=True)
class VideoView:
    """A part of a medium, and what of it is read.

    Attributes:
        media: what is read.
        start: where the span begins, in seconds (None: where the medium does).
        end: where the span ends, in seconds (None: where the medium does).
        parts: into how many parts of equal length the span is cut.
        part: which of them is read.
        rule: which of its frames; must draw no random numbers (None: the middle ones of equal parts).
        crop: which part of the upright picture; must draw no random numbers either (None: all of it).
        frame_rate: how many images of a folder, or frames of an array, are shown a second: 0 if that is not
            known, which rules that count seconds refuse (None: the medium is neither).
    """

    media: Media = field(repr=False)
    start: float | None = None
    end: float | None = None
    parts: int = 1
    part: int = 0
    rule: FrameRule | None = None
    crop: Crop | None = None
    frame_rate: float | None = None

    def __post_init__(self) -> None:
        check_view(self.part, self.parts)


def read_views(
    views: Iterable[VideoView],
    frames: int,
    image: tuple[int, int],
    threads: int | None = None,
    neighbours: int = 1,
    hearing: Hearing | None = None,
) -> Generator[Any]:
    """Yields for each view in order its frames (T, H, W, 3) uint8, or the ClipError why there are none.

    With `hearing` these are its frames and its filter bank (frames, bins) float32, or the bank alone.

    Neighbouring views of one medium share one opening of it, so that the later ones decode from the nearest
    keyframe, and those that differ in their crops alone are decoded once.

    Args:
        views: what is read.
        frames: frames of a view without a rule, which shows the middle ones of so many equal parts.
        image: height and width of the frames, whatever that does to the proportions.
        threads: media that are read at a time, each whole in memory (None: by the cores).
        neighbours: how many views a medium usually has.
        hearing: what of the sound is read (None: nothing).
    """
    lanes = [_Lane(frames, image, hearing) for _ in range(threads or min(usable_cores(), _MOST_THREADS))]
    view_bytes = frames * image[0] * image[1] * 3
    # At least two, so that decoding and the model overlap even for views of hundreds of megabytes.
    ahead = max(min(4 * len(lanes) * neighbours, _AHEAD_BYTES // view_bytes), 2)
    waiting: deque[Future[Any]] = deque()
    try:
        for lane, view in _dealt(views, lanes):
            waiting.append(lane.submit(view))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for lane in lanes:
            lane.close()


def span(view: VideoView, found: VideoFacts) -> range:
    """Returns the numbers of the frames of a view, at least one; ClipError if the medium has no such part."""
    begins, ends = 0, found.frames
    if view.start is not None or view.end is not None:
        begins, ends = found.between(view.start or 0.0, view.end)
    # Edges and not lengths, so that the parts cover the span without gaps or overlaps.
    edges = [begins + (ends - begins) * edge // view.parts for edge in (view.part, view.part + 1)]
    # A video with fewer frames than parts shows its last frames again rather than none.
    first = min(edges[0], ends - 1)
    return range(first, max(edges[1], first + 1))


def read_view(
    video: FrameReader, view: VideoView, frames: int, image: tuple[int, int] | None = None
) -> np.ndarray:
    """Returns the frames of a view: (T, H, W, 3) uint8, upright; `frames` of them without a rule.

    `image` None leaves them as large as they are. Raises ClipError.
    """
    return _upright(video.decode(_numbers(view, video.probe, frames)), view.crop, image)


def _numbers(view: VideoView, found: VideoFacts, frames: int) -> tuple[int, ...]:
    numbers = span(view, found)
    rule = view.rule or Intervals(frames, "middle")
    return tuple((numbers.start + rule.choose(len(numbers), found.fps, _NO_DRAWS)).tolist())


def _upright(
    pictures: Sequence[av.VideoFrame], crop: Crop | None, image: tuple[int, int] | None
) -> np.ndarray:
    """Decoded frames, upright."""
    box = None if crop is None else crop.box(*upright_size(pictures[0]), _NO_DRAWS)
    return upright(pictures, box, image)


def _dealt(views: Iterable[VideoView], lanes: list["_Lane"]) -> Iterator[tuple["_Lane", VideoView]]:
    """Each view and the lane that reads it: neighbours of one medium go to one lane."""
    before, place = None, -1
    for view in views:
        if before is None or not _same(before.media, view.media):
            place = (place + 1) % len(lanes)
        before = view
        yield lanes[place], view


def _same(one: Media, other: Media) -> bool:
    # By identity: comparing megabytes for every view would cost more than it saves.
    if isinstance(one, bytes | np.ndarray) or isinstance(other, bytes | np.ndarray):
        return one is other
    return str(one) == str(other)


def _footage(view: VideoView) -> FrameReader:
    media = view.media
    if isinstance(media, np.ndarray):
        return FrameArray(media, view.frame_rate or 0.0)
    if view.frame_rate is not None:
        return FrameFolder(str(media), exact(view.frame_rate))
    return Video(media if isinstance(media, bytes) else fetch(str(media)))


class _Lane:
    """A thread that reads its views one after the other, and keeps the medium of the last one open."""

    def __init__(self, frames: int, image: tuple[int, int], hearing: Hearing | None):
        check_counts(frames=frames)
        self._frames = frames
        self._image = image
        self._hearing = hearing
        # Threads and not processes: PyAV releases the interpreter lock while it decodes and scales.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="view")
        self._media: Media | None = None
        self._opened: FrameReader | ClipError = _NOT_YET
        self._decoded: tuple[tuple[int, ...], list[av.VideoFrame]] = ((), [])

    def submit(self, view: VideoView) -> "Future[Any]":
        """Returns a future of what is read of the view."""
        return self._pool.submit(self._result, view)

    def close(self) -> None:
        """Drops the views that have not been begun, and ends the thread."""
        # Before the medium is left, which the running view may still read.
        self._pool.shutdown(cancel_futures=True)
        self._leave()

    def _result(self, view: VideoView) -> Any:
        try:
            return self._read(view)
        except ClipError as error:
            return error
        except Exception as error:  # whatever a damaged medium provokes must not end the run
            return ClipError("error", f"{type(error).__name__}: {error}")

    def _read(self, view: VideoView) -> Any:
        if self._hearing is None:
            return self._seen(view)
        media = view.media if isinstance(view.media, bytes | np.ndarray) else str(view.media)
        heard = self._hearing.bank(media, view.start, view.end, view.parts, view.part)
        return heard if self._hearing.alone else (self._seen(view), heard)

    def _seen(self, view: VideoView) -> np.ndarray:
        return _upright(self._decode(self._open(view), view), view.crop, self._image)

    def _decode(self, video: FrameReader, view: VideoView) -> list[av.VideoFrame]:
        numbers = _numbers(view, video.probe, self._frames)
        if numbers != self._decoded[0]:
            self._decoded = ((), [])  # freed first, so that two views are never in memory
            self._decoded = (numbers, video.decode(numbers))
        return self._decoded[1]

    def _open(self, view: VideoView) -> FrameReader:
        media = view.media
        if self._media is None or not _same(self._media, media):
            self._leave()
            try:
                self._opened = _footage(view)
            except ClipError as error:  # kept, so that its other views do not try again
                self._opened = error
            self._media = media
        if isinstance(self._opened, ClipError):
            raise self._opened
        return self._opened

    def _leave(self) -> None:
        if not isinstance(self._opened, ClipError):
            self._opened.__exit__(None, None, None)
        self._media, self._opened, self._decoded = None, _NOT_YET, ((), [])


_NOT_YET = ClipError("unopened", "no medium is open")
_NO_DRAWS = np.random.default_rng(0)  # rules and crops of tests draw nothing
