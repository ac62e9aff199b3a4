"""Charades-STA and its like: sentences, and when in a video they come true."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivjax.data_pipelines.sources.benchmarks.listed_question import KIND
from ivjax.data_pipelines.sources.convert import convert
from ivjax.data_pipelines.sources.media import VideoFolder
from ivjax.data_pipelines.sources.row import BadRow, RowError, SourceRow
from ivjax.data_pipelines.sources.tables import TABLE_SUFFIXES, read_table
from ivjax.data_pipelines.sources.times import check_span, parse_time
from ivjax.data_pipelines.store.records import Turn
from ivjax.errors import UserError

_BETWEEN = "##"  # the video and its times before it, the sentence behind it
GROUNDING = "grounding"  # the kind of question
_COLUMNS = (("timestamp", "timestamps", "span"), ("caption", "sentence", "query", "description"))


@dataclass(frozen=True)
class Moments:
    """Lines such as `AO8RW 0.0 6.9##a person puts a book away.`, or rows of video, caption and timestamp.

    The times are the answer: the video is read whole.

    Attributes:
        table: the annotation file.
        root: the folder of the videos, each named by its id.
    """

    table: Path
    root: Path

    def __iter__(self) -> Iterator[SourceRow | BadRow]:
        videos = VideoFolder(self.root)
        found = self._table() if self.table.suffix.lower() in TABLE_SUFFIXES else self._lines()
        return convert(found, lambda parts: [_row(videos, self.root, *parts)])

    def _lines(self) -> Iterator[tuple[str, tuple[str, Any, Any, str]] | BadRow]:
        if not self.table.is_file():
            raise UserError(f"{self.table} does not exist; name an annotation file")
        with self.table.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{self.table.name} line {number}"
                head, mark, sentence = line.strip().partition(_BETWEEN)
                parts = head.split()
                if not mark or len(parts) != 3:
                    yield BadRow(where, f"it is no `video start end{_BETWEEN}sentence`")
                    continue
                yield where, (parts[0], parts[1], parts[2], sentence)

    def _table(self) -> Iterator[tuple[str, tuple[str, Any, Any, str]] | BadRow]:
        for found in read_table(self.table):
            if isinstance(found, BadRow):
                yield found
                continue
            where, record = found
            times, sentence = (_first(record, names) for names in _COLUMNS)
            if not isinstance(times, list) or len(times) != 2:
                yield BadRow(where, f"its timestamp {times!r} is no pair of seconds")
                continue
            yield where, (str(record.get("video") or ""), *times, str(sentence or ""))


def is_moment_line(line: str) -> bool:
    """Whether a line is one of Charades-STA."""
    return _BETWEEN in line and len(line.partition(_BETWEEN)[0].split()) == 3


def is_moment(record: Any) -> bool:
    """Whether a row of a table has a sentence and the times that it is true of."""
    return isinstance(_first(record, _COLUMNS[0]), list) and bool(_first(record, _COLUMNS[1]))


def _row(videos: VideoFolder, root: Path, video: str, start: Any, end: Any, sentence: str) -> SourceRow:
    begins, ends = parse_time(start), parse_time(end)
    check_span(begins, ends)
    if not sentence.strip():
        raise ValueError("its sentence is empty")
    file = videos.find(video) or videos.find(video.rpartition(".")[0])
    if file is None:
        raise RowError(f"{root / video} does not exist", "missing media")
    answer = f"The event happens in the {begins:g} - {ends:g} seconds."
    turns = Turn("user", sentence.strip()), Turn("assistant", answer)
    return SourceRow(
        f"{video}_{begins:g}_{ends:g}", file, conversation=turns, video=video, attributes={KIND: GROUNDING}
    )


def _first(record: Any, names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if record.get(name)), None)
