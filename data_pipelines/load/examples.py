"""Makes examples from stored clips. Runs in worker processes: neither jax nor grain is imported here."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol

import numpy as np

from ivjax.data_pipelines.fields.field import ArraySpec, Field, RowDraw, generator
from ivjax.data_pipelines.load.batch_rows import PLACED, BatchRow
from ivjax.data_pipelines.load.mixture import CorpusFields
from ivjax.data_pipelines.store.clips import Clips, open_clips
from ivjax.data_pipelines.store.manifest import BucketShard
from ivjax.data_pipelines.store.numbering import Concatenation
from ivjax.data_pipelines.store.records import Clip, ClipError, check_times
from ivjax.data_pipelines.store.shard_cache import ShardCache
from ivjax.data_pipelines.video.decode import Video
from ivjax.data_pipelines.video.frame_cache import CachedVideo, FrameCache
from ivjax.errors import UserError

_LOOKED_AT = 16  # records of a corpus, at a start
_NEAR_TRIES = 4  # to find a clip that can be used, before the shard itself must be at fault


class OpenClip:
    """A stored clip whose pictures are opened once, when the first field asks for them."""

    def __init__(self, record: Clip, number: int, cache: FrameCache | None):
        self.record = record
        self._number = number
        self._cache = cache
        self._video: Video | CachedVideo | None = None

    @property
    def video(self) -> Video | CachedVideo:
        """The pictures, opened from the cache if there is one, when they are first asked for."""
        if self._video is None:
            payload = self.record.payload
            self._video = Video(payload) if self._cache is None else self._cache.open(self._number, payload)
        return self._video

    def kept(self, columns: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns what `make` makes of the clip, (n, columns) float32, from the cache if there is one."""
        return make() if self._cache is None else self._cache.kept(self._number, columns, make)

    def __enter__(self) -> "OpenClip":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._video is not None:
            self._video.__exit__(kind, error, trace)


class LeftOut(NamedTuple):
    """A part of an example that cannot be used: the numbers of corpus and record, and why."""

    corpus: int
    record: int
    cause: str
    detail: str


class Example(dict[str, np.ndarray]):
    """The arrays of an example by name, and the parts of it that are `left_out`."""

    left_out: tuple[LeftOut, ...] = ()


class Placed(Protocol):
    """Records whose place in the files of a corpus is known."""

    def place(self, number: int) -> tuple[str, int]:
        """Returns the shard's name and the record's number."""
        ...

    def close(self) -> None:
        """Closes the files."""
        ...


class Maker(Protocol):
    """Makes examples by number; a decode process gets a copy of it."""

    cache: FrameCache | None

    @property
    def spec(self) -> Mapping[str, ArraySpec]:
        """What is made of an example."""
        ...

    @property
    def folders(self) -> Sequence[str]:
        """The folders of the corpora."""
        ...

    @property
    def corpora(self) -> Sequence[Placed]:
        """The corpora, in the order of `folders`."""
        ...

    @property
    def clips(self) -> int:
        """The number of examples."""
        ...

    def make(self, index: int, number: int) -> Example:
        """Returns example `number` at global place `index`; raises ClipError if it is broken."""
        ...

    def locate(self, number: int) -> tuple[int, int]:
        """Returns the corpus of an example, and the number of a record that it is made of."""
        ...

    def remote(self, number: int) -> Sequence[BucketShard]:
        """Returns the shards in buckets that an example is made of."""
        ...

    def replacement(self, number: int, index: int, attempt: int) -> int:
        """Returns the example that stands in for a broken one: the same on every host."""
        ...

    def remarks(self, number: int, row: BatchRow) -> Sequence[str]:
        """Returns words that the log counts, of example `number` whose arrays are in `row`."""
        ...

    def close(self) -> None:
        """Closes the files."""
        ...


