"""Contact sheets: frames and captions of some clips as a PNG."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ivjax.data_pipelines.inspect.drawing import INK, RED, draw_row, fitted, load_font, write_sheet
from ivjax.data_pipelines.store.intact import intact_clip
from ivjax.data_pipelines.store.records import Clip, ClipError
from ivjax.data_pipelines.store.shards import Shards, open_shards
from ivjax.data_pipelines.store.stored_dialogues import StoredDialogues
from ivjax.data_pipelines.video.decode import Video
from ivjax.errors import UserError

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

_TALKS = 3  # conversations that are shown of a clip


def contact_sheet(
    folder: Path, out: Path, n: int = 8, frames: int = 6, seed: int | None = None, font: Path | None = None
) -> None:
    """Draws `n` clips with `frames` frames each: evenly spaced ones, or random ones if there is a `seed`.

    `font` is a TrueType file for scripts that the default font lacks, such as Chinese. A clip that does not
    decode is shown with the reason.
    """
    if n < 1 or frames < 1:
        raise UserError(f"n and frames must be at least 1, got {n} and {frames}")
    with open_shards(folder) as shards:
        letters = load_font(font)
        chosen = _choose(len(shards), n, seed)
        talks = _talks(folder, chosen) if shards.manifest.conversations else {}
        rows = [_row(shards, number, frames, letters, talks.get(number, [])) for number in chosen]
    write_sheet(rows, frames, out)


def _choose(clips: int, n: int, seed: int | None) -> list[int]:
    if seed is None:
        return sorted({int(place) for place in np.linspace(0, clips - 1, min(n, clips))})
    return sorted(np.random.default_rng(seed).choice(clips, min(n, clips), replace=False).tolist())


def _talks(folder: Path, clips: Sequence[int]) -> dict[int, list[str]]:
    """Returns what a few conversations say about each of some clips, as lines."""
    lines: dict[int, list[str]] = {clip: [] for clip in clips}
    told: Counter[int] = Counter()
    dialogues = StoredDialogues(str(folder))
    for number in range(len(dialogues)):
        try:
            dialogue = dialogues[number]
        except ClipError:
            continue
        for part in dialogue.media:
            told[part.record] += 1
            if part.record in lines and told[part.record] <= _TALKS:
                about = f"{dialogue.id}, frames {part.first} to {part.stop}"
                lines[part.record] += [about, *(f"{turn.role}: {turn.text}" for turn in dialogue.turns)]
    dialogues.close()
    for clip in clips:
        further = told[clip] - _TALKS
        lines[clip] += [f"and {further} further conversations"] * (further > 0)
    return lines


def _row(
    shards: Shards, number: int, frames: int, font: "FreeTypeFont", talks: Sequence[str]
) -> "Image.Image":
    """Returns the row of one clip: its frames above its captions and what is said about it."""
    shard, record = shards.place(number)
    try:
        clip = intact_clip(shards[number])
        pictures, texts, ink = _pictures(clip, frames), describe_clip(clip, shards.manifest.classes), INK
    except ClipError as error:
        pictures, texts, ink = [], [str(error)], RED
    return draw_row(pictures, [f"{shard} record {record}", *texts, *talks], frames, font, ink)


def _pictures(clip: Clip, frames: int) -> list["Image.Image"]:
    from PIL import Image

    with Video(clip.payload) as media:
        count = media.probe.frames
        chosen = np.linspace(0, count - 1, min(frames, count)).round().astype(int)
        return [fitted(Image.fromarray(frame)) for frame in media.read(chosen)]


def describe_clip(clip: Clip, classes: Sequence[str]) -> list[str]:
    """Returns the facts about a clip, its captions and its conversation, as lines."""
    facts = f"{clip.id}: {clip.end - clip.start:.2f} s, {clip.width}x{clip.height}, {clip.frames} frames"
    if clip.label is not None:
        name = classes[clip.label] if 0 <= clip.label < len(classes) else ""
        facts += f", class {clip.label} {name}".rstrip()
    turns = [f"{turn.role}: {turn.text}" for turn in clip.conversation]
    further = [f"{kind}: {text}" for kind, texts in clip.texts.items() for text in texts]
    return [facts, *clip.captions, *further, *turns]
