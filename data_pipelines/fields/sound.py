"""The field of sounds: the filter bank that an audio tower reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ivjax.data_pipelines.fields.field import ArraySpec, ReadableClip, RowDraw, SingleArray
from ivjax.data_pipelines.store.records import Clip, ClipError
from ivjax.errors import UserError

_RATE, _SHIFT, _FRAME = 16_000, 160, 400  # those of the filter bank


@dataclass(frozen=True)
class Sound(SingleArray):
    """The sound of a clip as a filter bank: (frames, bins) float32, filled up with zeros.

    Attributes:
        seconds: what is read of a longer sound.
        crop: a `random` part of a longer sound, or its `first`.
        missing: a clip without sound has `zeros`, as in the originals, or is `broken` and replaced.
    """

    seconds: float = 10.0
    crop: Literal["random", "first"] = "random"
    missing: Literal["zeros", "broken"] = "zeros"

    def check(self, path: str, wanted: Mapping[str, ArraySpec]) -> None:
        """Raises UserError if the stage wants fewer frames than so many seconds have."""
        frames = 1 + (round(self.seconds * _RATE) - _FRAME) // _SHIFT
        for name, spec in wanted.items():
            if len(spec.shape) != 2 or spec.shape[0] != frames:
                raise UserError(
                    f"{path}.seconds={self.seconds:g} gives {frames} frames and the stage wants {name} as "
                    f"{spec.shape}; make seconds, or stage.audio.frames, fit"
                )

    def check_record(self, record: Clip) -> None:
        """Raises ClipError for a clip without sound."""
        if not record.audio:
            raise ClipError("no sound", f"clip {record.id} has none")

    @property
    def instead(self) -> str:
        """What becomes of clips without sound where others have some; "" if they are replaced."""
        return "zeros stand in for it; missing=broken replaces such clips" if self.missing == "zeros" else ""

    def remarks(self, arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        """Returns the word that logs count if a row is without sound. Silence is no zero in a filter bank."""
        return () if any(array.any() for array in arrays.values()) else ("no_sound",)

    def array(self, clip: ReadableClip, spec: ArraySpec, draw: RowDraw) -> np.ndarray:
        """Returns the filter bank (frames, bins) float32; ClipError where sound must not be missing."""
        # Not at the top: configs name the field without the packages that decode.
        from ivjax.data_pipelines.video.filter_bank import filled_up

        frames, bins = spec.shape
        # Of the whole sound, which a cache can keep whatever part is drawn.
        bank = clip.kept(bins, lambda: self._whole(clip.record, bins))
        first = 0
        if self.crop == "random" and len(bank) > frames:
            first = int(draw("sound").integers(len(bank) - frames + 1))
        return filled_up(bank[first:], frames)

    def _whole(self, record: Clip, bins: int) -> np.ndarray:
        from ivjax.data_pipelines.video.filter_bank import filter_bank
        from ivjax.data_pipelines.video.sound import read_sound

        sound = read_sound(record.payload, _RATE) if record.audio else None
        if sound is not None:
            return filter_bank(sound.samples.astype(np.float32) / np.float32(2**15), bins)
        if self.missing == "broken":
            raise ClipError("no sound", f"clip {record.id} has none")
        return np.zeros((0, bins), np.float32)

    def for_tests(self) -> "Sound":
        """Returns the field that reads clips in tests: it draws nothing."""
        return Sound(self.seconds, "first", self.missing)
