"""Splits rows into pieces: at camera cuts and into windows. What a row asks for beyond its file is told."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from ivjax.data_pipelines.build.clip_recipe import ClipRecipe, Remark, WindowRule
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.footage import TOLERANCE, Footage, exact
from ivjax.data_pipelines.video.frame_folder import FrameFolder
from ivjax.data_pipelines.video.shots import DETECTION_WIDTH, ShotRule, content_scores, find_cuts
from ivjax.data_pipelines.video.timeline import UNKNOWN_FPS

# A caption says little about a clip of which less than this share is there.
_LEAST_SHARE = Fraction(1, 2)


class SplitRequest(NamedTuple):
    """Asks a child process for the pieces of a row."""

    row: SourceRow


class Pieces(NamedTuple):
    """What a row is split into, and remarks on the row."""

    rows: list[SourceRow]
    remarks: list[Remark]


def split_row(row: SourceRow, recipe: ClipRecipe) -> Pieces:
    """Returns a row for each shot and window, with the annotations of the row.

    Raises ClipError for a damaged video.
    """
    if row.media == "image":
        return Pieces([row], [])
    pieces = [row] if recipe.shots is None else split_shots(row, recipe.shots)
    if recipe.windows is None:
        return Pieces(pieces, [])
    split = [split_windows(piece, recipe.windows) for piece in pieces]
    return Pieces([row for p in split for row in p.rows], [remark for p in split for remark in p.remarks])


def split_shots(row: SourceRow, rule: ShotRule) -> list[SourceRow]:
    """Returns a row for each shot of a row; the row itself if the camera never cuts."""
    begins: list[Fraction] = []

    def pictures(footage: Footage | FrameFolder) -> Iterator[np.ndarray]:
        for shown in footage.frames(*bounds_of(row)):
            begins.append(shown.begins)
            width = min(shown.picture.width, DETECTION_WIDTH)
            height = max(round(shown.picture.height * width / shown.picture.width), 1)
            yield shown.picture.reformat(width, height, "rgb24").to_ndarray()

    with footage_of(row) as footage:
        scores = list(content_scores(pictures(footage)))
    inner = [float(begins[cut]) for cut in find_cuts(scores, rule)]
    if not inner:
        return [row]
    spans = itertools.pairwise([row.start, *inner, row.end])
    return [
        replace(row, id=f"{row.id}-{number:03d}", start=start, end=end)
        for number, (start, end) in enumerate(spans)
    ]


def split_windows(row: SourceRow, rule: WindowRule) -> Pieces:
    """Returns a row for each window of a row; the row itself if it is no longer than a window."""
    start, end = bounds_of(row)
    begin = start or Fraction(0)
    if end is not None and end - begin <= exact(rule.seconds) + TOLERANCE:
        return Pieces([row], [])
    with footage_of(row) as footage:
        frame = 1 / (footage.fps or UNKNOWN_FPS)
        length = footage.seconds
        if length is None:
            length = max((shown.ends for shown in footage.frames(start, end)), default=begin)
    remarks = shortened(row, length, 1 / frame)
    until = length if end is None else min(end, length)
    spans = windows(begin, until, rule, frame / 2)
    if len(spans) == 1 and spans[0] == (begin, until):
        return Pieces([row], [])  # the clip itself tells whether it is shortened
    rows = [
        replace(row, id=f"{row.id}-{number:03d}", start=float(first), end=float(stop))
        for number, (first, stop) in enumerate(spans)
    ]
    if end is None and rule.rest == "keep" and spans[-1][1] == until:
        # What a file says of its length may be a little off, so what goes up to its end is left open.
        rows[-1] = replace(rows[-1], end=None)
    return Pieces(rows, remarks)


def windows(
    begin: Fraction, end: Fraction, rule: WindowRule, slack: Fraction = TOLERANCE
) -> list[tuple[Fraction, Fraction]]:
    """Returns first and last second of each window of a span; a rest of up to `slack` counts as none."""
    length = exact(rule.seconds)
    stride = length if rule.stride is None else exact(rule.stride)
    if end - begin <= length + slack:
        return [(begin, end)]
    count = math.floor((end - begin - length + TOLERANCE) / stride) + 1
    starts = [begin + number * stride for number in range(count)]
    spans = [(start, min(start + length, end)) for start in starts]
    further = begin + count * stride
    # Where windows leave gaps, the rest begins behind the gap.
    if end - max(spans[-1][1], further) <= slack or rule.rest == "drop":
        return spans
    return [*spans, (further if rule.rest == "keep" else end - length, end)]


def shortened(row: SourceRow, ends: Fraction, fps: Fraction) -> list[Remark]:
    """Returns a Remark if the file of a row ends at `ends`, by more than a frame before the row does.

    Raises ClipError if less than half of what the row asks for is there.
    """
    start, end = bounds_of(row)
    if end is None or end - ends <= 1 / fps + TOLERANCE:
        return []
    asked, found = end - (start or 0), ends - (start or 0)
    told = f"it ends at {float(ends):.3f} s where its file does, and its row says {float(end):.3f} s"
    if found < _LEAST_SHARE * asked:
        raise ClipError("past the end", f"{told}; less than half of it is there")
    return [Remark(row.id, row.path, "shortened", told)]


def footage_of(row: SourceRow, deinterlace: bool = False) -> Footage | FrameFolder:
    """Opens the video of a row."""
    if row.frame_rate is not None:
        return FrameFolder(row.path, exact(row.frame_rate))
    return Footage(row.path, deinterlace)


def bounds_of(row: SourceRow) -> tuple[Fraction | None, Fraction | None]:
    """Returns start and end of a row in exact seconds."""
    return (
        None if row.start is None else exact(row.start),
        None if row.end is None else exact(row.end),
    )
