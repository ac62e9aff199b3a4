"""Rows of the public multiple-choice tests: MVBench, Video-MME, Perception Test and those of long videos."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ivjax.data_pipelines.sources.benchmarks.layouts import LAYOUTS, QuestionLayout
from ivjax.data_pipelines.sources.benchmarks.listed_question import ListedQuestion
from ivjax.data_pipelines.sources.choices import lettered
from ivjax.data_pipelines.sources.columns import times_of
from ivjax.data_pipelines.sources.convert import convert
from ivjax.data_pipelines.sources.media import VideoFolder, existing_media
from ivjax.data_pipelines.sources.row import BadRow, RowError, SourceRow
from ivjax.data_pipelines.sources.tables import TABLE_SUFFIXES, Found, load_json, read_table
from ivjax.data_pipelines.store.records import Turn
from ivjax.errors import UserError


@dataclass(frozen=True)
class QuestionSet:
    """A multiple-choice test: a table, or a folder with a table for each task.

    Attributes:
        table: the annotation file, or the folder of such files.
        root: the folder of the videos.
        layout: whose columns they are.
        fps: frames a second of videos that are folders of frames; MVBench has them at 3.
    """

    table: Path
    root: Path
    layout: QuestionLayout = "mvbench"
    fps: float | None = 3.0

    def __iter__(self) -> Iterator[SourceRow | BadRow]:
        for table in task_files(self.table) if self.table.is_dir() else [self.table]:
            yield from convert(self._asked(table), lambda asked: [self._row(asked)])

    def _asked(self, table: Path) -> Iterator[tuple[str, ListedQuestion] | BadRow]:
        read = LAYOUTS[self.layout]
        for number, found in enumerate(_records(table)):
            if isinstance(found, BadRow):
                yield found
                continue
            where, record = found
            try:
                yield from ((where, asked) for asked in read(record, table.stem, number))
            except (KeyError, TypeError, ValueError) as error:
                reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
                yield BadRow(where, reason)

    def _row(self, asked: ListedQuestion) -> SourceRow:
        choice = lettered(asked.text, asked.options, asked.answer)
        file, media = existing_media(self.root, self._place(asked), self.fps)
        more = tuple(existing_media(self.root, other)[0] for other in asked.more)
        start, end = times_of(asked.times)
        return SourceRow(
            id=asked.id,
            path=file,
            media=media,
            start=start,
            end=end,
            conversation=(Turn("user", choice.question), Turn("assistant", choice.answer)),
            video=asked.places[0],
            attributes=dict(asked.attributes),
            frame_rate=self.fps if Path(file).is_dir() else None,
            more=more,
        )

    def _place(self, asked: ListedQuestion) -> str:
        for place in asked.places:
            if (self.root / place).exists():
                return place
        if asked.name and (found := self._folder.find(asked.name)):
            return found
        raise RowError(f"{self.root / asked.places[0]} does not exist", "missing media")

    @functools.cached_property
    def _folder(self) -> VideoFolder:
        return VideoFolder(self.root)


def task_files(folder: Path) -> list[Path]:
    """Returns the tables of a folder, one for each task."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    if not found:
        raise UserError(f"{folder} holds no table of questions; name a folder of {', '.join(TABLE_SUFFIXES)}")
    return found


def _records(table: Path) -> Iterator[Found]:
    """Yields (where, row) pairs; also of Perception Test's object of videos by name."""
    if table.suffix.lower() == ".json" and isinstance(content := load_json(table), dict):
        values = list(content.values())
        if values and all(isinstance(value, dict) and "mc_question" in value for value in values):
            yield from ((f"{table.name} {name}", value) for name, value in content.items())
            return
    yield from read_table(table)
