"""Visual tokens of videos and images: frames are decoded ahead, encoded and merged some clips at a time."""

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.data_pipelines.dialogue.seeing import ClipForm, MediaView, Seeing
from ivjax.data_pipelines.dialogue.style import SeenMedia
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.video.clip_stream import ClipStream
from ivjax.errors import UserError
from ivjax.generate.opening import OpenedVideo, VideoInput, opened
from ivjax.generate.seeing import run_see
from ivjax.models.bridge import Question
from ivjax.models.dialogue.model import DialogueModel
from ivjax.ops.cut import Params
from ivjax.progress import Progress, Say

_NO_DRAWS = np.random.default_rng(0)  # rules and augmentations of tests draw nothing
_AHEAD = 2  # batches of clips that are decoded ahead of the device
_SERIALS = itertools.count()  # of everything that was ever watched; a number stands for 2**32 tokens


@dataclass(frozen=True, eq=False)
class Watched:
    """What a model has seen of the media of a conversation. Its visual tokens lie in the host's memory.

    Attributes:
        media: what the text says of each medium, and where its visual tokens are.
        visual: all visual tokens (n, C), those of clips before those of still images.
        serials: (n,) int64, a number for each visual token that no other one has.
        clip_tokens: visual tokens of a clip.
        frames: frames that were read, repeats that fill up a clip left out.
        unmerged: tokens of the tower before the bridge merged them.
        seconds: `decode` in the thread that reads, `wait` for it, and `see`, the tower and the bridge.
    """

    media: tuple[SeenMedia, ...]
    visual: np.ndarray
    serials: np.ndarray
    clip_tokens: int
    frames: int
    unmerged: int
    seconds: Mapping[str, float]

    def with_clips(self, first: int, other: "Watched") -> "Watched":
        """Returns the same with the clips of `other` in place of those from number `first` on.

        So a video that differs from another one in a few clips is watched in these alone.
        """
        start, count = first * self.clip_tokens, len(other.visual)
        if other.clip_tokens != self.clip_tokens or not 0 <= start <= len(self.visual) - count:
            raise UserError(
                f"{count // other.clip_tokens} clips cannot take the place of clips from {first} on"
            )
        visual, serials = self.visual.copy(), self.serials.copy()
        visual[start : start + count], serials[start : start + count] = other.visual, other.serials
        return replace(self, visual=visual, serials=serials)


