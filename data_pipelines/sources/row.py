"""What every source yields: one clip that could be made, or the reason why not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ivjax.data_pipelines.store.records import Media, Turn


@dataclass(frozen=True)
class Row:
    """One clip to be made of file `path`; a member of a tar is `archive.tar::name`.

    `start` and `end` are seconds in the file, None for its whole length. `id` is unique in a source.
    """

    id: str
    path: str
    media: Media = "video"
    start: float | None = None
    end: float | None = None
    captions: tuple[str, ...] = ()
    conversation: tuple[Turn, ...] = ()
    label: int | None = None
    video: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BadRow:
    """A row that is no use: where it stands, and what is wrong with it."""

    where: str
    reason: str


class Source(Protocol):
    """Rows in the order of the annotation file. Bad ones are yielded, never raised."""

    def __iter__(self) -> Iterator[Row | BadRow]: ...
