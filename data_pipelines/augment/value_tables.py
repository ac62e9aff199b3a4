"""Changes of pixel values through tables of 256 entries. Clips are (T, H, W, 3) uint8."""

from collections.abc import Callable

import numpy as np

_VALUES = np.arange(256)


def look_up(video: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replaces each value by table[value]; the same shape."""
    # bytes.translate is five times faster than indexing an array.
    return np.frombuffer(bytearray(video).translate(to_bytes(table).tobytes()), np.uint8).reshape(video.shape)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Clips values to 0 ... 255 and cuts off fractions."""
    # Fractions are cut off and not rounded, as Pillow's lookup tables do.
    return np.clip(values, 0, 255).astype(np.uint8)


def auto_contrast(video: np.ndarray) -> np.ndarray:
    """Stretches each channel of each frame to 0 ... 255."""
    return _plane_wise(video, _stretching)


def equalize(video: np.ndarray) -> np.ndarray:
    """Spreads the values of each channel of each frame evenly."""
    return _plane_wise(video, _equalizing)


def invert(video: np.ndarray) -> np.ndarray:
    """Returns the negative."""
    return 255 - video


def posterize(video: np.ndarray, bits: int) -> np.ndarray:
    """Keeps the upper `bits` of each value."""
    return video & np.uint8(256 - 2 ** (8 - bits))


def solarize(video: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts values from `threshold` on."""
    return look_up(video, np.where(threshold > _VALUES, _VALUES, 255 - _VALUES))


def solarize_add(video: np.ndarray, amount: int) -> np.ndarray:
    """Adds to the darker half of the values."""
    return look_up(video, np.where(_VALUES < 128, _VALUES + amount, _VALUES))


def brighten(video: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies values: factor 0 is black, 1 the clip itself."""
    return look_up(video, _VALUES * factor)


def _plane_wise(video: np.ndarray, table_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Replaces values by a table made from each plane's histogram (256,)."""
    out = np.empty_like(video)
    for frame, changed in zip(video, out, strict=True):
        for channel, plane in enumerate(np.ascontiguousarray(frame.transpose(2, 0, 1))):
            histogram = np.bincount(plane.reshape(-1), minlength=256)
            changed[..., channel] = look_up(plane, table_of(histogram))
    return out


def _stretching(histogram: np.ndarray) -> np.ndarray:
    """Returns the table that brings the least value to 0 and the greatest to 255."""
    used = np.flatnonzero(histogram)
    least, most = int(used[0]), int(used[-1])
    if most == least:
        return _VALUES
    scale = 255 / (most - least)
    return _VALUES * scale - least * scale


def _equalizing(histogram: np.ndarray) -> np.ndarray:
    """Returns the table that evens out a histogram."""
    used = histogram[histogram > 0]
    # Pillow's arithmetic: the brightest used value does not count.
    step = (used.sum() - used[-1]) // 255
    if step == 0:
        return _VALUES
    before = np.cumsum(histogram) - histogram
    return (step // 2 + before) // step
