"""Tones of the demo corpus: now and then one of three, whatever happens."""

import numpy as np

RATE = 16_000  # samples per second
_HERTZ = {"high": 1200.0, "low": 200.0, "beeping": 600.0}
_BEEPS = 2  # per second
LOUDNESS = 9000
FADE = 0.02  # seconds, so that a tone does not click when it begins and ends


def tone(sound: str, seconds: float, pitch: float = 1.0) -> np.ndarray:
    """Returns the sound of a clip: (seconds * RATE,) int16, silence for "none". `pitch` scales it."""
    times = np.arange(round(seconds * RATE)) / RATE
    if sound not in _HERTZ:
        return np.zeros(len(times), np.int16)
    level = np.minimum(np.minimum(times, seconds - times) / FADE, 1.0)
    if sound == "beeping":
        level = level * ((times * _BEEPS) % 1 < 0.5)
    return np.rint(LOUDNESS * level * np.sin(2 * np.pi * _HERTZ[sound] * pitch * times)).astype(np.int16)
