"""Makes the clips of a row. Pure functions of the row and the recipe, used by every engine."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import PurePosixPath

from ivjax.data_pipelines.build.clip_recipe import (
    Captioner,
    ClipRecipe,
    Drop,
    Outcome,
    Remark,
    find_captioner,
)
from ivjax.data_pipelines.build.frames import Watch, fitted, shrunk
from ivjax.data_pipelines.build.pieces import bounds_of, footage_of, shortened, split_row
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.intact import intact_clip
from ivjax.data_pipelines.store.records import Clip, ClipError, pack
from ivjax.data_pipelines.video.decode import probe, read_frames
from ivjax.data_pipelines.video.encode import encode_image, encode_video
from ivjax.data_pipelines.video.footage import TOLERANCE, Footage, exact, fetch
from ivjax.data_pipelines.video.frame_folder import FrameFolder
from ivjax.data_pipelines.video.sound import read_sound
from ivjax.data_pipelines.video.stored_clip import check_media
from ivjax.data_pipelines.video.timeline import UNKNOWN_FPS, FrameRate, steady


def make_outcome(row: SourceRow, recipe: ClipRecipe) -> Outcome:
    """Returns the records, drops and remarks of a row; a damaged video is a drop, not an error."""
    records: list[bytes] = []
    drops: list[Drop] = []
    remarks: list[Remark] = []
    for made in make_clips(row, recipe):
        match made:
            case Drop():
                drops.append(made)
            case Remark():
                remarks.append(made)
            case Clip():
                records.append(pack(made))
    return Outcome(tuple(records), tuple(drops), tuple(remarks))


def make_clips(row: SourceRow, recipe: ClipRecipe) -> Iterator[Clip | Drop | Remark]:
    """Yields the finished clips of a row, one for each shot and window, and what is not as the row asks."""
    try:
        pieces, remarks = split_row(row, recipe)
    except ClipError as error:
        yield Drop(row.id, row.path, error.cause, error.detail)
        return
    yield from remarks
    for piece in pieces:
        try:
            if piece.media == "image":
                yield checked(captioned(image_clip(piece, recipe), recipe.captioner))
            else:
                clip, remarks = video_clip(piece, recipe)
                yield checked(captioned(clip, recipe.captioner))
                yield from remarks
        except ClipError as error:
            yield Drop(piece.id, piece.path, error.cause, error.detail)


def video_clip(row: SourceRow, recipe: ClipRecipe) -> tuple[Clip, list[Remark]]:
    """Cuts a row out of its video and encodes it; returns also what is not as the row asks."""
    start, end = bounds_of(row)
    with footage_of(row, recipe.deinterlace) as footage:
        rate = footage.rate(start, end)
        frames = footage.frames(start, end)
        first = next(frames, None)
        if first is None:
            raise _nothing_there(row, footage)
        # Slower videos keep their rate: repeated frames would only cost space.
        fps = min(rate.fps or UNKNOWN_FPS, exact(recipe.fps))
        encoding = recipe.encoding.of_source(first.picture)
        watch = Watch(fps, recipe.max_seconds)
        beats = steady(watch.times(itertools.chain([first], frames)), fps)
        pictures = watch.pictures(shrunk(beats, footage.pixel_shape, recipe.short_side, encoding.pixels))
        has_sound = recipe.audio and row.frame_rate is None
        # From the first frame and not from `start`, so that sound and pictures begin together.
        sound = read_sound(row.path, recipe.audio_rate, first.begins, end) if has_sound else None
        payload = encode_video(pictures, fps, encoding, sound)
    begins = max(first.begins, Fraction(0)) if start is None else start
    _check(watch, begins, recipe)
    remarks = [*shortened(row, watch.ends, fps), *_changed(row, footage, rate, fps)]
    clip = replace(
        _described(row, payload),
        start=float(begins),
        end=float(watch.ends),
        frames=watch.frames,
        fps=float(fps),
        width=watch.width,
        height=watch.height,
        audio=sound is not None,
    )
    return clip, remarks


def _changed(
    row: SourceRow, footage: Footage | FrameFolder, rate: FrameRate, fps: Fraction
) -> Iterator[Remark]:
    """Yields what was done to the frames or to their times."""
    if footage.was_interlaced:
        how = "its frames are interlaced; recipe.deinterlace=false keeps them combed"
        yield Remark(row.id, row.path, "deinterlaced", how)
    if not rate.is_constant:
        how = f"its frames come at uneven times; it shows {float(fps):g} a second"
        yield Remark(row.id, row.path, "steadied", how)


def checked(clip: Clip) -> Clip:
    """Returns a clip that passes all checks of readers; raises ClipError for one that must not be written."""
    try:
        check_media(intact_clip(pack(clip)))
    except ClipError as error:
        raise ClipError(error.cause, f"the finished clip: {error.detail}") from error
    return clip


def _nothing_there(row: SourceRow, footage: Footage | FrameFolder) -> ClipError:
    length = footage.seconds
    asked = f"no frame of {row.path} begins from {row.start or 0:g} s to {row.end or float('inf'):g} s"
    if length is not None and row.start is not None and row.start >= length:
        return ClipError("past the end", f"{asked}, it is {float(length):.3f} s long")
    return ClipError("no frames", asked)


def _check(watch: Watch, begins: Fraction, recipe: ClipRecipe) -> None:
    """Raises ClipError for clips that the recipe's filters drop."""
    seconds = watch.ends - begins
    if seconds + TOLERANCE < recipe.min_seconds:
        raise ClipError("too short", f"it lasts {float(seconds):.3f} s, less than {recipe.min_seconds:g} s")
    if recipe.max_seconds is not None and seconds - TOLERANCE > recipe.max_seconds:
        raise ClipError("too long", f"it lasts {float(seconds):.3f} s, more than {recipe.max_seconds:g} s")
    if watch.motion < recipe.still:
        raise ClipError("still", f"its luma changes by {watch.motion:.2f}, less than {recipe.still:g}")


def image_clip(row: SourceRow, recipe: ClipRecipe) -> Clip:
    """Returns an image unchanged, or as a smaller JPEG if it is too large or moves."""
    payload = fetch(row.path)
    found = probe(payload)
    size = None
    # Small images keep their bytes: encoding a JPEG again only loses quality.
    if found.frames > 1 or min(found.width, found.height) > recipe.short_side:
        width, height = fitted(found.width, found.height, Fraction(1), recipe.short_side)
        size = height, width
    picture = read_frames(payload, [0], size=size)[0]  # raises if it cannot be decoded
    if size is not None:
        payload = encode_image(picture)
    height, width = picture.shape[:2]
    return replace(_described(row, payload), frames=1, width=width, height=height)


def _described(row: SourceRow, payload: bytes) -> Clip:
    """Returns a clip with the annotations of its row."""
    return Clip(
        id=row.id,
        payload=payload,
        media=row.media,
        captions=row.captions,
        texts=row.texts,
        conversation=row.conversation,
        label=row.label,
        video=row.video or PurePosixPath(row.path).stem,
        scores=row.scores,
        attributes=row.attributes,
    )


def captioned(clip: Clip, captioner: str | None) -> Clip:
    """Returns the clip with the captions of the captioner."""
    if captioner is None:
        return clip
    try:
        captions = _captioner(captioner)(clip)
    except Exception as error:  # a user's function must not end the build
        raise ClipError("captioner", f"{captioner} raised {type(error).__name__}: {error}") from error
    return replace(clip, captions=(captions,) if isinstance(captions, str) else tuple(captions))


@functools.cache
def _captioner(name: str) -> Captioner:
    return find_captioner(name)
