"""Packs conversations into the rows of a few bucket sizes: a deterministic function of their sizes."""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

_FULL = 0.9  # rows of a bucket that are less full are packed anew, into rows of the next larger bucket
_TRIED = 64  # rows that are looked at for each conversation; more would hardly find a better one


class TalkSize(NamedTuple):
    """The size of a conversation, or of a bucket's row: tokens, clips, still images."""

    tokens: int
    clips: int = 0
    images: int = 0

    def fits(self, room: "TalkSize") -> bool:
        """Whether it fits into a room."""
        return self.tokens <= room.tokens and self.clips <= room.clips and self.images <= room.images

    def without(self, other: "TalkSize") -> "TalkSize":
        """Returns the room that is left beside another."""
        return TalkSize(self.tokens - other.tokens, self.clips - other.clips, self.images - other.images)


@dataclass
class _Row:
    """A row that is being filled."""

    room: TalkSize
    members: list[int] = field(default_factory=list)


BucketRows = dict[str, list[tuple[int, ...]]]  # bucket -> the conversations of each of its rows, by number


def _by_size(buckets: Mapping[str, TalkSize]) -> list[str]:
    """Returns the names of buckets, the smallest first: what a row sees costs more than what it says."""

    def cost(name: str) -> tuple[int, int, str]:
        return buckets[name].clips + buckets[name].images, buckets[name].tokens, name

    return sorted(buckets, key=cost)


def pack(
    sizes: Sequence[TalkSize],
    buckets: Mapping[str, TalkSize],
    rng: np.random.Generator,
    together: bool = True,
) -> BucketRows:
    """Packs conversations, each of which fits a bucket; without `together` each has a row of its own.

    A conversation goes into the smallest bucket that holds it. What fills the rows of a bucket badly goes
    on to the next larger one, and the largest takes what is left.
    """
    names = _by_size(buckets)
    # Ties in length are broken by chance, so that conversations of one video do not share their rows.
    rank = rng.permutation(len(sizes))
    homes: dict[str, list[int]] = {name: [] for name in names}
    for number, size in enumerate(sizes):
        homes[next(name for name in names if size.fits(buckets[name]))].append(number)
    rows: BucketRows = {}
    for place, name in enumerate(names):
        room = buckets[name]
        found = _fill(homes[name], sizes, room, rank, together)
        larger = next((other for other in names[place + 1 :] if room.fits(buckets[other])), None)
        if together and larger is not None:
            homes[larger] += [number for row in found if _share(row, room) < _FULL for number in row.members]
            found = [row for row in found if _share(row, room) >= _FULL]
        rows[name] = [tuple(row.members) for row in found]
    return {name: rows[name] for name in buckets}


def _share(row: _Row, whole: TalkSize) -> float:
    """How full a row is, by whatever it is fullest of."""
    pairs = zip(row.room, whole, strict=True)
    return max(1 - left / most for left, most in pairs if most)


def _fill(
    numbers: Sequence[int], sizes: Sequence[TalkSize], room: TalkSize, rank: np.ndarray, together: bool
) -> list[_Row]:
    """Best fit, the longest first: each conversation goes where it leaves least room."""
    if not numbers:
        return []
    rows: list[_Row] = []
    open_rows: dict[int, list[_Row]] = {}  # by the tokens that they have room for
    rooms: list[int] = []  # the keys of it, ascending
    least = TalkSize(*map(min, zip(*(sizes[number] for number in numbers), strict=True)))
    for number in sorted(numbers, key=lambda number: (-sizes[number].tokens, rank[number])):
        size = sizes[number]
        found = _best(size, open_rows, rooms) if together else None
        if found is None:
            found = _Row(room)
            rows.append(found)
        else:
            _forget(found, open_rows, rooms)
        found.members.append(number)
        found.room = found.room.without(size)
        # A row that is full of clips would be tried for every conversation that has tokens to fit.
        if not least.fits(found.room):
            continue
        if found.room.tokens not in open_rows:
            open_rows[found.room.tokens] = []
            bisect.insort(rooms, found.room.tokens)
        open_rows[found.room.tokens].append(found)
    return rows


def _best(size: TalkSize, open_rows: Mapping[int, list[_Row]], rooms: Sequence[int]) -> _Row | None:
    tried = 0
    for tokens in rooms[bisect.bisect_left(rooms, size.tokens) :]:
        for row in open_rows[tokens]:
            if size.fits(row.room):
                return row
            tried += 1
            if tried >= _TRIED:
                return None
    return None


def _forget(row: _Row, open_rows: dict[int, list[_Row]], rooms: list[int]) -> None:
    tokens = row.room.tokens
    # By identity: rows may be equal.
    place = next(place for place, other in enumerate(open_rows[tokens]) if other is row)
    del open_rows[tokens][place]
    if not open_rows[tokens]:
        del open_rows[tokens]
        rooms.remove(tokens)
