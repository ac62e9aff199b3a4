"""Clips and texts of a test set as vectors; broken clips are left out, listed, and must be few."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError
from ivjax.evals.encoder import ClipEncoder, Encoder, in_batches
from ivjax.evals.items import EvalData, Fault, Item
from ivjax.evals.views import View, read_views
from ivjax.progress import Progress

E = TypeVar("E", bound=ClipEncoder)
Reader: TypeAlias = Callable[..., Iterator[np.ndarray | ClipError]]  # called as `read_views` is
_NAMED = 10  # broken clips that the error spells out


@dataclass(frozen=True)
class Setting(Generic[E]):
    """What is tested and on what. `weights` names the model in the result.

    clips: equal parts of each video, all of which are embedded. batch: clips in memory at once. broken:
    the share of clips that may be unusable.
    """

    encoder: E
    data: EvalData
    weights: str = ""
    clips: int = 1
    batch: int = 32
    broken: float = 0.01
    read: Reader = read_views
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        if self.clips < 1 or self.batch < 1:
            raise UserError(f"{self.clips} clips a video in batches of {self.batch} cannot be; both are >= 1")


@dataclass(frozen=True)
class Embedded:
    """What could be scored: items without their media, and what was kept of their vectors (n, ...)."""

    items: tuple[Item, ...]
    vectors: np.ndarray
    faults: tuple[Fault, ...]


class FaultList:
    """Broken clips; more than `limit` of all is an error that names the first ones."""

    def __init__(self, total: int, limit: float):
        self.faults: list[Fault] = []
        self._total = total
        self._limit = limit

    def add(self, fault: Fault) -> None:
        """Takes note of one; raises UserError as soon as there are certainly too many, and enough to name."""
        self.faults.append(fault)
        if len(self.faults) > _NAMED:
            self.check(self._total)

    def check(self, total: int) -> None:
        """Raises UserError if there are too many for `total` clips."""
        if len(self.faults) <= self._limit * total:
            return
        named = "".join(f"\n  {fault}" for fault in self.faults[:_NAMED])
        more = "\n  ..." if len(self.faults) > _NAMED else ""
        raise UserError(
            f"{len(self.faults)} of {total} clips cannot be scored, more than the allowed share of "
            f"{self._limit:.2%}; mend the test set, or allow more with --broken{named}{more}"
        )


def embed(
    setting: Setting,
    items: Iterable[Item | Fault],
    total: int,
    plan: Sequence[View] = (),
    fold: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> Embedded:
    """The vectors of all items that can be read. `total` is the most there can be.

    `plan` are the views of each item, but for its medium and times: by default the setting's equal parts.
    `fold` makes of an item's vectors (views, D) float32 what is kept of them, by default all.
    """
    plan = plan or [View("", parts=setting.clips, part=part) for part in range(setting.clips)]
    with Progress(total, "clips", setting.say) as progress:
        feed = _Feed(items, plan, FaultList(total, setting.broken), progress)
        kept = [fold(np.stack(rows)) for rows in in_batches(_vectors(setting, feed), len(plan))]
    faults = feed.faults.faults
    feed.faults.check(len(feed.kept) + len(faults))
    nothing = np.zeros((0, len(plan), setting.encoder.width), np.float32)
    return Embedded(tuple(feed.kept), np.stack(kept) if kept else nothing, tuple(faults))


def embed_texts(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """(n, D) float32; a text that comes again is encoded once."""
    different = list(dict.fromkeys(texts))
    vectors = _finite(encoder.text(different), "texts")
    places = {text: place for place, text in enumerate(different)}
    return vectors[[places[text] for text in texts]]


class _Feed:
    """Hands out the views of items, and remembers whose they are."""

    def __init__(
        self, items: Iterable[Item | Fault], plan: Sequence[View], faults: FaultList, progress: Progress
    ):
        self._items = items
        self.plan = plan
        self._progress = progress
        self._waiting: deque[Item] = deque()
        self.faults = faults
        self.kept: list[Item] = []

    def views(self) -> Iterator[View]:
        for item in self._items:
            if isinstance(item, Fault):
                self._progress.advance()
                self.faults.add(item)
                continue
            self._waiting.append(replace(item, media=""))
            for view in self.plan:
                yield replace(view, media=item.media, start=item.start, end=item.end)

    def settle(self, error: ClipError | None) -> None:
        """The views of the next item have come, or are broken."""
        item = self._waiting.popleft()
        self._progress.advance()
        if error is None:
            self.kept.append(item)
        else:
            self.faults.add(Fault(item.id, error.cause, error.detail))


def _vectors(setting: Setting, feed: _Feed) -> Iterator[np.ndarray]:
    """The vector of every view of every whole item."""
    for rows in in_batches(_frames(setting, feed), setting.batch):
        yield from _finite(setting.encoder.video(np.stack(rows)), "clips")


def _frames(setting: Setting, feed: _Feed) -> Iterator[np.ndarray]:
    """The frames of every view of every whole item."""
    encoder, count = setting.encoder, len(feed.plan)
    results = setting.read(feed.views(), encoder.frames, encoder.image, neighbours=count)
    for parts in zip(*[results] * count, strict=True):
        error = next((part for part in parts if isinstance(part, ClipError)), None)
        feed.settle(error)
        if error is None:
            yield from (part for part in parts if isinstance(part, np.ndarray))


def _finite(vectors: np.ndarray, what: str) -> np.ndarray:
    bad = int(np.count_nonzero(~np.isfinite(vectors).all(-1)))
    if bad:
        raise UserError(f"{bad} of {len(vectors)} vectors of {what} are not finite; the weights are broken")
    return np.asarray(vectors, np.float32)
