"""The hits of a search as pictures: a row of frames for each, above its score and place."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ivjax.data_pipelines.inspect.drawing import INK, RED, draw_row, fitted, load_font, write_sheet
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.decode import Video
from ivjax.data_pipelines.video.footage import fetch
from ivjax.embed.index import Index
from ivjax.embed.index_search import Hit
from ivjax.embed.media_list import find_medium
from ivjax.errors import UserError
from ivjax.evals.views import VideoView, read_view, span

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

_FRAMES = 6


def hits_sheet(
    index: Index, queries: Sequence[str], found: Sequence[Sequence[Hit]], out: Path, font: Path | None = None
) -> None:
    """Draws the hits of each query; one whose video is gone or broken is shown with the reason.

    `font` is a TrueType file for scripts that the built-in one lacks, such as Chinese.
    """
    if not index.of_videos:
        raise UserError(f"{index.path} holds texts, of which there are no pictures; leave out --png")
    letters = load_font(font)
    rows = [
        _row(index, f"{place}. {query}", hit, letters)
        for query, hits in zip(queries, found, strict=True)
        for place, hit in enumerate(hits, 1)
    ]
    write_sheet(rows, _FRAMES, out)


def _row(index: Index, title: str, hit: Hit, font: "FreeTypeFont") -> "Image.Image":
    try:
        pictures, texts, ink = _pictures(index, hit), [title, str(hit)], INK
    except ClipError as error:
        pictures, texts, ink = [], [title, str(hit), str(error)], RED
    return draw_row(pictures, texts, _FRAMES, font, ink)


def _pictures(index: Index, hit: Hit) -> list["Image.Image"]:
    from PIL import Image

    medium = find_medium(hit.video or "", index.origin.folder)
    view = VideoView(medium, hit.start, hit.end) if hit.end else VideoView(medium)  # an image has no times
    with Video(medium if isinstance(medium, bytes) else fetch(medium)) as video:
        frames = min(_FRAMES, len(span(view, video.probe)))
        return [fitted(Image.fromarray(frame)) for frame in read_view(video, view, frames)]