class ExampleMaker:
    """Makes the arrays of `spec` from clip numbers that run through all corpora. Can be pickled.

    Each corpus brings the fields that make its arrays; those of PLACED are the loader's. The process that
    decodes sets `cache`, which cannot be pickled.

    Args:
        corpora: what is read, and how.
        spec: the arrays.
        seed: what all draws follow from.
        repeats: at how many places in a row a clip stands.
        shards: copies the shards of corpora in buckets.
        near: whether clips that stand in for broken ones are first looked for in the same shard.
    """

    cache: FrameCache | None = None

    def __init__(
        self,
        corpora: Sequence[CorpusFields],
        spec: Mapping[str, ArraySpec],
        seed: int,
        repeats: int = 1,
        shards: ShardCache | None = None,
        near: bool = False,
    ):
        self.folders = tuple(corpus.folder for corpus in corpora)
        self.spec = dict(spec)
        self._seed = seed
        self._repeats = repeats
        self._near = near
        # Fields check themselves before any file is opened: a wrong option is cheaper to meet than a corpus.
        self._fields = [_wanted(corpus, self.spec) for corpus in corpora]
        self.corpora = [open_clips(folder, shards) for folder in self.folders]
        self._parts = Concatenation(len(corpus) for corpus in self.corpora)

    def make(self, index: int, number: int) -> Example:
        """Returns the example of clip `number` at global place `index`; raises ClipError if it is broken."""
        corpus, local = self.locate(number)
        draw = RowDraw(self._seed, index, self._first(index))
        example = Example()
        try:
            record = self.corpora[corpus][local]
            check_times(record)
            with OpenClip(record, number, self.cache) as clip:
                # The record is opened once for all fields, and its video only if one of them asks for it.
                for _, field, wanted in self._fields[corpus]:
                    arrays = field.make(clip, wanted, draw)
                    for name, spec in wanted.items():
                        example[name] = arrays[name].astype(spec.dtype, copy=False)
        except (ClipError, UserError):
            raise
        except Exception as error:  # whatever a strange clip provokes must not end the run
            raise ClipError("error", f"{type(error).__name__}: {error}") from error
        return example

    def remarks(self, number: int, row: BatchRow) -> Sequence[str]:
        """Returns words that the log counts: what fields have done without in example `number`."""
        found: list[str] = []
        for _, field, wanted in self._fields[self.locate(number)[0]]:
            if hasattr(field, "remarks"):
                found += field.remarks({name: row[name] for name in wanted})
        return found

    def check_records(self, path: str) -> list[str]:
        """Raises UserError if no record of a corpus has what a field reads; the corpora stand at `path`.

        Looks at a few records of each corpus, and at no media: workers may crash over these. Returns a
        sentence for each field that does without where some records lack it.
        """
        remarks: list[str] = []
        for number, corpus in enumerate(self.corpora):
            records = list(_readable(corpus))
            for name, field, _ in self._fields[number]:
                faults = _faults(field, records)
                if faults and len(faults) < len(records) and (instead := getattr(field, "instead", "")):
                    remarks.append(
                        f"{path}.{number}.path={self.folders[number]}: {len(faults)} of {len(records)} clips "
                        f"that were looked at lack what the field {name} reads ({faults[0]}); {instead}"
                    )
                if records and len(faults) == len(records):
                    raise UserError(
                        f"{path}.{number}.path={self.folders[number]}: none of {len(records)} clips has what "
                        f"the field {name} reads ({faults[0]}); build the corpus from annotations that have "
                        "it, or name another one"
                    )
        return remarks

    @property
    def clips(self) -> int:
        """Number of clips in all corpora."""
        return len(self._parts)

    def range(self, corpus: int) -> range:
        """Returns the clip numbers of a corpus."""
        return self._parts.range(corpus)

    def locate(self, number: int) -> tuple[int, int]:
        """Returns the number of the corpus of a clip, and the clip's number inside it."""
        return self._parts.locate(number)

    def remote(self, number: int) -> Sequence[BucketShard]:
        """Returns the shard of a clip if it is in a bucket."""
        corpus, local = self.locate(number)
        shard = self.corpora[corpus].remote(local)
        return () if shard is None else (shard,)

    def replacement(self, number: int, index: int, attempt: int) -> int:
        """Returns the clip of the same corpus that stands in for a broken one: the same on every host."""
        corpus, local = self.locate(number)
        choices = self.range(corpus)
        if self._near and attempt < _NEAR_TRIES:
            # Others may not be on this machine, and the order does not come to them for long.
            numbering = self.corpora[corpus].numbering
            inside = numbering.range(numbering.locate(local)[0])
            choices = choices[inside.start : inside.stop]
        # All draws up to this attempt are made again, so a replacement depends on nothing that went before.
        draws = generator(self._seed, self._first(index), "replacement").integers(
            len(choices), size=attempt + 1
        )
        return choices[int(draws[attempt])]

    def _first(self, index: int) -> int:
        """The first of the places at which the clip at `index` is repeated."""
        return index - index % self._repeats

    def close(self) -> None:
        """Closes the files."""
        for corpus in self.corpora:
            corpus.close()


class MissingArraysError(UserError):
    """No field makes arrays that the stage wants. `names` are theirs, for who can do without them."""

    def __init__(self, names: Sequence[str], path: str, given: Iterable[str]):
        super().__init__(
            f"the stage wants {', '.join(names)} in its batch, which no field of {path} gives; "
            f"the fields give {', '.join(given)}"
        )
        self.names = tuple(names)


# A field by name, and those of its arrays that the stage wants.
FieldArrays = tuple[str, Field, dict[str, ArraySpec]]


def _readable(corpus: Clips) -> Iterator[Clip]:
    """Yields some records; a damaged one is left to the run, which counts them."""
    for number in corpus.samples(_LOOKED_AT):
        with contextlib.suppress(ClipError):
            yield corpus[number]


def _faults(field: Field, records: Iterable[Clip]) -> list[ClipError]:
    """Returns why records are of no use to a field."""
    # Fields that are no SingleArray may leave it out.
    check = getattr(field, "check_record", None)
    if check is None:
        return []
    faults: list[ClipError] = []
    for record in records:
        try:
            check(record)
        except ClipError as error:
            faults.append(error)
    return faults


def _wanted(corpus: CorpusFields, spec: Mapping[str, ArraySpec]) -> list[FieldArrays]:
    """Returns the fields of a corpus that the stage has a use for, checked against what it wants."""
    found: list[FieldArrays] = []
    given: dict[str, str] = {}  # array -> the field that makes it
    for name, field in corpus.fields.items():
        for array in field.arrays(name):
            if array in given or array in PLACED:
                other = given.get(array, "the loader")
                raise UserError(f"{corpus.path_of(name)} makes {array}, and so does {other}; rename one")
            given[array] = name
        wanted = {array: spec[array] for array in field.arrays(name) if array in spec}
        if wanted:
            field.check(corpus.path_of(name), wanted)
            found.append((name, field, wanted))
    if missing := sorted(set(spec) - PLACED - set(given)):
        raise MissingArraysError(missing, corpus.path, given)
    return found
