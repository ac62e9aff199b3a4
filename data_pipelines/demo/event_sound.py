"""Sounds of events: each motion of the demo corpus has a voice of its own, heard while the event lasts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ivjax.data_pipelines.demo.scene import Event, Scene
from ivjax.data_pipelines.demo.sound import FADE, LOUDNESS, RATE

_PACE = {"slow": 0.6, "medium": 1.0, "fast": 1.7}  # of the figures of a voice
_PITCH = {"small": 1.25, "medium": 1.0, "big": 0.8, "changing": 1.0}


@dataclass(frozen=True)
class Voice:
    """A figure that is repeated: its pitch, its colour, its loudness.

    Attributes:
        hertz: pitch at the start of a figure; of noise, the middle of its band.
        rate: figures per second, at medium speed.
        wave: colour of the sound.
        octaves: how far the pitch goes up in a figure, or down.
        swing: octaves that it goes up and down around `hertz` in a figure.
        level: loudness over a figure: `steady`, `pulse` (half of it), `swell`, or `fade`.
    """

    hertz: float
    rate: float
    wave: Literal["sine", "square", "saw", "noise"] = "sine"
    octaves: float = 0.0
    swing: float = 0.0
    level: Literal["steady", "pulse", "swell", "fade"] = "steady"


# Far from each other in pitch, colour or pulse: a voice is told from the others in a second.
VOICES: Mapping[str, Voice] = {
    "enters from the left": Voice(160, 1.0, "noise"),
    "enters from the right": Voice(5500, 1.0, "noise"),
    "falls": Voice(1300, 1.0, octaves=-1.5),
    "rises": Voice(900, 1.0, octaves=1.5),
    "grows": Voice(110, 0.7, "saw", level="swell"),
    "shrinks": Voice(3000, 0.7, level="fade"),
    "spins": Voice(420, 9.0, "square", swing=0.3),
    "bounces": Voice(90, 2.0, level="fade"),
    "blinks": Voice(1700, 2.0, "square", level="pulse"),
    "loops": Voice(750, 0.5, "saw", swing=0.6),
}


def event_sound(scene: Scene, pitch: float = 1.0) -> np.ndarray:
    """Returns the sound of a scene: (seconds * RATE,) int16, silence where no event lasts.

    `pitch` scales all voices.
    """
    samples = np.zeros(round(scene.frames / scene.fps * RATE))
    for event in scene.events:
        first, last = (round(second * RATE) for second in (event.begins, event.ends))
        found = _sung(event, (min(last, len(samples)) - first), pitch)
        samples[first : first + len(found)] += found
    # Two events at once are as loud as both, which still fits.
    return np.rint(samples).astype(np.int16)


def _sung(event: Event, count: int, pitch: float) -> np.ndarray:
    """Returns `count` samples of the voice of an event."""
    voice = VOICES[event.motion]
    times = np.arange(count) / RATE
    figure = times * voice.rate * _PACE[event.speed] % 1
    hertz = voice.hertz * pitch * _PITCH[event.size]
    glide = hertz * 2.0 ** (voice.octaves * figure + voice.swing * np.sin(2 * np.pi * figure))
    # Fades, so that nothing clicks where the event begins and ends.
    level = np.minimum(np.minimum(times, times[::-1]) / FADE, 1.0) * _level(voice, figure)
    return LOUDNESS * level * _wave(voice, glide, hertz)


def _level(voice: Voice, figure: np.ndarray) -> np.ndarray:
    match voice.level:
        case "pulse":
            return (figure < 0.5).astype(float)
        case "swell":
            return figure**2
        case "fade":
            return np.exp(-5 * figure)
        case _:
            return np.ones_like(figure)


def _wave(voice: Voice, glide: np.ndarray, hertz: float) -> np.ndarray:
    """Returns samples between -1 and 1; `glide` is the pitch of each."""
    if voice.wave == "noise":
        return _noise(len(glide), hertz)
    turns = np.cumsum(glide) / RATE
    match voice.wave:
        case "square":
            return 0.6 * np.sign(np.sin(2 * np.pi * turns))
        case "saw":
            return 0.8 * (2 * (turns % 1) - 1)
        case _:
            return np.sin(2 * np.pi * turns)


def _noise(count: int, middle: float) -> np.ndarray:
    """Returns noise of half an octave to either side of `middle`, always the same."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / RATE)
    spectrum[(hertz < middle / 2**0.5) | (hertz > middle * 2**0.5)] = 0
    found = np.fft.irfft(spectrum, count)
    return found / max(float(np.abs(found).max()), 1e-9)
