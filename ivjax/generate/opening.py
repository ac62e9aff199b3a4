"""Opens the videos and images that a conversation is about."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.data_pipelines.augment.geometry import Box
from ivjax.data_pipelines.store.dialogues import MediaPart
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.clip_video import ClipVideo
from ivjax.data_pipelines.video.decode import Video, VideoFacts
from ivjax.data_pipelines.video.file_video import open_video
from ivjax.data_pipelines.video.footage import exact, fetch
from ivjax.data_pipelines.video.frame_array import FrameArray
from ivjax.data_pipelines.video.frame_folder import FrameFolder
from ivjax.data_pipelines.video.upright import UprightVideo
from ivjax.errors import UserError


@dataclass(frozen=True, eq=False)
class VideoInput:
    """A video or an image that is asked about.

    Attributes:
        media: a file, `archive.tar::member`, the bytes of one, a folder of images, frames (T, H, W, 3) uint8,
            or an opened video.
        start: where the part begins, in seconds (None: where the medium does).
        end: where it ends, in seconds (None: where the medium does).
        numbers: the frames that are read, by number, instead of those that a rule chooses; whole clips.
        frame_rate: how many images of a folder, or frames of an array, are shown a second.
    """

    media: str | Path | bytes | np.ndarray | ClipVideo = field(repr=False)
    start: float | None = None
    end: float | None = None
    numbers: Sequence[int] | np.ndarray | None = None
    frame_rate: float | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.media) if isinstance(self.media, str | Path) else "the video"

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Puts the name into a ClipError that does not have it."""
        try:
            yield
        except ClipError as error:
            if self.name in error.detail:
                raise
            raise ClipError(error.cause, f"{self.name}: {error.detail}") from None


class OpenedVideo:
    """A ClipVideo that knows which part of it is asked about, and how long reading has taken.

    Attributes:
        part: the part.
        seconds: of decoding and scaling so far.
    """

    def __init__(self, video: ClipVideo, asked: VideoInput):
        self._video, self._asked = video, asked
        found, first, stop = video.probe, 0, video.probe.frames
        still = found.frames == 1 and not found.fps
        # A still image beside videos has no part.
        if not still and (asked.start is not None or asked.end is not None):
            with asked.naming():
                first, stop = found.between(asked.start or 0.0, asked.end)
        kind: Any = "image" if still else "video"
        self.part = MediaPart(0, kind, first, stop, found.fps, found.width, found.height)
        self.seconds = 0.0

    @property
    def probe(self) -> VideoFacts:
        """See ClipVideo."""
        return self._video.probe

    def read(
        self, indices: Sequence[int] | np.ndarray, box: Box | None = None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """See ClipVideo."""
        began = time.perf_counter()
        with self._asked.naming():
            pictures = self._video.read(indices, box, size)
        self.seconds += time.perf_counter() - began
        return pictures


@contextlib.contextmanager
def opened(asked: VideoInput) -> Iterator[OpenedVideo]:
    """Opens a medium while it is read; raises ClipError, or UserError for a file that is not there."""
    media = asked.media
    if not isinstance(media, str | Path | bytes | np.ndarray):
        yield OpenedVideo(media, asked)
        return
    with asked.naming():
        found = _decoder(media, asked.frame_rate)
    with found as decoder:
        yield OpenedVideo(UprightVideo(decoder), asked)


def _decoder(media: str | Path | bytes | np.ndarray, frame_rate: float | None) -> Any:
    if isinstance(media, bytes):
        return Video(media)
    if isinstance(media, np.ndarray):
        return FrameArray(media, frame_rate or 0.0)
    path = Path(media).expanduser()
    if path.is_dir():
        if not frame_rate:
            raise UserError(
                f"{media} is a folder; name a video, or say with --frame-rate how many of its images are "
                "shown a second"
            )
        return FrameFolder(str(path), exact(frame_rate))
    if path.is_file():
        return open_video(str(path), path.stat().st_size)
    if not Path(str(path).partition("::")[0]).is_file():
        raise UserError(f"{media} does not exist; name a video or an image")
    return Video(fetch(str(path)))
