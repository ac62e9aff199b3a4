"""Reads a folder of image files, one a frame, as a video of a constant rate."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av

from ivjax.data_pipelines.sources.media import IMAGE_SUFFIXES
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import VideoFacts
from ivjax.data_pipelines.video.footage import MISSING_SECONDS, TOLERANCE
from ivjax.data_pipelines.video.timeline import FrameRate, Shown


class FrameFolder:
    """The images of a folder, in the order of the numbers in their names; frame k is shown from k / fps on.

    It is read like `Footage`, and by frame numbers like a `Video`. Damaged files raise ClipError.
    """

    pixel_shape = Fraction(1)
    was_interlaced = False

    def __init__(self, path: str, fps: Fraction):
        self.fps = fps
        self._path = path
        try:
            names = (file.name for file in Path(path).iterdir())
            # The originals take the order of the disk, which differs between machines and shuffles frames.
            self._names = sorted(filter(_is_image, names), key=_in_order)
        except OSError as error:
            raise ClipError("missing", f"{path} cannot be read: {error.strerror}") from None
        if not self._names:
            raise ClipError("no frames", f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)})")

    def rate(self, start: Fraction | None, end: Fraction | None) -> FrameRate:
        """Returns the rate of the images, the same anywhere."""
        return FrameRate(self.fps, True)

    @property
    def seconds(self) -> Fraction:
        """Length of the video in seconds."""
        return len(self._names) / self.fps

    def frames(self, start: Fraction | None, end: Fraction | None) -> Iterator[Shown]:
        """Yields the frames that begin in [start, end); None is the first or the last image."""
        if end is not None and self.seconds < end - MISSING_SECONDS:
            raise ClipError(
                "truncated",
                f"{self._path} holds {len(self._names)} images, {float(end * self.fps):g} should be there",
            )
        for number, name in enumerate(self._names):
            begins, ends = number / self.fps, (number + 1) / self.fps
            if end is not None and begins + TOLERANCE >= end:
                return
            if start is None or begins + TOLERANCE >= start:
                yield Shown(self._picture(name), begins, ends if end is None else min(ends, end))

    @property
    def probe(self) -> VideoFacts:
        """The facts about the folder, the size of its first image among them."""
        first = self._picture(self._names[0])
        return VideoFacts(len(self._names), float(self.fps), first.width, first.height, audio=False)

    def decode(self, indices: Sequence[int]) -> list[av.VideoFrame]:
        """Returns images by number; one that is asked for again is decoded once."""
        decoded = {index: self._picture(self._names[index]) for index in set(indices)}
        return [decoded[index] for index in indices]

    def _picture(self, name: str) -> av.VideoFrame:
        path = f"{self._path}/{name}"
        try:
            with av.open(path, "r") as container:
                return next(container.decode(video=0))
        except (av.FFmpegError, ValueError, MemoryError, StopIteration, IndexError) as error:
            raise ClipError("undecodable", f"{path}: {type(error).__name__}: {error}") from None

    def __enter__(self) -> "FrameFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does nothing: each image is opened for itself."""


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _in_order(name: str) -> list[tuple[int, str]]:
    """Returns a key that sorts frame2 before frame10, also without leading zeros."""
    pieces = re.split(r"(\d+)", name)
    return [(int(piece) if place % 2 else 0, piece) for place, piece in enumerate(pieces)]
