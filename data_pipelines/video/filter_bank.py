"""The filter bank that an audio tower reads: log energies of sounds by frequency, as Kaldi computes them."""

import functools
from typing import Any

import numpy as np
import scipy.fft

RATE = 16_000  # samples per second
_FRAME, _SHIFT, _LENGTH = 400, 160, 512  # samples: 25 ms, every 10 ms, of a transform
FRAME_RATE = RATE // _SHIFT  # frames per second
_EMPHASIS = 0.97
_LOWEST = 20.0  # Hz
_AT_ONCE = 64  # frames, so that arrays in between stay in the processor's cache
_SCALE = 2.0**15  # samples are as large as 16-bit integers
# What BEATs was normalised with; the deviation counts twice.
_MEAN, _DEVIATION = 15.41663, 6.55582


def frame_count(samples: int) -> int:
    """Returns the frames of a sound of so many samples: those that lie in it whole."""
    return 1 + (samples - _FRAME) // _SHIFT if samples >= _FRAME else 0


def sample_count(frames: int) -> int:
    """Returns the samples of the shortest sound of so many frames."""
    return _FRAME + (frames - 1) * _SHIFT


def log_energies(samples: np.ndarray, bins: int) -> np.ndarray:
    """Samples (..., n) in [-1, 1] at 16 kHz -> natural logarithms of energies (..., frames, bins) float32."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME, axis=-1)[..., ::_SHIFT, :]
    energies = np.empty((*frames.shape[:-1], bins), np.float32)
    for first in range(0, frames.shape[-2], _AT_ONCE):
        some = np.s_[..., first : first + _AT_ONCE, :]
        energies[some] = _energies(frames[some] * np.float32(_SCALE), bins)
    return np.log(np.maximum(energies, np.finfo(np.float32).eps))


def _energies(frames: np.ndarray, bins: int) -> np.ndarray:
    """Frames (..., n, 400) float32, which are overwritten -> energies (..., n, bins)."""
    frames -= frames.mean(-1, keepdims=True, dtype=np.float64).astype(np.float32)
    # The first sample has none before it, and is compared with itself.
    before = np.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
    frames -= np.float32(_EMPHASIS) * before
    frames *= window()
    # SciPy's takes a quarter of the time of NumPy's.
    spectrum = scipy.fft.rfft(frames, _LENGTH)[..., :-1]
    return (spectrum.real**2 + spectrum.imag**2) @ mel_weights(bins).T


def filter_bank(samples: np.ndarray, bins: int, frames: int | None = None) -> np.ndarray:
    """Samples (..., n) -> normalised log energies (..., frames, bins) float32, filled up with zeros.

    Padding is zero after normalisation, as in the originals, and so not what silence would give.
    """
    count = frame_count(samples.shape[-1])
    if count:
        found = (log_energies(samples, bins) - np.float32(_MEAN)) / np.float32(2 * _DEVIATION)
    else:
        found = np.zeros((*samples.shape[:-1], 0, bins), np.float32)
    return found if frames is None else filled_up(found, frames)


def filled_up(bank: np.ndarray, frames: int) -> np.ndarray:
    """Returns the first `frames` of a filter bank (..., n, bins), with zeros behind a shorter one."""
    whole = np.zeros((*bank.shape[:-2], frames, bank.shape[-1]), np.float32)
    whole[..., : min(bank.shape[-2], frames), :] = bank[..., :frames, :]
    return whole


@functools.cache
def window() -> np.ndarray:
    """Returns Povey's window: a Hann window, a little wider."""
    hann: Any = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FRAME) / (_FRAME - 1))
    return (hann**0.85).astype(np.float32)


@functools.cache
def mel_weights(bins: int) -> np.ndarray:
    """Returns the triangles (bins, 256) from 20 Hz to half the rate; the highest frequency has no weight."""
    least, most = _mel(_LOWEST), _mel(RATE / 2)
    step = (most - least) / (bins + 1)
    left = least + step * np.arange(bins)[:, None]
    place = _mel(RATE / _LENGTH * np.arange(_LENGTH // 2))[None]
    up, down = (place - left) / step, (left + 2 * step - place) / step
    return np.maximum(0.0, np.minimum(up, down)).astype(np.float32)


def _mel(hertz: Any) -> Any:
    return 1127.0 * np.log(1.0 + np.asarray(hertz, np.float64) / 700.0)
