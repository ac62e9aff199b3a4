"""Contrast, saturation, sharpness and hue of a clip (T, H, W, 3) uint8, by image libraries' arithmetic."""

import numpy as np

from ivjax.data_pipelines.augment.value_tables import look_up

_VALUES = np.arange(256, dtype=np.float32)
# ITU-R 601 (0.299, 0.587, 0.114), in the fixed point of Pillow, so that greys agree to the byte.
_LUMA = np.array((19595, 38470, 7471), np.float32)  # of red, green and blue, in 65536ths


def contrast(video: np.ndarray, factor: float) -> np.ndarray:
    """Blends with each frame's mean grey: factor 0 is the grey, 1 the clip itself."""
    # Image libraries round the mean to a whole grey first.
    means = np.floor(luma(video).mean((1, 2)) + 0.5).astype(np.float32)
    tables = [mean + np.float32(factor) * (_VALUES - mean) for mean in means]
    return np.stack([look_up(frame, table) for frame, table in zip(video, tables, strict=True)])


def saturate(video: np.ndarray, factor: float) -> np.ndarray:
    """Blends with a grey copy: factor 0 is the copy, 1 the clip itself."""
    return np.stack([_blend(_grey(frame), frame, factor) for frame in video])


def sharpen(video: np.ndarray, factor: float) -> np.ndarray:
    """Blends with a copy smoothed by a 3x3 filter: factor 0 is the copy, 1 the clip itself. Borders stay."""
    return np.stack([_blend(_smooth(frame), frame, factor) for frame in video])


def turn_hue(video: np.ndarray, turn: float) -> np.ndarray:
    """Rotates hues by `turn` of the colour circle, keeping value and saturation."""
    return np.stack([_turned(frame, turn) for frame in video])


def luma(video: np.ndarray) -> np.ndarray:
    """Returns the luma of pixels, rounded as image libraries do: (..., 3) uint8 -> (...) uint8."""
    # All sums are whole numbers below 2 ** 24, hence exact
    sums = video.astype(np.float32) @ _LUMA + np.float32(2**15)
    return (sums * np.float32(2**-16)).astype(np.uint8)


def _grey(frame: np.ndarray) -> np.ndarray:
    return np.repeat(luma(frame), 3).reshape(frame.shape)


def _blend(ground: np.ndarray, frame: np.ndarray, factor: float) -> np.ndarray:
    """Returns ground + factor * (frame - ground), clipped to bytes."""
    mixed = frame.astype(np.float32)
    mixed -= ground
    mixed *= np.float32(factor)
    mixed += ground
    return np.clip(mixed, 0, 255, out=mixed).astype(np.uint8)


def _smooth(frame: np.ndarray) -> np.ndarray:
    """Returns means of 3x3 pixels, in which the middle one counts five times; borders stay."""
    wide = frame.astype(np.uint16)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * wide[1:-1, 1:-1]
    smooth = frame.copy()
    # Pillow's SMOOTH filter: ones around a five, whose sum is 13; 6 rounds to nearest.
    smooth[1:-1, 1:-1] = (total + 6) // 13
    return smooth


def _turned(frame: np.ndarray, turn: float) -> np.ndarray:
    red, green, blue = planes = frame.transpose(2, 0, 1).astype(np.float32)
    value = planes.max(0)
    chroma = value - planes.min(0)
    # Grey has no hue; the product with its chroma of zero makes any value right.
    scale = 1 / np.maximum(chroma, 1e-6)
    hue = np.where(value == green, 2 + (blue - red) * scale, 4 + (red - green) * scale)
    hue = np.where(value == red, (green - blue) * scale, hue) + np.float32(6 * turn)
    turned = np.empty_like(frame)
    for channel, shift in enumerate((5, 3, 1)):  # where red, green and blue begin to fade on the circle
        place = hue + np.float32(shift)
        place -= 6 * np.floor(place / 6)
        fade = np.clip(np.minimum(place, 4 - place), 0, 1)
        turned[..., channel] = np.rint(value - chroma * fade)
    return turned
