"""Reads the sound of a span of a source video or of a stored clip."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.encode import Audio
from ivjax.data_pipelines.video.footage import begin_of, name_of, open_media

_LEAD = Fraction(1, 10)  # seconds that a decoder needs to settle after a seek


def read_sound(
    media: str | bytes, rate: int, begins: Fraction = Fraction(0), end: Fraction | None = None
) -> Audio | None:
    """Returns the sound of [begins, end) in mono at `rate` per second; None if the media have no sound.

    `media` is a path, or bytes as a record holds them; `end` None is where they end. Samples that are
    missing or do not decode are silence, so that the others keep their places in time.
    """
    with open_media(media) as container:
        if not container.streams.audio or container.streams.audio[0].codec_context is None:
            return None
        stream = container.streams.audio[0]
        seconds = _end(media, container, end) - begins
        own_rate = stream.codec_context.sample_rate
        sound = np.zeros(max(round(seconds * own_rate), 0), np.float32)
        for piece, place in _pieces(container, stream, begins):
            if place >= len(sound):
                break
            _lay(sound, piece, place)
    # Once for all pieces, of which a second of sound has dozens.
    whole = np.clip(np.rint(sound), -(2**15), 2**15 - 1).astype(np.int16)
    return Audio(_resampled(whole, own_rate, rate), rate) if len(whole) else None


def _end(media: str | bytes, container: av.container.InputContainer, wanted: Fraction | None) -> Fraction:
    if container.duration is not None:
        length = Fraction(container.duration, av.time_base)
        return length if wanted is None else min(wanted, length)
    if wanted is None:
        raise ClipError("no length", f"{name_of(media)} does not say how long its sound lasts")
    return wanted


def _pieces(
    container: av.container.InputContainer, stream: av.AudioStream, begins: Fraction
) -> Iterator[tuple[np.ndarray, int]]:
    """Yields samples, from a little before `begins`, and how many samples after it they come."""
    origin, base = begin_of(container), stream.time_base or Fraction(1, av.time_base)
    with contextlib.suppress(av.FFmpegError):  # a format without seeking is read from its start
        container.seek(int(max(begins + origin - _LEAD, Fraction(0)) / base), stream=stream)
    # Mono at the file's own rate, in whose samples places are exact; resampled once, at the end.
    mono, rate = av.AudioResampler("s16", "mono"), stream.codec_context.sample_rate
    # Floats, which hold places of any sound exactly enough; a fraction would take longer than the decoding.
    shift = float((begins + origin) * rate)
    for packet in container.demux(stream):
        frames: list[av.AudioFrame] = []
        with contextlib.suppress(av.FFmpegError):
            frames = packet.decode()
        for frame in frames:
            if frame.pts is not None:
                ticks = frame.time_base or base
                place = frame.pts * rate * ticks.numerator / ticks.denominator - shift
                yield _mono(frame, mono), round(place)


def _mono(frame: av.AudioFrame, resampler: av.AudioResampler) -> np.ndarray:
    """Returns the samples of a frame, the mean of its channels: (n,) in the units of 16-bit integers."""
    if frame.layout.name == "mono" and frame.format.name == "fltp":
        # What the resampler would do, in a fraction of its time: stored clips have such frames alone.
        return frame.to_ndarray()[0] * np.float32(2**15)
    return np.concatenate([part.to_ndarray()[0] for part in resampler.resample(frame)])


def _lay(sound: np.ndarray, piece: np.ndarray, place: int) -> None:
    """Copies `piece` to `place` of `sound`, cut off where it lies outside."""
    first, last = max(place, 0), min(place + len(piece), len(sound))
    if first < last:
        sound[first:last] = piece[first - place : last - place]


def _resampled(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    if rate == wanted:
        return sound
    frame = av.AudioFrame.from_ndarray(sound[None], "s16", "mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler("s16", "mono", wanted)
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    found = np.zeros(round(Fraction(len(sound) * wanted, rate)), np.int16)
    _lay(found, np.concatenate(parts), 0)
    return found
