"""Reads source videos by presentation time: exactly the frames of [start, end)."""

import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from types import TracebackType

import av
import numpy as np

from ivjax.data_pipelines.sources.media import read_media
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.filters import Deinterlacer
from ivjax.data_pipelines.video.timeline import UNKNOWN_FPS, FrameRate, Shown, rate_of
from ivjax.errors import UserError

# Annotations give milliseconds: a frame that is this close to a bound counts as being on it.
TOLERANCE = Fraction(1, 2000)
# AVI stores times in the order of decoding, which are wrong for frames that refer to later ones.
NO_TIMES = {"avi"}
_NO_SEEKING = {"avi", "mpeg"}  # after a seek the times of their frames change
MISSING_SECONDS = 1  # of video that may be missing at the end of a file


def exact(seconds: float) -> Fraction:
    """Returns the time in whole microseconds, which is what annotations mean by a float."""
    return Fraction(round(seconds * 1_000_000), 1_000_000)


class Footage:
    """An opened source video. Time 0 is where a player starts. Damaged files raise ClipError.

    Interlaced frames come as whole pictures unless `deinterlace` is false.
    """

    def __init__(self, path: str, deinterlace: bool = True):
        self._path = path
        self._deinterlacer = Deinterlacer() if deinterlace else None
        self._open()

    def _open(self) -> None:
        self._fresh = True
        self._container = open_media(self._path)
        try:
            self._stream = video_stream(self._container, self._path)
        except ClipError:
            self._container.close()
            raise
        self._base = self._stream.time_base or Fraction(1, av.time_base)
        context = self._stream.codec_context
        # One: builds and loaders run a process for each core already.
        context.thread_count = 1
        self._origin = begin_of(self._container)

    @property
    def fps(self) -> Fraction:
        """Average frames per second; 0 if the file does not say."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        # The NTSC rates are n / 1001; an average over a file misses them by a little.
        return Fraction(rate).limit_denominator(1001) if rate else Fraction(0)

    @property
    def was_interlaced(self) -> bool:
        """Whether interlaced frames have been made whole so far."""
        return self._deinterlacer is not None and self._deinterlacer.met

    def rate(self, start: Fraction | None, end: Fraction | None) -> FrameRate:
        """Returns the rate of the frames in [start, end), by the times of their packets."""
        times = None if self._container.format.name in NO_TIMES else self._packet_times(start, end)
        if times is None:
            return FrameRate(self.fps, True)
        finest = Fraction(self._stream.base_rate or 0).limit_denominator(1001)
        return rate_of(np.array(times), self._base, self.fps, finest)

    def _packet_times(self, start: Fraction | None, end: Fraction | None) -> list[int] | None:
        """Returns the times of the frames in [start, end) in the stream's units; None if some have none."""
        if start is None or self._container.format.name in _NO_SEEKING:
            self._reopen()
        else:
            self._seek(start)
        self._fresh = False
        first = 0 if start is None else (start - TOLERANCE + self._origin) / self._base
        last = None if end is None else (end - TOLERANCE + self._origin) / self._base
        times: set[int] = set()
        # Not decoded: this costs a second reading of the span, and the system has its bytes by then.
        with contextlib.suppress(av.FFmpegError):  # damage is for `frames` to find
            for packet in self._container.demux(self._stream):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None:
                    return None
                if last is not None and packet.dts is not None and packet.dts >= last:
                    break
                if first <= packet.pts and (last is None or packet.pts < last):
                    times.add(packet.pts)
        return sorted(times)

    @property
    def pixel_shape(self) -> Fraction:
        """Width of a pixel over its height."""
        return Fraction(self._stream.codec_context.sample_aspect_ratio or 1)

    @property
    def seconds(self) -> Fraction | None:
        """Second at which the video ends, as its file states it."""
        duration = self._stream.duration
        if duration is None:
            return None
        # Pictures may begin later than the sound, with which a player starts.
        return (duration + (self._stream.start_time or 0)) * self._base - self._origin

    def frames(self, start: Fraction | None, end: Fraction | None) -> Iterator[Shown]:
        """Yields the frames that begin in [start, end); None is the start or the end of the file."""
        # One frame behind: when a frame ends is known from the next one only.
        held: Shown | None = None
        ends = Fraction(0)
        try:
            decoded = self._decode_from(start)
            for picture in decoded if self._deinterlacer is None else self._deinterlacer.all(decoded):
                begins = self._time(picture)
                if held is not None:
                    yield held._replace(ends=begins if end is None else min(begins, end))
                    held = None
                if end is not None and begins + TOLERANCE >= end:
                    return
                ends = begins + self._length(picture)
                if start is None or begins + TOLERANCE >= start:
                    self._check_whole(picture, begins)
                    held = Shown(picture, begins, ends if end is None else min(ends, end))
        except (av.FFmpegError, ValueError, MemoryError) as error:
            raise ClipError("undecodable", f"{self._path}: {type(error).__name__}: {error}") from None
        self._check_end(ends, end)
        if held is not None:
            yield held

    def _length(self, picture: av.VideoFrame) -> Fraction:
        """Returns for how long the last frame is shown."""
        if picture.duration:
            return picture.duration * self._base
        return 1 / (self.fps or UNKNOWN_FPS)

    def _check_whole(self, picture: av.VideoFrame, begins: Fraction) -> None:
        """Raises ClipError if the decoder concealed damage in a frame."""
        if picture.is_corrupt:
            raise ClipError("undecodable", f"{self._path}: the frame at {float(begins):.3f} s is damaged")

    def _check_end(self, ends: Fraction, wanted: Fraction | None) -> None:
        """Raises ClipError if the frames end long before the file says."""
        stated = self.seconds
        if stated is not None and ends < min(stated, stated if wanted is None else wanted) - MISSING_SECONDS:
            raise ClipError(
                "truncated", f"{self._path} breaks off at {float(ends):.2f} of {float(stated):.2f} s"
            )

    def _decode_from(self, start: Fraction | None) -> Iterator[av.VideoFrame]:
        """Yields frames from a keyframe on that is shown no later than `start`."""
        if start is None or self._container.format.name in _NO_SEEKING:
            return self._rewind()
        # A seek goes by decoding time, so it may land on a keyframe that is shown after `start`. Then it
        # tries further and further back.
        back = Fraction(0)
        while start - back > TOLERANCE:
            frames = self._seek(start - back)
            first = _first(frames)
            if first is not None and first.pts is not None and self._time(first) <= start + TOLERANCE:
                return itertools.chain([first], frames)
            # Four times further each time, so that a file with few keyframes needs few seeks.
            back = max(4 * back, Fraction(1))
        return self._rewind()

    def _seek(self, time: Fraction) -> Iterator[av.VideoFrame]:
        self._fresh = False
        try:
            self._container.seek(int((time + self._origin) / self._base), stream=self._stream)
        except av.FFmpegError:  # a format without seeking, or beyond its end
            return iter(())
        return self._container.decode(self._stream)

    def _rewind(self) -> Iterator[av.VideoFrame]:
        """Yields all frames from the start."""
        self._reopen()
        self._fresh = False
        return self._stamped(self._container.decode(self._stream))

    def _reopen(self) -> None:
        if not self._fresh:  # opening anew is the one way back to the start that every format has
            self._container.close()
            self._open()

    def _stamped(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yields the frames with a time; the frame rate gives it to frames that have none."""
        for number, frame in enumerate(frames):
            if frame.pts is None or self._container.format.name in NO_TIMES:
                time = number / (self.fps or UNKNOWN_FPS) + self._origin
                frame.pts, frame.time_base = round(time / self._base), self._base
            yield frame

    def _time(self, frame: av.VideoFrame) -> Fraction:
        if frame.pts is None:
            raise ClipError("no times", f"some frames of {self._path} carry no time stamps")
        return frame.pts * self._base - self._origin

    def __enter__(self) -> "Footage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()


def open_media(media: str | bytes) -> av.container.InputContainer:
    """Opens a file, the member of a tar, or bytes as a record holds them; raises ClipError."""
    with _clip_errors(name_of(media)):
        # A file is not read as a whole: the demuxer seeks in it.
        if isinstance(media, str) and "::" not in media:
            return av.open(media, "r")
        return av.open(io.BytesIO(read_media(media) if isinstance(media, str) else media), "r")


def name_of(media: str | bytes) -> str:
    """Returns what messages call media: their path, if they have one."""
    return media if isinstance(media, str) else "the stored clip"


def fetch(path: str) -> bytes:
    """Returns the bytes of a file or of the member of a tar; raises ClipError."""
    with _clip_errors(path):
        return read_media(path)


@contextlib.contextmanager
def _clip_errors(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ClipError("missing", f"{path} is not there") from None
    except (av.FFmpegError, OSError, ValueError, UserError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClipError("unreadable", f"{path} cannot be opened: {reason}") from None


def video_stream(container: av.container.InputContainer, name: str) -> av.VideoStream:
    """Returns the first video of a file; raises ClipError if it has none, or just a cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    only = " but the cover picture of its sound" if container.streams.video else ""
    raise ClipError("no video stream", f"{name} holds no video{only}")


def begin_of(container: av.container.InputContainer) -> Fraction:
    """Returns where on the file's clock a player starts: the start of its first stream, exactly."""
    stated = Fraction(container.start_time or 0, av.time_base)
    # The file's own time is rounded to microseconds, by which clips would begin before it.
    begin = min(_starts(container.streams), key=lambda start: abs(start - stated), default=stated)
    if abs(begin - stated) > Fraction(1, av.time_base):
        begin = stated
    # Sound before zero only prepares its decoder; pictures are shown.
    return max(begin, min([Fraction(0), *_starts(container.streams.video)]))


def _starts(streams: Iterable[av.stream.Stream]) -> list[Fraction]:
    return [s.start_time * s.time_base for s in streams if s.start_time is not None and s.time_base]


def _first(frames: Iterator[av.VideoFrame]) -> av.VideoFrame | None:
    try:
        return next(frames, None)
    except av.FFmpegError:  # packets that refer to others before the place of landing
        return None
