"""Parts of videos as frames for a model, in order; decoded ahead by a few threads."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ivjax.data_pipelines.build.footage import TOLERANCE, exact, fetch
from ivjax.data_pipelines.child import usable_cores
from ivjax.data_pipelines.decode import Probe, Video, to_rgb
from ivjax.data_pipelines.records import ClipError
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.sampling.rule import check_counts, check_view

_MOST_THREADS = 8
_AHEAD_BYTES = 512 * 2**20  # of decoded views that wait for the consumer


@dataclass(frozen=True)
class View:
    """A part of a medium: a file, `archive.tar::member`, or the bytes of one.

    `start` and `end` are seconds inside the medium, None its bounds. That span is cut into `parts` of
    equal length, `part` is the one to read.
    """

    media: str | Path | bytes = field(repr=False)
    start: float | None = None
    end: float | None = None
    parts: int = 1
    part: int = 0

    def __post_init__(self) -> None:
        check_view(self.part, self.parts)


def read_views(
    views: Iterable[View], frames: int, image: tuple[int, int], threads: int | None = None
) -> Iterator[np.ndarray | ClipError]:
    """For each view in order, its frames (T, H, W, 3) uint8, or why there are none.

    The frames are the middle ones of `frames` equal parts; `image` is height and width, whatever that does
    to the proportions. Neighbouring views of one medium share one opening of it, so that the later ones
    decode from the nearest keyframe. `threads` media are read at a time, whole, into memory.
    """
    lanes = [_Lane(frames, image) for _ in range(threads or min(usable_cores(), _MOST_THREADS))]
    view_bytes = frames * image[0] * image[1] * 3
    ahead = max(min(4 * len(lanes), _AHEAD_BYTES // view_bytes), 2)
    waiting: deque[Future[np.ndarray | ClipError]] = deque()
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


def span(view: View, found: Probe) -> range:
    """Numbers of the frames of a view; at least one. Raises ClipError if the medium has no such part."""
    begins, ends = 0, found.frames
    if view.start is not None or view.end is not None:
        begins, ends = _between(view.start or 0.0, view.end, found)
    edges = [begins + (ends - begins) * edge // view.parts for edge in (view.part, view.part + 1)]
    first = min(edges[0], ends - 1)
    return range(first, max(edges[1], first + 1))


def read_view(video: Video, view: View, frames: int, image: tuple[int, int] | None = None) -> np.ndarray:
    """The middle frames of `frames` parts of a view: (T, H, W, 3) uint8, upright.

    `image` None leaves them as large as they are. Raises ClipError.
    """
    found = video.probe
    numbers = span(view, found)
    chosen = numbers.start + Intervals(frames, "middle").choose(len(numbers), found.fps, _NO_DRAWS)
    return _upright(video.decode(chosen), image)


def _upright(pictures: Sequence[av.VideoFrame], image: tuple[int, int] | None) -> np.ndarray:
    """Decoded frames as they are to be seen: phones store them turned, and by how much."""
    turns = pictures[0].rotation // 90
    size = image if image is None or turns % 2 == 0 else image[::-1]
    return np.ascontiguousarray(np.rot90(to_rgb(pictures, size=size), turns, axes=(1, 2)))


def _between(start: float, end: float | None, found: Probe) -> tuple[int, int]:
    """First frame of a time, and the one after its last."""
    if not 0 <= start < (math.inf if end is None else end) or end == math.inf:
        raise ClipError("wrong times", f"the part runs from {start:g} s to {end} s")
    if found.fps <= 0:
        raise ClipError("no frame rate", "the medium does not say how many frames a second has")
    fps = Fraction(found.fps).limit_denominator(1001)
    first = math.floor((exact(start) + TOLERANCE) * fps)
    if first >= found.frames:
        seconds = float(found.frames / fps)
        raise ClipError("past the end", f"the part starts at {start:g} s of {seconds:.3f} s")
    if end is None:
        return first, found.frames
    count = max(math.floor((exact(end) - exact(start) + TOLERANCE) * fps), 1)
    return first, min(first + count, found.frames)


def _dealt(views: Iterable[View], lanes: list["_Lane"]) -> Iterator[tuple["_Lane", View]]:
    """Each view and the lane that reads it: neighbours of one medium go to one lane."""
    before, place = None, -1
    for view in views:
        if before is None or not _same(before.media, view.media):
            place = (place + 1) % len(lanes)
        before = view
        yield lanes[place], view


def _same(one: str | Path | bytes, other: str | Path | bytes) -> bool:
    if isinstance(one, bytes) or isinstance(other, bytes):
        return one is other
    return str(one) == str(other)


class _Lane:
    """A thread that reads its views one after the other, and keeps the medium of the last one open."""

    def __init__(self, frames: int, image: tuple[int, int]):
        check_counts(frames=frames)
        self._frames = frames
        self._image = image
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="view")
        self._media: str | Path | bytes | None = None
        self._opened: Video | ClipError = _NOT_YET

    def submit(self, view: View) -> "Future[np.ndarray | ClipError]":
        """The view's frames, soon."""
        return self._pool.submit(self._result, view)

    def close(self) -> None:
        """Drops what has not been begun."""
        self._pool.shutdown(cancel_futures=True)
        self._leave()

    def _result(self, view: View) -> np.ndarray | ClipError:
        try:
            return read_view(self._open(view.media), view, self._frames, self._image)
        except ClipError as error:
            return error
        except Exception as error:  # whatever a strange medium provokes must not end the run
            return ClipError("error", f"{type(error).__name__}: {error}")

    def _open(self, media: str | Path | bytes) -> Video:
        if self._media is None or not _same(self._media, media):
            self._leave()
            try:
                self._opened = Video(media if isinstance(media, bytes) else fetch(str(media)))
            except ClipError as error:  # kept: its other views need not try again
                self._opened = error
            self._media = media
        if isinstance(self._opened, ClipError):
            raise self._opened
        return self._opened

    def _leave(self) -> None:
        if isinstance(self._opened, Video):
            self._opened.__exit__(None, None, None)
        self._media, self._opened = None, _NOT_YET


_NOT_YET = ClipError("unopened", "no medium is open")
_NO_DRAWS = np.random.default_rng(0)  # the rule takes middles and draws nothing
