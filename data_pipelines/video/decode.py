"""Reads chosen frames of a clip in memory; FFmpeg crops and resizes them as they are decoded.

Packets that no wanted frame depends on are never decoded: whole groups of pictures are left out, and
within a group the frames that nothing refers to.
"""

import bisect
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from fractions import Fraction
from types import TracebackType
from typing import NamedTuple

import av
import numpy as np

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.filters import Deinterlacer, filter_graph
from ivjax.data_pipelines.video.footage import NO_TIMES, TOLERANCE, begin_of, exact, video_stream
from ivjax.data_pipelines.video.timeline import FrameRate, Shown, rate_of, steady

_MOST_PIXELS = 8192 * 8192  # of one frame; a damaged header may ask for more memory than there is


class VideoFacts(NamedTuple):
    """Facts about a media file. An image is a video of one frame at 0 frames per second.

    `begins` is the second of a player's clock at which the first frame comes; above 0 if sound comes first.
    """

    frames: int
    fps: float
    width: int
    height: int
    audio: bool
    begins: float = 0.0

    def between(self, start: float, end: float | None) -> tuple[int, int]:
        """Returns the first frame of a span in seconds, and the one after its last; raises ClipError."""
        if not 0 <= start < (math.inf if end is None else end) or end == math.inf:
            last = "its end" if end is None else f"{end} s"
            raise ClipError("wrong times", f"the part runs from {start:g} s to {last}")
        if self.fps <= 0:
            raise ClipError("no frame rate", "the medium does not say how many frames a second has")
        # Restores rates such as 30000/1001 exactly, which a float of 29.97 misses by a frame after minutes.
        fps = Fraction(self.fps).limit_denominator(1001)
        begins = exact(self.begins)  # sound may come before the pictures
        since = max(exact(start), begins)
        first = math.floor((since - begins + TOLERANCE) * fps)
        if first >= self.frames:
            seconds = float(begins + self.frames / fps)
            raise ClipError("past the end", f"the part starts at {start:g} s of {seconds:.3f} s")
        if end is None:
            return first, self.frames
        # By length and not by the end's own frame: spans of equal length then have equally many frames.
        count = max(math.floor((exact(end) - since + TOLERANCE) * fps), 1)
        return first, min(first + count, self.frames)


def probe(payload: bytes) -> VideoFacts:
    """Returns the facts about a media file without decoding it; raises ClipError."""
    with Video(payload) as video:
        return video.probe


