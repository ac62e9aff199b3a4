"""A contact sheet: a row of frames and the captions of some clips, as a PNG."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ivjax.data_pipelines.decode import Video
from ivjax.data_pipelines.inspect.intact import intact_clip
from ivjax.data_pipelines.records import Clip, ClipError
from ivjax.data_pipelines.shards import Shards, open_shards
from ivjax.errors import UserError

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

_CELL = (160, 120)  # width and height of a frame on the sheet
_GAP = 6
_FONT_SIZE = 14
_LINE = 18
_MOST_LINES = 8
Colour = tuple[int, int, int]
_INK, _PAPER, _RED = (20, 20, 20), (255, 255, 255), (180, 0, 0)


def contact_sheet(
    folder: Path, out: Path, n: int = 8, frames: int = 6, seed: int | None = None, font: Path | None = None
) -> None:
    """Draws `n` clips with `frames` frames each; spread over the corpus, or drawn by `seed`.

    `font` is a TrueType file for scripts that the built-in one lacks, such as Chinese. A clip that does not
    decode is shown with the reason.
    """
    if n < 1 or frames < 1:
        raise UserError(f"a sheet of {n} clips with {frames} frames each shows nothing; ask for 1 or more")
    with open_shards(folder) as shards:
        letters = _font(font)
        rows = [_row(shards, number, frames, letters) for number in _choose(len(shards), n, seed)]
    out.parent.mkdir(parents=True, exist_ok=True)
    _stack(rows, frames).save(out, format="png")


def _choose(clips: int, n: int, seed: int | None) -> list[int]:
    if seed is None:
        return sorted({int(place) for place in np.linspace(0, clips - 1, min(n, clips))})
    return sorted(np.random.default_rng(seed).choice(clips, min(n, clips), replace=False).tolist())


def _row(shards: Shards, number: int, frames: int, font: "FreeTypeFont") -> "Image.Image":
    """One clip: its frames above its captions."""
    shard, record = shards.place(number)
    try:
        clip = intact_clip(shards[number])
        pictures, texts, ink = _pictures(clip, frames), _texts(clip), _INK
    except ClipError as error:
        pictures, texts, ink = [], [str(error)], _RED
    return _draw(pictures, [f"{shard} record {record}", *texts], frames, font, ink)


def _pictures(clip: Clip, frames: int) -> list["Image.Image"]:
    from PIL import Image

    with Video(clip.payload) as media:
        count = media.probe.frames
        chosen = np.linspace(0, count - 1, min(frames, count)).round().astype(int)
        return [_fitted(Image.fromarray(frame)) for frame in media.read(chosen)]


def _fitted(picture: "Image.Image") -> "Image.Image":
    """The picture as large as a cell allows."""
    scale = min(_CELL[0] / picture.width, _CELL[1] / picture.height)
    return picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)))


def _texts(clip: Clip) -> list[str]:
    facts = f"{clip.id}: {clip.end - clip.start:.2f} s, {clip.width}x{clip.height}, {clip.frames} frames"
    turns = [f"{turn.role}: {turn.text}" for turn in clip.conversation]
    return [facts, *clip.captions, *turns]


def _draw(
    pictures: Sequence["Image.Image"], texts: Sequence[str], frames: int, font: "FreeTypeFont", ink: Colour
) -> "Image.Image":
    from PIL import Image, ImageDraw

    width = _width(frames)
    lines = [line for text in texts for line in _wrap(text, width - 2 * _GAP, font)]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], f"... {len(lines) - _MOST_LINES + 1} more lines"]
    height = (_CELL[1] + _GAP if pictures else 0) + _LINE * len(lines) + 2 * _GAP
    row = Image.new("RGB", (width, height), _PAPER)
    for place, picture in enumerate(pictures):
        row.paste(picture, (_GAP + place * (_CELL[0] + _GAP), _GAP))
    pen = ImageDraw.Draw(row)
    for place, line in enumerate(reversed(lines)):
        pen.text((_GAP, height - _GAP - _LINE * (place + 1)), line, ink, font)
    return row


def _wrap(text: str, width: int, font: "FreeTypeFont") -> Iterator[str]:
    """Lines that are narrow enough; broken between words, and inside a word only where it must be."""
    line = ""
    for word in _drawable(text).split():
        for part in _parts(word, width, font):
            joined = f"{line} {part}" if line else part
            if font.getlength(joined) > width:
                yield line
                joined = part
            line = joined
    yield line


def _parts(word: str, width: int, font: "FreeTypeFont") -> list[str]:
    if font.getlength(word) <= width:
        return [word]
    return textwrap.wrap(word, max(width // (2 * _FONT_SIZE), 1))


def _drawable(text: str) -> str:
    """Without lone surrogates, which no font can draw."""
    return text.encode("utf-8", "replace").decode()


def _font(file: Path | None) -> "FreeTypeFont":
    """The given font, or the one that comes with matplotlib, which has most alphabets."""
    import matplotlib
    from PIL import ImageFont

    found = file or Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    try:
        return ImageFont.truetype(str(found), _FONT_SIZE)
    except OSError as error:
        raise UserError(f"{found} is no font that can be read: {error}; name a TrueType file") from None


def _stack(rows: Sequence["Image.Image"], frames: int) -> "Image.Image":
    from PIL import Image

    sheet = Image.new("RGB", (_width(frames), max(sum(row.height for row in rows), 1)), _PAPER)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _width(frames: int) -> int:
    return frames * (_CELL[0] + _GAP) + _GAP
