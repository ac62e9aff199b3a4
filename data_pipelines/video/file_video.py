"""Reads chosen frames of a large file from the disk: neither its bytes nor its packets are in memory."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from types import TracebackType

import av
import numpy as np

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import Video, VideoFacts, to_rgb
from ivjax.data_pipelines.video.footage import begin_of, fetch, open_media, video_stream
from ivjax.data_pipelines.video.timeline import UNKNOWN_FPS

_LARGE = 256 * 2**20  # bytes; smaller files are read whole, which allows for the exact times of all frames
_SKIPPED = 2  # seconds up to the next wanted frame that are decoded and not sought: a seek costs a keyframe


class FileVideo:
    """A file with frames at a constant rate, read from the disk: a ClipVideo. Damage raises ClipError.

    Frame k is the one that is shown at k / fps from the first one on. Reading forwards is fast: the file is
    sought where many frames lie between two wanted ones.
    """

    def __init__(self, path: str):
        self._path = path
        self._container = open_media(path)
        try:
            self._stream = video_stream(self._container, path)
            self._context = self._stream.codec_context
            self._context.thread_count = 1
            self._base = self._stream.time_base or Fraction(1, av.time_base)
            self._fps = Fraction(self._stream.average_rate or UNKNOWN_FPS)
            self._start = self._stream.start_time or 0
            duration = self._stream.duration
            # Not counted: that would read the whole file.
            self._frames = self._stream.frames or (
                round(duration * self._base * self._fps) if duration else 0
            )
            if self._frames < 1:
                raise ClipError("no frames", f"{path} does not say how long it is")
        except BaseException:
            self._container.close()
            raise
        self._coming: Iterator[av.VideoFrame] = iter(())
        self._last: av.VideoFrame | None = None
        self._ahead: av.VideoFrame | None = None  # the first frame behind `_last`, if it was decoded already

    @property
    def probe(self) -> VideoFacts:
        """The facts about the file."""
        size = self._context.width, self._context.height
        begins = max(self._start * self._base - begin_of(self._container), Fraction(0))
        audio = bool(self._container.streams.audio)
        return VideoFacts(self._frames, float(self._fps), *size, audio, float(begins))

    def read(
        self, indices: Sequence[int] | np.ndarray, box: Box | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Returns frames by number: (n, H, W, 3) uint8; see `decode.read_frames`."""
        return to_rgb(self.decode(indices), box, size)

    def decode(self, indices: Sequence[int] | np.ndarray) -> list[av.VideoFrame]:
        """Returns frames by number in the decoder's pixel format."""
        wanted = [int(index) for index in indices]
        if not wanted or min(wanted) < 0 or max(wanted) >= self._frames:
            raise ClipError("wrong frames", f"frames {wanted} of {self._frames}")
        try:
            found = {number: self._frame(number) for number in sorted(set(wanted))}
            return [found[number] for number in wanted]
        except (av.FFmpegError, ValueError, MemoryError) as error:
            raise ClipError("undecodable", f"{self._path}: {type(error).__name__}: {error}") from None

    def _frame(self, number: int) -> av.VideoFrame:
        # Half a frame more: times in the file are rounded.
        until = self._start + (number + Fraction(1, 2)) / self._fps / self._base
        reached = None if self._last is None else self._last.pts
        if reached is None or reached > until or (until - reached) * self._base > _SKIPPED:
            self._seek(number)
        shown = self._last
        while (following := self._ahead or next(self._coming, None)) is not None:
            # What comes too late is kept for the next call.
            # None of them is without a time (`_seek`).
            self._ahead = following if (following.pts or 0) > until else None
            if self._ahead is not None:
                break
            shown = following
        if shown is None:
            raise ClipError("undecodable", f"{self._path}: frame {number} does not come out")
        self._last = shown
        return shown

    def _seek(self, number: int) -> None:
        target = self._start + int(number / self._fps / self._base)
        self._container.seek(target, stream=self._stream, backward=True)
        self._last = self._ahead = None
        self._coming = (f for f in self._container.decode(self._stream) if f.pts is not None)

    def close(self) -> None:
        """Closes the file."""
        self._coming = iter(())
        self._container.close()

    def __enter__(self) -> "FileVideo":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_video(path: str, size: int, large: int = _LARGE) -> "Video | FileVideo":
    """Opens a file of `size` bytes: whole in memory, or on the disk if it is large."""
    return Video(fetch(path)) if size <= large else FileVideo(path)