class Watcher:
    """Makes visual tokens of media, by one compiled program for clips and one for still images."""

    def __init__(self, model: DialogueModel, params: Params, seeing: Seeing, clips: int = 8):
        """Keeps what all media share.

        Args:
            model: the dialogue model.
            params: its parameters.
            seeing: which frames of videos are read, and how; nothing is drawn.
            clips: that are encoded at a time.
        """
        if clips < 1:
            raise UserError(f"clips must be 1 or more, got {clips}")
        size = model.size
        self.form = ClipForm(size.least_frames, *size.vision.image)
        if size.clip_frames(4 * self.form.frames) == 4 * self.form.frames:
            raise UserError(
                "the model's bridge merges a whole video at once; give it a bridge of clip_frames"
            )
        self._model, self._params, self._seeing, self._clips = model, params, seeing.for_tests(), clips

    def watch(
        self,
        inputs: Sequence[VideoInput],
        frames: int | None = None,
        question: Question | None = None,
        say: Say | None = None,
    ) -> Watched:
        """Returns what the model sees; raises ClipError for media, UserError for what is asked of them.

        Args:
            inputs: videos and images, in the order in which the text speaks of them.
            frames: frames of each video at most, spread evenly (None: those of the model's own rule).
            question: what is asked, (1, Q), for bridges that read it.
            say: takes lines about the progress (None: nobody waits).
        """
        began, waiting = time.perf_counter(), _Waiting()
        with ExitStack() as stack:
            videos = [stack.enter_context(opened(each)) for each in inputs]
            views = [self._view(video, each, frames) for video, each in zip(videos, inputs, strict=True)]
            tokens = _Tokens(self._model, views, self._seeing)
            progress = None
            if say is not None:
                total = sum(view.clips + view.images for view in views)
                progress = stack.enter_context(Progress(total, "clips", say))
            for still in (False, True):
                chosen = [number for number, view in enumerate(views) if bool(view.images) == still]
                pieces = (
                    (number, piece)
                    for number in chosen
                    for piece in self._pieces(views[number], videos[number], stack)
                )
                for done in self._see(waiting.timed(_batched(pieces, self._clips)), question, tokens):
                    if progress is not None:
                        progress.advance(done)
        whole = time.perf_counter() - began
        return Watched(
            tuple(self._seeing.tokens(views)),
            tokens.in_order(),
            (next(_SERIALS) << 32) + np.arange(len(tokens.visual)),
            self._seeing.clip_tokens,
            sum(view.seen for view in views),
            self._unmerged(views),
            {
                "decode": sum(video.seconds for video in videos),
                "wait": waiting.seconds,
                "see": whole - waiting.seconds,
            },
        )

    def _view(self, video: OpenedVideo, asked: VideoInput, frames: int | None) -> MediaView:
        seeing, part, least = self._seeing, video.part, self.form.frames
        if asked.numbers is not None:
            numbers = np.asarray(asked.numbers)
            if not len(numbers) or len(numbers) % least:
                raise UserError(
                    f"{len(numbers)} frames are no whole clips of {least}; take a multiple of {least}"
                )
            return MediaView(part, numbers, len(numbers), None, len(numbers) // least, 0)
        if frames is not None and part.kind == "video":
            if frames < least:
                raise UserError(f"{frames} frames are less than a clip of the model; ask for {least} or more")
            # Whole clips, unless the video has fewer frames than that.
            seeing = replace(seeing, rule=Intervals(min(frames - frames % least, part.frames), "middle"))
        with asked.naming():
            return seeing.view(part, self.form, _NO_DRAWS)

    def _pieces(self, view: MediaView, video: OpenedVideo, stack: ExitStack) -> Iterator[np.ndarray]:
        """Yields (n, T, H, W, 3) uint8 of one medium; of tiles, all views of a clip before the next clip."""
        seeing, form = self._seeing, self.form
        box = seeing.augment.box(view.part.width, view.part.height, _NO_DRAWS) if view.grid is None else None
        size = (form.height, form.width) if view.grid is None else None
        frames = 1 if view.images else form.frames
        stream = ClipStream(video, view.frames, size, frames, self._clips, _AHEAD, box)
        stack.callback(stream.close)  # before the video is closed, which the thread may still read
        for clips in stream:
            if view.grid is None or seeing.tiling is None:
                yield clips
                continue
            for clip in clips:
                yield seeing.tiling.cut(clip, view.grid, form.height)
        stream.close()

    def _see(
        self, batches: "Iterable[_Batch]", question: Question | None, tokens: "_Tokens"
    ) -> Iterator[int]:
        """Fills in the visual tokens of batches of clips; yields how many clips each has."""
        before: tuple[_Batch, jax.Array] | None = None
        for batch in batches:
            asked = None
            if question is not None:
                asked = Question(*(jnp.repeat(part, len(batch.pictures), axis=0) for part in question))
            found = run_see(self._model, self._params, batch.pictures, asked)
            found.copy_to_host_async()
            # One batch behind: the host reads tokens while the device makes the next ones.
            if before is not None:
                yield tokens.add(*before)
            before = (batch, found)
        if before is not None:
            yield tokens.add(*before)

    def _unmerged(self, views: Sequence[MediaView]) -> int:
        frames = self.form.frames
        clips = sum(view.clips for view in views) * self._model.size.unmerged_tokens(frames)
        images = sum(view.images for view in views)
        return clips + (images * self._model.size.unmerged_tokens(1) if images else 0)


class _Batch(NamedTuple):
    """Clips of one or several media (B, T, H, W, 3), filled up at the end; `owners` says whose they are."""

    pictures: np.ndarray
    owners: tuple[int, ...]


class _Tokens:
    """The visual tokens of all media, each written to its place as it comes."""

    def __init__(self, model: DialogueModel, views: Sequence[MediaView], seeing: Seeing):
        self._views = views
        counts = [view.clips * seeing.clip_tokens + view.images * seeing.image_tokens for view in views]
        self.visual = np.zeros((sum(counts), model.size.bridge.out), model.language.dtype)
        # Of clips before those of still images, as the text counts them.
        self._parts: dict[int, np.ndarray] = {}
        start = 0
        for number in sorted(range(len(views)), key=lambda number: bool(views[number].images)):
            self._parts[number] = self.visual[start : start + counts[number]]
            start += counts[number]
        self._filled = dict.fromkeys(self._parts, 0)

    def add(self, batch: _Batch, tokens: jax.Array) -> int:
        """Writes the visual tokens (B, k, C) of a batch; returns how many clips it has."""
        found = np.asarray(tokens)
        for one, owner in zip(found, batch.owners, strict=False):
            place = self._filled[owner]
            self._parts[owner][place : place + len(one)] = one
            self._filled[owner] += len(one)
        return len(batch.owners)

    def in_order(self) -> np.ndarray:
        """Returns all of them; of tiles, all clips of one before those of the next, as in training."""
        for number, view in enumerate(self._views):
            if view.views > 1:
                part = self._parts[number]
                by_clip = part.reshape(
                    -1, view.views, len(part) // (view.clips + view.images), part.shape[-1]
                )
                part[:] = np.moveaxis(by_clip, 1, 0).reshape(part.shape)
        return self.visual


def _batched(pieces: Iterable[tuple[int, np.ndarray]], size: int) -> Iterator[_Batch]:
    """Yields batches of `size` clips; the last one repeats its last clip, for one program."""
    clips: list[np.ndarray] = []
    owners: list[int] = []
    for owner, piece in pieces:
        for clip in piece:
            clips.append(clip)
            owners.append(owner)
            if len(clips) == size:
                yield _Batch(np.stack(clips), tuple(owners))
                clips, owners = [], []
    if clips:
        yield _Batch(np.stack(clips + [clips[-1]] * (size - len(clips))), tuple(owners))


class _Waiting:
    """Adds up the seconds that an iterator lets its reader wait."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, batches: Iterator[_Batch]) -> Iterator[_Batch]:
        """Yields what the iterator does."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.seconds += time.perf_counter() - began
            if batch is None:
                return
            yield batch
