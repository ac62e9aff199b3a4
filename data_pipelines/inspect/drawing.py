"""Drawing of contact sheets with Pillow: rows of pictures above lines of text."""

import io
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ivjax.drafts import store
from ivjax.errors import UserError

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

_CELL = (160, 120)  # width and height of a frame on the sheet
_GAP = 6
_FONT_SIZE = 14
_LINE = 18
_MOST_LINES = 8
Colour = tuple[int, int, int]  # red, green and blue, 0 to 255
INK, RED = (20, 20, 20), (180, 0, 0)
_PAPER = (255, 255, 255)


def fitted(picture: "Image.Image") -> "Image.Image":
    """Returns the picture in the largest size that fits a cell."""
    scale = min(_CELL[0] / picture.width, _CELL[1] / picture.height)
    return picture.resize((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)))


def draw_row(
    pictures: Sequence["Image.Image"], texts: Sequence[str], frames: int, font: "FreeTypeFont", ink: Colour
) -> "Image.Image":
    """Returns a row of at most `frames` pictures above their texts in the colour `ink`."""
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
    """Yields lines that are narrow enough; only words that are too long are broken."""
    line = ""
    for word in _drawable(text).split():
        for piece in _pieces(word, width, font):
            joined = f"{line} {piece}" if line else piece
            if font.getlength(joined) > width:
                yield line
                joined = piece
            line = joined
    yield line


def _pieces(word: str, width: int, font: "FreeTypeFont") -> list[str]:
    if font.getlength(word) <= width:
        return [word]
    return textwrap.wrap(word, max(width // (2 * _FONT_SIZE), 1))


def _drawable(text: str) -> str:
    """Returns the text without lone surrogates, which no font can draw."""
    return text.encode("utf-8", "replace").decode()


def load_font(file: Path | None) -> "FreeTypeFont":
    """Loads the given font, or matplotlib's, which has most alphabets."""
    import matplotlib
    from PIL import ImageFont

    found = file or Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    try:
        return ImageFont.truetype(str(found), _FONT_SIZE)
    except OSError as error:
        raise UserError(f"{found} cannot be read as a font: {error}; name a TrueType file") from None


def write_sheet(rows: Sequence["Image.Image"], frames: int, out: Path) -> None:
    """Stores rows of `frames` pictures one below the other as a PNG."""
    from PIL import Image

    sheet = Image.new("RGB", (_width(frames), max(sum(row.height for row in rows), 1)), _PAPER)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    encoded = io.BytesIO()
    sheet.save(encoded, format="png")
    store(out, encoded.getvalue())


def _width(frames: int) -> int:
    return frames * (_CELL[0] + _GAP) + _GAP
