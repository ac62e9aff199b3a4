"""Plain lists of files, one a line, and folders of files."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ivjax.data_pipelines.sources.columns import read_class
from ivjax.data_pipelines.sources.convert import convert
from ivjax.data_pipelines.sources.media import all_files, existing_media, media_of
from ivjax.data_pipelines.sources.row import NOT_MEDIA, BadRow, SourceRow
from ivjax.data_pipelines.sources.times import check_span, clip_id, parse_time
from ivjax.errors import UserError

# What the words of a line in a list of videos are.
Layout = Literal["kinetics", "videomae", "frame_folders", "intervals", "multisource"]
_FIELDS: dict[Layout, tuple[str, ...]] = {
    "kinetics": ("path", "label"),
    "videomae": ("path", "start", "total"),
    "frame_folders": ("path", "total", "label"),
    "intervals": ("path", "total_time", "start", "end", "label"),
    "multisource": ("source", "path", "total_time", "start", "end", "label"),
}


@dataclass(frozen=True)
class FileList:
    """Lines of fields without column names, in one of five layouts.

    -1 stands for the whole file, or for no label. A label is a number or a name. Any path may be a folder of
    image files, one a frame.

    Attributes:
        table: the list.
        root: the folder that its paths are relative to.
        layout: `kinetics`: path label. `videomae`: path start total, both in frames, of a folder of frames;
            a video has total -1 and is taken whole. `frame_folders`: path total label (Something-Something,
            HMDB51). `intervals`: path total_time start end label (ANet_interval, HACS_interval), in
            seconds. `multisource`: source path total_time start end label.
        split: what separates fields; by default commas if the line has any, else blanks.
        fps: frames a second of folders of frames, which do not say it themselves.
    """

    table: Path
    root: Path
    layout: Layout = "kinetics"
    split: str | None = None
    fps: float | None = None

    def __iter__(self) -> Iterator[SourceRow | BadRow]:
        if not self.table.is_file():
            raise UserError(f"{self.table} does not exist; name a list of files")
        return convert(self._lines(), lambda line: [self._row(line)])

    def _lines(self) -> Iterator[tuple[str, str] | BadRow]:
        with self.table.open("rb") as file:
            for number, line in enumerate(file, 1):
                where = f"{self.table.name} line {number}"
                try:
                    text = line.decode("utf-8-sig").strip()
                except UnicodeDecodeError:
                    yield BadRow(where, "it is not UTF-8")
                    continue
                if text:
                    yield where, text

    def _row(self, line: str) -> SourceRow:
        names = _FIELDS[self.layout]
        fields = dict(zip(names, split_line(line, len(names), self.split), strict=True))
        path = fields["path"]
        file, media = existing_media(self.root, path, self.fps)
        is_folder = Path(file).is_dir()
        start, end = self._span(fields, is_folder)
        label, class_name = read_class(fields.get("label"))
        return SourceRow(
            id=path if "total" in fields else clip_id(path, start, end),
            path=file,
            media=media,
            start=start,
            end=end,
            label=label,
            class_name=class_name,
            video=path,
            attributes={"source": fields["source"]} if "source" in fields else {},
            frame_rate=self.fps if is_folder else None,
        )

    def _span(self, fields: dict[str, str], is_folder: bool) -> tuple[float | None, float | None]:
        """Returns start and end of a clip in seconds."""
        if "end" in fields:
            start, end = _seconds(fields["start"]), _seconds(fields["end"])
            check_span(start, end)
            return start, end
        total = _number(fields, "total")
        if total <= 0 or not is_folder:
            return None, None
        assert self.fps is not None
        first = max(_number(fields, "start"), 0)
        return first / self.fps or None, (first + total) / self.fps


def split_line(line: str, count: int, separator: str | None = None) -> Sequence[str]:
    """Returns the fields of a line. In a line of two fields the path may hold blanks."""
    if separator is None:
        separator = "," if "," in line else None
    fields = [field.strip() for field in line.split(separator)]
    if len(fields) > count and separator is None and count == 2:
        fields = split_path(line)
    if len(fields) != count:
        raise ValueError(f"it has {len(fields)} fields, not {count}")
    return fields


def split_path(line: str) -> list[str]:
    """Returns the path at the start of a line, and the rest; either may hold blanks.

    Kinetics' classes, after which its folders are called, are words such as "riding a bike".
    """
    ends = (space.start() for space in re.finditer(r"\s+", line))
    path = next((line[:end] for end in ends if media_of(line[:end])), None)
    return line.rsplit(None, 1) if path is None else [path, line[len(path) :].strip()]


def _number(fields: dict[str, str], name: str) -> int:
    try:
        return int(fields.get(name, -1))
    except ValueError:
        raise ValueError(f"its {name} {fields[name]!r} is not a whole number") from None


def _seconds(text: str) -> float | None:
    return None if text.startswith("-") else parse_time(text)


@dataclass(frozen=True)
class Folder:
    """Every video and image below a folder; a file's own folder is its class, and its attribute `folder`.

    Attributes:
        root: the folder.
        fps: if given, images of one folder are the frames of one video, so many of them a second.
    """

    root: Path
    fps: float | None = None

    def __iter__(self) -> Iterator[SourceRow | BadRow]:
        found = 0
        for row in convert(self._names(), lambda name: [self._row(name)]):
            found += not (isinstance(row, BadRow) and row.cause == NOT_MEDIA)
            yield row
        if not found:
            raise UserError(f"{self.root} holds no videos and no images")

    def _names(self) -> Iterator[tuple[str, str] | BadRow]:
        """Yields paths relative to the root, each once, and the files that are left aside."""
        last = None
        for path in all_files(self.root):
            media = media_of(path.name)
            is_frame = self.fps is not None and media == "image"
            name = (path.parent if is_frame else path).relative_to(self.root).as_posix()
            if media is None:
                where = os.fsencode(name).decode(errors="backslashreplace")
                yield BadRow(where, "its ending is that of no video or image; a list may name it", NOT_MEDIA)
            elif name != last:
                yield name, name
            last = name if is_frame else last

    def _row(self, name: str) -> SourceRow:
        path, media = existing_media(self.root, name, self.fps)
        parent = Path(name).parent.name
        return SourceRow(
            id=name,
            path=path,
            media=media,
            video=name,
            class_name=parent,
            attributes={"folder": parent} if parent else {},
            frame_rate=self.fps if Path(path).is_dir() else None,
        )
