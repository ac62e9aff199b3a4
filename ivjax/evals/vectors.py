"""Clips and texts of a test set as vectors; clips that cannot be read are listed, and must be few."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError
from ivjax.evals.encoding import ClipEncoder, PairEncoder, in_batches
from ivjax.evals.hearing import hearing_of, is_silent, stacked, unread_rows
from ivjax.evals.hosts import Hosts
from ivjax.evals.items import EvalData, Item, UnscoredClip
from ivjax.evals.own_frames import Reading, reading_of
from ivjax.evals.views import VideoView, read_views
from ivjax.progress import Progress, Say

E = TypeVar("E", bound=ClipEncoder)
Reader: TypeAlias = Callable[..., Generator[Any]]  # called as `read_views` is
_NAMED = 10  # unscored clips that the error spells out


@dataclass(frozen=True)
class Setting(Generic[E]):
    """The model under test, its test set, and how clips are read.

    Attributes:
        encoder: the model.
        data: the test set.
        weights: names the model in the result.
        clips: equal parts of each video, all of which are embedded.
        batch: clips that this process has in memory at once.
        broken: share of the clips that may be unusable.
        hosts: which clips this process reads.
        reading: which frames and which part of the picture are read (None: middle frames, all of it).
        classes: the class names that the model's run holds, in the order of its numbers.
        read: reads views of videos.
        say: takes lines for the person who waits.
    """

    encoder: E
    data: EvalData
    weights: str = ""
    clips: int = 1
    batch: int = 32
    broken: float = 0.01
    hosts: Hosts = Hosts()
    reading: Reading | None = None
    classes: tuple[str, ...] = ()
    read: Reader = read_views
    say: Say = print

    @property
    def read_by(self) -> Reading:
        """How clips are read, where a suite has no rules of its own."""
        return self.reading or reading_of(None, self.encoder.frames, self.clips)


@dataclass(frozen=True)
class EmbeddedSet:
    """The clips that could be scored, the same in every process.

    Attributes:
        items: the clips, without their media.
        vectors: what was kept of their vectors, (n, ...).
        unscored: the other clips.
        silent: how many of the clips are heard without having a sound track.
    """

    items: tuple[Item, ...]
    vectors: np.ndarray
    unscored: tuple[UnscoredClip, ...]
    silent: int = 0


class UnscoredClips:
    """Collects clips that cannot be scored; more than the share `limit` of `total` is an error."""

    def __init__(self, total: int, limit: float):
        self.places: list[int] = []  # of the clips in the test set
        self.clips: list[UnscoredClip] = []
        self._total = total
        self._limit = limit

    def add(self, place: int, clip: UnscoredClip) -> None:
        """Takes note of one; raises UserError once there are certainly too many, and enough to name."""
        self.places.append(place)
        self.clips.append(clip)
        # Later than the first fault, so that one error names several of them.
        if len(self.clips) > _NAMED:
            check_share(self.clips, self._total, self._limit)


def check_share(clips: Sequence[UnscoredClip], total: int, limit: float, what: str = "clips") -> None:
    """Raises UserError if the clips are more than the share `limit` of `total`; names the first ones."""
    if len(clips) <= limit * total:
        return
    more = ["..."] if len(clips) > _NAMED else []
    raise UserError(
        f"{len(clips)} of {total} {what} cannot be scored, more than the allowed share of {limit:.2%}; "
        "mend the test set, or allow more with --broken",
        *map(str, clips[:_NAMED]),
        *more,
    )


def embed(
    setting: Setting,
    items: Iterable[Item | UnscoredClip],
    total: int,
    views: Sequence[VideoView] = (),
    fold: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> EmbeddedSet:
    """Returns the vectors of all items that can be read, in the order of the test set.

    Args:
        setting: the model and the reader.
        items: the test set. Each process draws all of them, and reads its share.
        total: the most items there can be.
        views: the views of each item, but for its medium and times; by default those of the setting.
        fold: makes of an item's vectors (views, D) float32 what is kept of them; by default all.
    """
    hosts = setting.hosts
    views = views or setting.read_by.views
    numbered = hosts.share(enumerate(items))
    # Closing the reader ends its threads also where the model or the scoring fails.
    with (
        Progress(-(-total // hosts.count), "clips", setting.say) as progress,
        contextlib.ExitStack() as stack,
    ):
        feed = _ItemFeed(numbered, views, UnscoredClips(total, setting.broken), progress)
        frames = stack.enter_context(contextlib.closing(_frames(setting, feed)))
        kept = [fold(np.stack(rows)) for rows in in_batches(_vectors(setting, frames), len(views))]
    return _merged(setting, feed, kept, len(views))


def embed_texts(encoder: PairEncoder, texts: Sequence[str]) -> np.ndarray:
    """Returns (n, D) float32; a text that comes again is encoded once."""
    # dict.fromkeys and not a set: the order of the texts decides which batch each is in, and must not vary.
    different = list(dict.fromkeys(texts))
    vectors = np.asarray(encoder.text(different), np.float32)
    _check_finite(vectors, "texts")
    places = {text: place for place, text in enumerate(different)}
    return vectors[[places[text] for text in texts]]


class _ItemFeed:
    """Hands out the views of items, and remembers whose they are and where these stand in the test set."""

    def __init__(
        self,
        items: Iterable[tuple[int, Item | UnscoredClip]],
        views: Sequence[VideoView],
        unscored: UnscoredClips,
        progress: Progress,
    ):
        self._items = items
        self.per_item = views
        self._progress = progress
        self._waiting: deque[tuple[int, Item]] = deque()
        self.unscored = unscored
        self.kept: list[tuple[int, Item]] = []
        self.silent = 0

    def views(self) -> Iterator[VideoView]:
        for place, item in self._items:
            if isinstance(item, UnscoredClip):
                self._progress.advance()
                self.unscored.add(place, item)
                continue
            # Without its media, which may be the bytes of the whole video.
            self._waiting.append((place, replace(item, media="")))
            for view in self.per_item:
                yield replace(
                    view,
                    media=item.media,
                    start=item.start,
                    end=item.end,
                    frame_rate=item.frame_rate,
                )

    def settle(self, error: ClipError | None) -> None:
        """Notes that the views of the next item have come, or cannot be read."""
        place, item = self._waiting.popleft()
        self._progress.advance()
        if error is None:
            self.kept.append((place, item))
        else:
            self.unscored.add(place, UnscoredClip(item.id, error.cause, error.detail))


def _frames(setting: Setting, feed: _ItemFeed) -> Generator[Any]:
    """Yields what is read of every view of every item of which all views can be read."""
    encoder, count = setting.encoder, len(feed.per_item)
    hearing = hearing_of(encoder)
    heard: dict[str, Any] = {} if hearing is None else {"hearing": hearing}
    with contextlib.closing(
        setting.read(feed.views(), encoder.frames, encoder.image, neighbours=count, **heard)
    ) as results:
        # The same generator `count` times: zip takes the views of one item from it, one after the other.
        for parts in zip(*[results] * count, strict=True):
            error = next((part for part in parts if isinstance(part, ClipError)), None)
            feed.settle(error)
            if error is None:
                feed.silent += all(is_silent(part) for part in parts)
                yield from parts


def _vectors(setting: Setting, frames: Iterator[Any]) -> Iterator[np.ndarray]:
    """Yields the vector of every view; all processes embed as many batches as the longest share has."""
    encoder = setting.encoder
    nothing = unread_rows(0, encoder.frames, encoder.image, hearing_of(encoder))
    vectors = np.zeros((0, encoder.width), np.float32)

    def batches() -> Iterator[list[Any]]:
        for rows in in_batches(frames, setting.batch):
            yield rows
            # Here, because `in_step` tells the other processes of what fails between two batches. Raised
            # below, it would leave them waiting for this one.
            _check_finite(vectors, "clips")

    for rows in setting.hosts.in_step(batches()):
        vectors = np.asarray(encoder.video(stacked(rows) if rows else nothing), np.float32)
        yield from vectors


def _merged(setting: Setting, feed: _ItemFeed, kept: list[np.ndarray], views: int) -> EmbeddedSet:
    """Returns the vectors of all processes, in the order of the test set."""
    scored = [(place, item, row) for (place, item), row in zip(feed.kept, kept, strict=True)]
    unscored = list(zip(feed.unscored.places, feed.unscored.clips, strict=True))
    shares = setting.hosts.gather((scored, unscored, feed.silent))
    scored = sorted((each for share in shares for each in share[0]), key=lambda each: each[0])
    unscored = sorted((each for share in shares for each in share[1]), key=lambda each: each[0])
    clips = tuple(clip for _, clip in unscored)
    # Checked again with what all processes found: each of them saw only its own share.
    check_share(clips, len(scored) + len(clips), setting.broken)
    nothing = np.zeros((0, views, setting.encoder.width), np.float32)
    vectors = np.stack([row for *_, row in scored]) if scored else nothing
    silent = sum(share[2] for share in shares)
    return EmbeddedSet(tuple(item for _, item, _ in scored), vectors, clips, silent)


# NaN compares as false with everything, so that ranks would come out perfect or random without a word.
def _check_finite(vectors: np.ndarray, what: str) -> None:
    bad = int(np.count_nonzero(~np.isfinite(vectors).all(-1)))
    if bad:
        raise UserError(f"{bad} of {len(vectors)} vectors of {what} are not finite; the weights are broken")
