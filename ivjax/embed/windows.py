"""Sliding windows over videos, planned one video ahead of the reading."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import VideoFacts, probe
from ivjax.data_pipelines.video.footage import fetch
from ivjax.errors import UserError
from ivjax.evals.hearing import Hearing, sound_facts
from ivjax.evals.items import Item, UnscoredClip
from ivjax.evals.views import VideoView


@dataclass(frozen=True)
class Windowing:
    """Sliding windows.

    Attributes:
        seconds: length of a window (None: the whole video).
        stride: seconds from one window to the next (None: its length).
    """

    seconds: float | None = None
    stride: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("window", self.seconds), ("stride", self.stride)):
            if value is not None and not 0 < value < float("inf"):
                raise UserError(f"--{name} must be above 0 seconds, got {value:g}")
        if self.seconds is None and self.stride is not None:
            raise UserError("--stride needs a window; add --window SECONDS")

    def spans(self, found: VideoFacts) -> list[tuple[float, float]]:
        """Returns start and end of each window in seconds; the last one is as long and ends with the video.

        Raises ClipError for a video that does not say how fast it is, or whose frames are longer.
        """
        # Rounded to microseconds, so that times read as 0.1 and not 0.09999999999999998.
        length = round(found.begins + found.frames / found.fps, 6) if found.fps > 0 else 0.0
        if self.seconds is None or found.frames == 1:
            return [(0.0, length)]
        if found.fps <= 0:
            raise ClipError("no frame rate", "the video does not say how many frames a second has")
        frame = 1 / found.fps
        shortest = min(self.seconds, self.stride or self.seconds)
        if shortest < frame * 0.999:  # because rates are rounded
            what = f"a window or stride of {shortest:g} s is shorter than a frame of {frame:.3f} s"
            raise ClipError("short window", f"{what}; give more seconds")
        return self._slide(length, frame)

    def _slide(self, length: float, frame: float) -> list[tuple[float, float]]:
        assert self.seconds is not None
        step, last = self.stride or self.seconds, length - self.seconds
        starts = [0.0]
        # Within half a frame, because lengths and rates of videos are rounded.
        while starts[-1] + step <= last + frame / 2:
            # Multiplied and not added up, so that rounding does not pile up over long videos.
            starts.append(round(len(starts) * step, 6))
        if last - starts[-1] >= frame / 2:
            starts.append(round(last, 6))
        return [(start, round(min(start + self.seconds, length), 6)) for start in starts]


@dataclass(frozen=True)
class Window:
    """A part of a video.

    Attributes:
        video: its name.
        start: in seconds.
        end: in seconds.
        last: whether it is the last window of its video.
    """

    video: str
    start: float
    end: float
    last: bool


@dataclass(frozen=True)
class PlannedVideo:
    """The windows of a video and the views that show them."""

    windows: tuple[Window, ...]
    views: tuple[VideoView, ...]


def plan_windows(
    media: Iterable[Item | UnscoredClip],
    windowing: Windowing,
    view: VideoView = VideoView(""),
    hearing: Hearing | None = None,
) -> Iterator[PlannedVideo | UnscoredClip]:
    """Yields the windows of each video, or why it has none.

    Args:
        media: the videos.
        windowing: how they are cut.
        view: how each window is read, but for its medium and times.
        hearing: what is heard of them; heard alone, they may be sounds without pictures.
    """
    for item in media:
        if isinstance(item, UnscoredClip):
            yield item
            continue
        try:
            yield _planned(item, windowing, view, hearing)
        except ClipError as error:
            yield UnscoredClip(item.id, error.cause, error.detail)


def _planned(item: Item, windowing: Windowing, view: VideoView, hearing: Hearing | None) -> PlannedVideo:
    media = item.media
    spans = windowing.spans(_facts(media, hearing))
    windows = [Window(item.id, *span, last=False) for span in spans[:-1]]
    windows.append(Window(item.id, *spans[-1], last=True))
    if len(spans) == 1:  # all of it, even where the times of an image mean nothing
        return PlannedVideo(tuple(windows), (replace(view, media=media),))
    views = (replace(view, media=media, start=start, end=end) for start, end in spans)
    return PlannedVideo(tuple(windows), tuple(views))


def _facts(media: str | bytes, hearing: Hearing | None) -> VideoFacts:
    try:
        # By its pictures where it has some, so that windows of clips and of their sound are the same.
        return probe(media if isinstance(media, bytes) else fetch(media))
    except ClipError:
        if hearing is None or not hearing.alone:
            raise
        return sound_facts(media)
