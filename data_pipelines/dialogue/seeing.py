"""What a model sees of the videos and images of a conversation: frames, tiles, clips, visual tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ivjax.data_pipelines.augment.recipe import TEST, Augment
from ivjax.data_pipelines.dialogue.style import SeenMedia
from ivjax.data_pipelines.dialogue.tiling import TileGrid, Tiling
from ivjax.data_pipelines.sampling import FrameRule, rule_for_tests
from ivjax.data_pipelines.store.dialogues import MediaPart
from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.clip_video import ClipVideo

_PIECE = 64  # frames that are decoded at once, so that a long video needs no more memory than its row


class ClipForm(NamedTuple):
    """The form of what a tower reads: clips of `frames` pictures of `height` x `width`."""

    frames: int
    height: int
    width: int


class MediaView(NamedTuple):
    """What is seen of one medium.

    Attributes:
        part: the part of a stored clip.
        frames: numbers of the frames in the stored clip (F,), a multiple of a clip's for videos.
        seen: how many of them are there before the last one is repeated.
        grid: the tiles, beside which there is a view of the whole; None: the picture is not cut.
        clips: how many clips it becomes.
        images: how many still images it becomes.
    """

    part: MediaPart
    frames: np.ndarray
    seen: int
    grid: TileGrid | None
    clips: int
    images: int

    @property
    def views(self) -> int:
        """The number of tiles and the view of the whole."""
        return 1 if self.grid is None else self.grid.tiles + 1

    @property
    def times(self) -> tuple[float, ...]:
        """Seconds of the frames, from the beginning of the part."""
        if not self.part.fps:
            return ()
        seconds: list[float] = ((self.frames - self.part.first) / self.part.fps).tolist()
        return tuple(seconds)


@dataclass(frozen=True)
class Seeing:
    """Options of what is seen of the media of a conversation.

    Attributes:
        rule: which frames of a video are read.
        clip_tokens: visual tokens of a clip of the tower.
        image_tokens: visual tokens of a still image; 0: an image becomes a clip of equal frames.
        augment: crop, flip and colours, one draw for each video; tiles are cut from whole frames instead.
        tiling: cuts large pictures into tiles; None does not.
    """

    rule: FrameRule
    clip_tokens: int
    image_tokens: int = 0
    augment: Augment = TEST
    tiling: Tiling | None = None

    def view(self, part: MediaPart, form: ClipForm, rng: np.random.Generator) -> MediaView:
        """Returns what is seen of a medium; raises ClipError for a video that is shorter than a clip."""
        grid = self._grid(part, form)
        views = 1 if grid is None else grid.tiles + 1
        if part.kind == "image":
            clips, images = (0, views) if self.image_tokens else (views, 0)
            return MediaView(part, np.full(1 if images else form.frames, part.first), 1, grid, clips, images)
        if part.frames < form.frames:
            raise ClipError(
                "shorter than a clip",
                f"it has {part.frames} frames and the tower reads {form.frames} at once",
            )
        chosen = self.rule.choose(part.frames, part.fps, rng)
        count = getattr(self.rule, "count", None)  # of rules by duration, which fill up to their `frames`
        chosen = chosen if count is None else chosen[: count(part.frames, part.fps)]
        seen = len(chosen)
        frames = np.pad(chosen, (0, -seen % form.frames), mode="edge") + part.first
        return MediaView(part, frames, seen, grid, views * len(frames) // form.frames, 0)

    def for_tests(self) -> "Seeing":
        """Returns the options that read media as these do, and draw nothing."""
        return replace(self, rule=rule_for_tests(self.rule), augment=self.augment.for_tests())

    def _grid(self, part: MediaPart, form: ClipForm) -> TileGrid | None:
        if self.tiling is None or (part.kind == "video" and not self.tiling.videos):
            return None
        return self.tiling.grid(part.width, part.height, form.height)

    def tokens(self, views: Sequence[MediaView]) -> list[SeenMedia]:
        """Returns what a style knows of the media of a conversation.

        Its visual tokens are numbered with those of all clips first and those of all images behind them.
        """
        clip, image = 0, sum(view.clips for view in views) * self.clip_tokens
        found: list[SeenMedia] = []
        for view in views:
            count = view.clips * self.clip_tokens + view.images * self.image_tokens
            start = image if view.images else clip
            order = np.arange(count)
            if view.grid is not None and self.tiling is not None:
                order = self.tiling.order(view.grid, count // view.views)
            # Frames that only fill up a clip have visual tokens too, so they count as frames of the text.
            frames = len(view.frames) if view.part.kind == "video" else 1
            seconds = view.part.seconds
            found.append(SeenMedia(view.part.kind, start + order, frames, view.times, seconds))
            clip, image = (clip, image + count) if view.images else (clip + count, image)
        return found

    def pictures(
        self, view: MediaView, video: ClipVideo, form: ClipForm, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns the clips (n, T, H, W, 3) or the images (n, H, W, 3) of a medium, uint8."""
        wanted, counts = np.unique(view.frames, return_counts=True)
        box = None if view.grid is not None else self.augment.box(view.part.width, view.part.height, rng)
        size = None if view.grid is not None else (form.height, form.width)
        pieces = [
            video.read(wanted[start : start + _PIECE], box, size) for start in range(0, len(wanted), _PIECE)
        ]
        frames = np.repeat(np.concatenate(pieces), counts, axis=0)
        if view.grid is None or self.tiling is None:
            views = self.augment.pixels(frames, rng)[None]
        else:
            views = self.tiling.cut(frames, view.grid, form.height)
        if view.images:
            return views[:, 0]
        return views.reshape(view.clips, form.frames, form.height, form.width, 3)
