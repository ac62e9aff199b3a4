"""Validates a corpus: manifest, hashes, counts, records, duplicates, decoding."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ivjax.data_pipelines.child import usable_cores
from ivjax.data_pipelines.inspect.repeats import Repeats
from ivjax.data_pipelines.inspect.salvage import read_records
from ivjax.data_pipelines.store.dialogues import check_dialogue, unpack_dialogue
from ivjax.data_pipelines.store.intact import intact_clip
from ivjax.data_pipelines.store.manifest import Manifest, ShardInfo, read_manifest
from ivjax.data_pipelines.store.records import ClipError, split
from ivjax.data_pipelines.store.shards import Shards, difference, sha256
from ivjax.data_pipelines.video.stored_clip import check_media
from ivjax.progress import Say


@dataclass(frozen=True)
class CorpusFault:
    """A fault of a shard, or of one of its records.

    Attributes:
        shard: the file.
        record: number of the record in it; None: the fault is the whole file's.
        cause: one of a few words.
        detail: says more.
        clip: id of the record's clip, and its source video; empty if they cannot be read.
    """

    shard: str
    record: int | None
    cause: str
    detail: str
    clip: str = ""

    def __str__(self) -> str:
        place = self.shard if self.record is None else f"{self.shard} record {self.record}"
        return f"{place}{f' ({self.clip})' if self.clip else ''}: {self.cause}: {self.detail}"


def validate(folder: Path, decode: int | None, say: Say) -> list[CorpusFault]:
    """Returns the faults of a corpus; calls `say` with a line for each as soon as it is found.

    Decodes every frame of `decode` evenly spaced clips; None decodes all clips. Raises UserError for a
    folder without a readable manifest.
    """
    manifest = read_manifest(folder)
    faults: list[CorpusFault] = []
    with tempfile.TemporaryDirectory() as scratch:
        checks = _Checks(folder, manifest, decode, Path(scratch))
        for fault in checks.run():
            say(str(fault))
            faults.append(fault)
    return faults


class _Checks:
    """The checks of one corpus; shards are read on as many threads as there are cores."""

    def __init__(self, folder: Path, manifest: Manifest, decode: int | None, scratch: Path):
        self._folder = folder
        self._manifest = manifest
        self._decode = manifest.clips if decode is None else min(decode, manifest.clips)
        self._ids, self._media = Repeats(scratch / "ids"), Repeats(scratch / "media")

    def run(self) -> Iterator[CorpusFault]:
        yield from self._check_names()
        starts: dict[ShardInfo, int] = {}
        clips = 0
        for shard in self._manifest.shards:
            starts.setdefault(shard, clips)  # one that is listed twice is checked once
            clips += shard.count
        with ThreadPoolExecutor(usable_cores()) as pool:
            for faults in pool.map(self._check_shard, starts, starts.values()):
                yield from faults
        for shard in dict.fromkeys(self._manifest.dialogues):
            yield from self._check_dialogues(shard)
        yield from self._check_repeats()

    def _check_names(self) -> Iterator[CorpusFault]:
        """Yields differences between the files of the manifest and of the folder."""
        names = Counter(shard.name for shard in (*self._manifest.shards, *self._manifest.dialogues))
        for name in (name for name, times in names.items() if times > 1):
            yield CorpusFault(name, None, "listed twice", "the manifest names this shard more than once")
        found = {path.name for path in self._folder.glob("*.array_record")}
        for name in sorted(found - names.keys()):
            yield CorpusFault(name, None, "not listed", "the manifest does not name this file")

    def _check_shard(self, shard: ShardInfo, start: int) -> list[CorpusFault]:
        """Returns the faults of a shard; `start` is the number of its first clip in the corpus."""
        path = self._folder / shard.name
        if not path.is_file():
            return [CorpusFault(shard.name, None, "missing", "the file is not there")]
        faults: list[CorpusFault] = []
        found = 0
        for record in read_records(path, shard.count):
            if found < shard.count:
                faults += self._check_record(shard.name, found, record, start + found)
            found += 1
        if found < shard.count:
            lost = f"{shard.count - found} of {shard.count} records cannot be reached"
            faults.append(CorpusFault(shard.name, None, "records lost", lost))
        if found > shard.count:
            counted = f"{found} records are there, the manifest says {shard.count}"
            faults.append(CorpusFault(shard.name, None, "wrong count", counted))
        return faults + self._check_hash(shard, path, bool(faults))

    def _check_hash(self, shard: ShardInfo, path: Path, explained: bool) -> list[CorpusFault]:
        if sha256(path) == shard.sha256:
            # A start would refuse the shard, although it is whole.
            wrong = None if explained else difference(path, shard)
            detail = f"its sha256 is the manifest's, but it {wrong}"
            return [CorpusFault(shard.name, None, "wrong entry", detail)] if wrong else []
        size = path.stat().st_size
        sizes = "" if size == shard.bytes else f", it has {size} bytes instead of {shard.bytes}"
        rest = "" if explained else "; every record is intact, what lies between or behind them is not"
        return [CorpusFault(shard.name, None, "altered", f"its sha256 is not the manifest's{sizes}{rest}")]

    def _check_dialogues(self, shard: ShardInfo) -> Iterator[CorpusFault]:
        """Yields the faults of a shard of conversations."""
        path = self._folder / shard.name
        if not path.is_file():
            yield CorpusFault(shard.name, None, "missing", "the file is not there")
            return
        number = -1
        for number, record in enumerate(read_records(path, shard.count)):
            try:
                if isinstance(record, ClipError):
                    raise record
                check_dialogue(unpack_dialogue(record), self._manifest.clips)
            except ClipError as error:
                yield CorpusFault(shard.name, number, error.cause, error.detail)
        if number + 1 != shard.count:
            counted = f"{number + 1} records are there, the manifest says {shard.count}"
            yield CorpusFault(shard.name, None, "wrong count", counted)
        yield from self._check_hash(shard, path, False)

    def _check_record(
        self, shard: str, number: int, record: bytes | ClipError, place: int
    ) -> list[CorpusFault]:
        try:
            if isinstance(record, ClipError):
                raise record
            clip = intact_clip(record)
            self._ids.add(clip.id.encode("utf-8", "surrogatepass"), place)
            self._media.add(clip.payload, place)
            if self._is_chosen(place):
                check_media(clip)
        except ClipError as error:
            return [CorpusFault(shard, number, error.cause, error.detail, _name(record))]
        except Exception as error:  # a strange clip must not end the check of the others
            detail = f"{type(error).__name__}: {error}"
            return [CorpusFault(shard, number, "error", detail, _name(record))]
        return []

    def _is_chosen(self, place: int) -> bool:
        clips = max(self._manifest.clips, 1)
        # Whole numbers spread the choice evenly, and give the same clips each time.
        return (place + 1) * self._decode // clips > place * self._decode // clips

    def _check_repeats(self) -> Iterator[CorpusFault]:
        shards = Shards(self._folder, self._manifest)
        for repeats, what in ((self._ids, "id"), (self._media, "media bytes")):
            for place, first in sorted(pair for pair in repeats.pairs() if pair[0] < len(shards)):
                shard, number = shards.place(place)
                where = "{} record {}".format(*shards.place(first))
                detail = f"it has the {what} of {where} ({_name(shards[first])})"
                yield CorpusFault(shard, number, "duplicate", detail, _name(shards[place]))


def _name(record: bytes | ClipError) -> str:
    """Returns id and source video of a record's clip, as far as its header can be read."""
    try:
        header = {} if isinstance(record, ClipError) else split(record)[0]
    except ClipError:
        return ""
    clip, video = header.get("id"), header.get("video")
    # Half a character, or a line break, would spoil the line.
    return f"clip {_plain(clip)} of video {_plain(video)}" if clip else ""


def _plain(text: object) -> str:
    return repr(str(text))[1:-1].encode(errors="backslashreplace").decode()
