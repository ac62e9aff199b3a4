"""Short films on the page: frames of a clip side by side in one picture, of which a window shows one.

Each strip is one picture and no animated format: a slider stops at any frame, several strips keep the same
time, and without a script all frames are there to scroll through.
"""

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ivjax.drafts import store
from ivjax.report.markup import escaped

_SIDE = 160  # pixels of the longer side of a frame at most
_FRAMES = 16  # of a strip at most
_GAP = 2  # pixels between the pictures of a sheet


class Strip(NamedTuple):
    """Pictures of one clip, shown one after the other.

    Attributes:
        frames: (F, H, W, 3) uint8.
        alt: what they show, in words.
        caption: a line below them.
        mark: whether they are a `right` or a `wrong` answer, or "".
    """

    frames: np.ndarray
    alt: str
    caption: str = ""
    mark: str = ""


class Film(NamedTuple):
    """Strips that are shown together, with one slider.

    Attributes:
        title: a line above them.
        strips: the strips.
        name: of the PNG file that has all frames.
    """

    title: str
    strips: tuple[Strip, ...]
    name: str


def film_html(film: Film) -> str:
    """Returns the film as a figure with its own pictures."""
    kept = _of_one_length([kept_frames(strip.frames) for strip in film.strips])
    count, whole = len(kept[0]), max(len(strip.frames) for strip in film.strips)
    windows = "".join(_window(strip, frames) for strip, frames in zip(film.strips, kept, strict=True))
    middle = (count + 1) // 2  # it says most of a clip
    said = f"{count} of {whole} frames" if count < whole else f"{count} frames"
    title = escaped(film.title)
    controls = (
        '<div class="controls"><button type="button">Play</button>'
        f'<input type="range" min="1" max="{count}" value="{middle}" aria-label="frame: {title}">'
        f'<output>{middle}</output><span class="note">{said}</span></div>'
    )
    wide = " wide" if len(kept) > 3 else ""
    return (
        f'<figure class="film{wide}" data-frames="{count}"><figcaption>{title}</figcaption>'
        f'<div class="strips of{min(len(kept), 4)}">{windows}</div>{controls if count > 1 else ""}</figure>'
    )


def _of_one_length(strips: list[np.ndarray]) -> list[np.ndarray]:
    """Returns strips of which the shorter ones stay at their last frame."""
    count = max(map(len, strips))
    return [np.pad(frames, ((0, count - len(frames)), *[(0, 0)] * 3), mode="edge") for frames in strips]


def write_sheet(film: Film, folder: Path) -> Path:
    """Writes all frames of a film as one PNG file, a row for each strip; returns the file."""
    kept = [kept_frames(strip.frames) for strip in film.strips]
    high, wide = (max(frames.shape[axis] for frames in kept) for axis in (1, 2))
    columns = max(map(len, kept))
    sheet = np.full((len(kept) * (high + _GAP), columns * (wide + _GAP), 3), 255, np.uint8)
    for row, frames in enumerate(kept):
        for column, frame in enumerate(frames):
            top, left = row * (high + _GAP), column * (wide + _GAP)
            sheet[top : top + frame.shape[0], left : left + frame.shape[1]] = frame
    out = folder / f"{film.name}.png"
    store(out, _png(sheet))
    return out


def kept_frames(frames: np.ndarray) -> np.ndarray:
    """Returns few enough frames, evenly chosen, no larger than a window."""
    if len(frames) > _FRAMES:
        frames = frames[np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)]
    return fitted(frames)


def fitted(frames: np.ndarray) -> np.ndarray:
    """Returns frames (F, H, W, 3) that are no larger than a window."""
    high, wide = frames.shape[1:3]
    scale = _SIDE / max(high, wide)
    if scale >= 1:
        return frames
    size = (max(round(wide * scale), 1), max(round(high * scale), 1))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size)) for frame in frames])


def data_uri(picture: np.ndarray) -> str:
    """Returns a picture (H, W, 3) uint8 as PNG or as JPEG, whichever is smaller."""
    png, encoded = _png(picture), io.BytesIO()
    # Without subsampling, which would blur the colours of small pictures.
    Image.fromarray(picture).save(encoded, format="jpeg", quality=90, subsampling=0)
    jpeg = encoded.getvalue()
    kind, smaller = ("png", png) if len(png) <= len(jpeg) else ("jpeg", jpeg)
    return f"data:image/{kind};base64,{base64.b64encode(smaller).decode()}"


def _window(strip: Strip, frames: np.ndarray) -> str:
    high, wide = frames.shape[1:3]
    side_by_side = np.concatenate(list(frames), axis=1)
    # Enlarged, drawn frames of 64 pixels should keep their edges.
    crisp = " crisp" if max(high, wide) < _SIDE else ""
    caption = f'<span class="caption">{escaped(strip.caption)}</span>' if strip.caption else ""
    return (
        f'<div class="strip {strip.mark}"><div class="window{crisp}" '
        f'style="--frames:{len(frames)};aspect-ratio:{wide}/{high}">'
        f'<img src="{data_uri(side_by_side)}" alt="{escaped(strip.alt)}" width="{wide * len(frames)}" '
        f'height="{high}"></div>{caption}</div>'
    )


def _png(picture: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, format="png", optimize=True)
    return encoded.getvalue()