def read_frames(
    payload: bytes,
    indices: Sequence[int] | np.ndarray,
    box: Box | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Returns frames by number in order of display: (n, H, W, 3) uint8 RGB; raises ClipError.

    Cuts out `box`, then resizes to `size` (height, width) with a bicubic filter.
    """
    with Video(payload) as video:
        return video.read(indices, box, size)


def _unopened(payload: bytes, error: Exception) -> ClipError:
    if payload[4:8] == b"ftyp" and b"moov" not in payload:
        return ClipError("truncated", "the mp4 ends before its index")
    return ClipError("unreadable", f"no media container: {getattr(error, 'strerror', None) or error}")


class Video:
    """An opened clip. Damaged bytes raise ClipError.

    Frames count at a constant rate: those of a source of varying rate are repeated or left out, as `steady`
    does. Interlaced frames come as whole pictures unless `deinterlace` is false.
    """

    def __init__(self, payload: bytes, deinterlace: bool = True):
        self._deinterlace = deinterlace
        if not payload:
            raise ClipError("empty", "there are no media bytes")
        try:
            self._container = av.open(io.BytesIO(payload), "r")
        except (av.FFmpegError, ValueError) as error:
            raise _unopened(payload, error) from None
        try:
            self._open(len(payload))
        except (av.FFmpegError, ValueError) as error:
            self._container.close()
            raise ClipError("unreadable", str(error)) from None
        except BaseException:
            self._container.close()
            raise

    def _open(self, size: int) -> None:
        self._stream = video_stream(self._container, "the file")
        self._context = self._stream.codec_context
        if self._context is None:
            raise ClipError("unknown codec", "no decoder for this video's codec")
        self._context.thread_count = 1  # the loader runs a process for each core already
        width, height = self._context.width, self._context.height
        if not 0 < width * height <= _MOST_PIXELS:
            raise ClipError("absurd size", f"frames of {width} x {height}")
        ends = [entry.pos + entry.size for entry in self._stream.index_entries]
        # An mp4 with its index in front opens well when its end is missing; the index tells.
        if ends and max(ends) > size:
            raise ClipError("truncated", f"{size} of at least {max(ends)} bytes are there")
        # All packets at once: a clip has a few hundred kilobytes, and its frames are counted this way.
        self._packets = [p for p in self._container.demux(self._stream) if p.size]
        if any(p.is_corrupt for p in self._packets):
            raise ClipError("truncated", "the last packet is cut short")
        # A cut without encoding keeps the frames before it that the decoder needs, marked as not to be shown.
        shown = [p for p in self._packets if not p.is_discard]
        if not shown:
            raise ClipError("no frames", "the video stream is empty")
        self._timed = all(p.pts is not None for p in shown)
        # Packets come in the order of decoding, and B-frames are shown in another one. Without times, places
        # in the order of decoding.
        durations = {p.pts if self._timed else n: p.duration or 0 for n, p in enumerate(shown)}
        self._times: list[int] = sorted(time for time in durations if time is not None)
        self._rate, self._places = self._timeline(durations[self._times[-1]])

    def _timeline(self, last: int) -> tuple[FrameRate, Sequence[int]]:
        """Returns the rate, and which frame each beat shows; `last` is how long the last one stands."""
        average, base = self._stream.average_rate or Fraction(0), self._stream.time_base
        if not self._timed or base is None:
            return FrameRate(average, True), range(len(self._times))
        rate = rate_of(np.array(self._times), base, average, self._stream.base_rate or Fraction(0))
        if rate.is_constant:
            return rate, range(len(self._times))
        ends = [*self._times[1:], self._times[-1] + (last or round(1 / (rate.fps * base)))]
        spans = enumerate(zip(self._times, ends, strict=True))
        shown = (Shown(number, begin * base, end * base) for number, (begin, end) in spans)
        return rate, list(steady(shown, rate.fps))

    @property
    def probe(self) -> VideoFacts:
        """The facts about the file."""
        # FFmpeg gives images a rate of 25; their formats are called png_pipe and the like.
        still = len(self._times) == 1 and self._container.format.name.endswith("_pipe")
        return VideoFacts(
            frames=len(self._places),
            fps=0.0 if still else float(self._rate.fps),
            width=self._context.width,
            height=self._context.height,
            audio=bool(self._container.streams.audio),
            begins=float(self._begins()),
        )

    def _begins(self) -> Fraction:
        base = self._stream.time_base
        if not self._timed or base is None or self._container.format.name in NO_TIMES:
            return Fraction(0)
        return max(self._times[0] * base - begin_of(self._container), Fraction(0))

    def read(
        self, indices: Sequence[int] | np.ndarray, box: Box | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Returns frames by number: (n, H, W, 3) uint8 RGB; see `read_frames`."""
        return to_rgb(self.decode(indices), box, size)

    def decode(self, indices: Sequence[int] | np.ndarray) -> list[av.VideoFrame]:
        """Returns frames by number in the decoder's pixel format."""
        wanted = [int(index) for index in indices]
        if not wanted or min(wanted) < 0 or max(wanted) >= len(self._places):
            raise ClipError("wrong frames", f"frames {wanted} of {len(self._places)}")
        places = [self._places[index] for index in wanted]
        try:
            decoded = self._decode(set(places))
            if self._deinterlace and any(frame.interlaced_frame for frame in decoded.values()):
                decoded = self._whole_pictures(set(places))
        except (av.FFmpegError, ValueError, MemoryError) as error:
            raise ClipError("undecodable", f"{type(error).__name__}: {error}") from None
        return [decoded[place] for place in places]

    def _whole_pictures(self, places: set[int]) -> dict[int, av.VideoFrame]:
        """Returns deinterlaced frames by place; the filter needs the neighbours of each."""
        last = len(self._times) - 1
        near = {place: range(max(place - 1, 0), min(place + 1, last) + 1) for place in places}
        decoded = self._decode({number for numbers in near.values() for number in numbers})
        return {
            place: Deinterlacer().one([decoded[number] for number in numbers], numbers.index(place))
            for place, numbers in near.items()
        }

    def all_frames(self) -> Iterator[av.VideoFrame]:
        """Yields every frame in order of display; raises ClipError if one is damaged, missing or too many."""
        repeats = Counter(self._places)
        frames = self._all_decoded()
        for place, frame in enumerate(Deinterlacer().all(frames) if self._deinterlace else frames):
            for _ in range(repeats[place]):
                yield frame

    def _all_decoded(self) -> Iterator[av.VideoFrame]:
        self._context.flush_buffers()
        self._context.skip_frame = "DEFAULT"
        count = 0
        try:
            for packet in (*self._packets, None):
                for frame in self._context.decode(packet):
                    expected = self._times[count : count + 1]
                    if frame.is_corrupt or not expected or (self._timed and frame.pts != expected[0]):
                        raise ClipError("undecodable", f"frame {count} is damaged or out of order")
                    count += 1
                    yield frame
        except (av.FFmpegError, ValueError, MemoryError) as error:
            raise ClipError("undecodable", f"{type(error).__name__}: {error}") from None
        if count < len(self._times):
            raise ClipError("undecodable", f"{count} of {len(self._times)} frames come out")

    def close(self) -> None:
        """Frees the decoder."""
        self._packets = []
        self._container.close()

    def _decode(self, places: set[int]) -> dict[int, av.VideoFrame]:
        """Returns frames by their place among those of the file."""
        self._context.flush_buffers()  # an earlier call may have left frames in the decoder
        wanted = {self._times[place]: place for place in places}
        found = self._decode_by_time(wanted.keys()) if self._timed else self._decode_in_order(wanted.keys())
        if missing := sorted(wanted[time] for time in wanted.keys() - found.keys()):
            raise ClipError("undecodable", f"frames {missing} of {len(self._times)} do not come out")
        size = (self._context.width, self._context.height)
        if any((frame.width, frame.height) != size for frame in found.values()):
            raise ClipError("undecodable", "the frames change their size")
        return {wanted[time]: frame for time, frame in found.items()}

    def _decode_in_order(self, wanted: Set[int]) -> dict[int, av.VideoFrame]:
        frames = (frame for packet in [*self._packets, None] for frame in self._context.decode(packet))
        return {number: frame for number, frame in enumerate(frames) if number in wanted}

    def _decode_by_time(self, wanted: Set[int]) -> dict[int, av.VideoFrame]:
        keys = [place for place, packet in enumerate(self._packets) if packet.is_keyframe] or [0]
        key_times = [self._packets[place].pts or 0 for place in keys]
        found: dict[int, av.VideoFrame] = {}
        cursor = 0
        for time in sorted(wanted):
            start = keys[max(bisect.bisect_right(key_times, time) - 1, 0)]
            # Only forwards: a keyframe further on saves the frames before it; going back is never needed, as
            # the wanted times are sorted.
            if start > cursor:
                self._context.flush_buffers()
                cursor = start
            while time not in found and cursor <= len(self._packets):
                for frame in self._feed(cursor, wanted):
                    if frame.pts is not None and frame.pts in wanted and not frame.is_corrupt:
                        found[frame.pts] = frame
                cursor += 1
        return found

    def _feed(self, place: int, wanted: Set[int]) -> Iterable[av.VideoFrame]:
        """Decodes the packet at `place`; after the last one, drains the decoder."""
        if place == len(self._packets):
            return self._context.decode(None)
        packet = self._packets[place]
        # Frames that no other frame refers to are half of a usual clip and need not be decoded.
        self._context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        return self._context.decode(packet)

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def to_rgb(
    frames: Sequence[av.VideoFrame], box: Box | None = None, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Returns the frames cropped, resized and in RGB: (n, H, W, 3) uint8."""
    return apply_graph(rgb_graph(frames[0], box, size), frames)


def apply_graph(graph: av.filter.Graph, frames: Sequence[av.VideoFrame]) -> np.ndarray:
    """Returns the output of a graph of `rgb_graph` for each frame: (n, H, W, 3) uint8."""
    pictures: dict[int, np.ndarray] = {}
    for frame in frames:
        # Rules repeat frames of short clips; each is converted once.
        if id(frame) not in pictures:
            graph.push(frame)
            pictures[id(frame)] = graph.pull().to_ndarray()
    return np.stack([pictures[id(frame)] for frame in frames])


def rgb_graph(
    frame: av.VideoFrame, box: Box | None = None, size: tuple[int, int] | None = None
) -> av.filter.Graph:
    """Returns the graph that crops, resizes and converts frames like `frame` in one pass."""
    steps = [("format", "rgb24")]
    if size is not None:
        # Before the conversion to RGB, which then has fewer pixels to convert.
        steps.insert(0, ("scale", f"{size[1]}:{size[0]}:flags=bicubic"))
    if box is not None:
        # exact=1: FFmpeg would move the corner to an even pixel for 4:2:0 pictures.
        steps.insert(0, ("crop", f"{box.width}:{box.height}:{box.x}:{box.y}:exact=1"))
    return filter_graph(frame, steps)
