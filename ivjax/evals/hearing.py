"""Sound as models hear it: the filter bank of a part of a medium."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import VideoFacts
from ivjax.data_pipelines.video.filter_bank import FRAME_RATE, RATE, filter_bank, sample_count
from ivjax.data_pipelines.video.footage import exact, open_media
from ivjax.data_pipelines.video.sound import read_sound

_MARGIN = Fraction(1, 10)  # seconds behind what is heard, which the resampler looks at too


@dataclass(frozen=True)
class Hearing:
    """What a model hears of a clip: its beginning, as in the originals' tests.

    Attributes:
        frames: frames of the filter bank; a longer sound is cut off, a shorter one is filled up with zeros.
        bins: frequencies of a frame.
        alone: whether it sees no pictures. Then a clip without sound is of no use; else it is heard as zeros.
    """

    frames: int
    bins: int
    alone: bool

    @property
    def told(self) -> str:
        """What is heard of a sound, in words."""
        return f"its first {self.frames / FRAME_RATE:g} s, in {self.bins} bins"

    def bank(
        self, media: Any, start: float | None, end: float | None, parts: int = 1, part: int = 0
    ) -> np.ndarray:
        """Returns the filter bank (frames, bins) float32 of one of equal parts of [start, end); ClipError.

        media: a file, a member of a tar, or bytes; frames in a folder or an array have no sound.
        """
        samples = self._samples(media, start, end, parts, part)
        if samples is not None:
            return filter_bank(samples.astype(np.float32) / np.float32(2**15), self.bins, self.frames)
        if self.alone:
            raise ClipError("no sound", "the clip has none, or none in this part")
        return np.zeros((self.frames, self.bins), np.float32)

    def _samples(
        self, media: Any, start: float | None, end: float | None, parts: int, part: int
    ) -> np.ndarray | None:
        if not isinstance(media, bytes | str):
            return None
        room = sample_count(self.frames)
        begins, ends = exact(start or 0.0), None if end is None else exact(end)
        if parts == 1:  # of an hour's sound only the beginning is read
            heard = begins + Fraction(room, RATE) + _MARGIN
            ends = heard if ends is None else min(ends, heard)
        sound = read_sound(media, RATE, begins, ends)
        if sound is None:
            return None
        length = len(sound.samples)
        first, last = (length * edge // parts for edge in (part, part + 1))
        found: np.ndarray = sound.samples[first : min(last, first + room)]
        return found


def sound_facts(media: str | bytes) -> VideoFacts:
    """Returns the facts about a medium without pictures; its frames are those of a filter bank. ClipError."""
    with open_media(media) as container:
        seconds = Fraction(container.duration or 0, av.time_base)
        if not container.streams.audio or not seconds:
            raise ClipError("no sound", "it has no pictures, and no sound whose length is known")
    return VideoFacts(max(round(seconds * FRAME_RATE), 1), FRAME_RATE, 0, 0, audio=True)


def hearing_of(encoder: Any) -> Hearing | None:
    """Returns what an encoder hears; one that only sees need not say so."""
    found: Hearing | None = getattr(encoder, "hearing", None)
    return found


def unread_rows(count: int, frames: int, image: tuple[int, int], hearing: Hearing | None) -> Any:
    """Returns rows of zeros in place of what is read of `count` views."""
    pictures = np.zeros((count, frames, *image, 3), np.uint8)
    if hearing is None:
        return pictures
    sound = np.zeros((count, hearing.frames, hearing.bins), np.float32)
    return sound if hearing.alone else (pictures, sound)


def stacked(rows: Sequence[Any]) -> Any:
    """Returns what was read of several views as one batch: an array, or pictures and sound."""
    if isinstance(rows[0], tuple):
        return tuple(np.stack(column) for column in zip(*rows, strict=True))
    return np.stack(rows)


def is_silent(row: Any) -> bool:
    """Whether a clip that is seen and heard has no sound: silence is not zero in a filter bank."""
    return isinstance(row, tuple) and not row[1].any()
