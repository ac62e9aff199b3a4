"""Plain lists of files, one a line, and folders of files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ivjax.data_pipelines.sources.convert import convert
from ivjax.data_pipelines.sources.media import existing_media, media_files
from ivjax.data_pipelines.sources.row import BadRow, Row
from ivjax.data_pipelines.sources.times import check_span, clip_id, parse_time
from ivjax.errors import UserError

Layout = Literal["kinetics", "videomae", "multisource"]
_FIELDS: dict[Layout, tuple[str, ...]] = {
    "kinetics": ("path", "label"),
    "videomae": ("path", "start", "total"),
    "multisource": ("source", "path", "total_time", "start", "end", "label"),
}


@dataclass(frozen=True)
class FileList:
    """Lines of `path label`, `path start total` or `source path total_time start end label`.

    Fields are split at `split`: by default at commas if the line has any, else at blanks. -1 stands for
    the whole file, or for no label. The start of a `path start total` line counts frames of a folder, and
    a video is taken whole.
    """

    table: Path
    root: Path
    layout: Layout = "kinetics"
    split: str | None = None

    def __iter__(self) -> Iterator[Row | BadRow]:
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

    def _row(self, line: str) -> Row:
        names = _FIELDS[self.layout]
        fields = dict(zip(names, split_line(line, len(names), self.split), strict=True))
        path, start, end = fields["path"], None, None
        if self.layout == "videomae" and _number(fields, "total") > 0:
            raise ValueError(f"{path} is a folder of frames; make a video of it first")
        file, media = existing_media(self.root, path)
        if self.layout == "multisource":
            start, end = (_seconds(fields[name]) for name in ("start", "end"))
            check_span(start, end)
        label = _number(fields, "label")
        return Row(
            id=clip_id(path, start, end),
            path=file,
            media=media,
            start=start,
            end=end,
            label=None if label < 0 else label,
            video=path,
            attributes={"source": fields["source"]} if "source" in fields else {},
        )


def split_line(line: str, count: int, separator: str | None = None) -> Sequence[str]:
    """The fields of a line; the path may hold blanks where only it can."""
    if separator is None:
        separator = "," if "," in line else None
    fields = [field.strip() for field in line.split(separator)]
    if len(fields) > count and separator is None and count == 2:
        fields = line.rsplit(None, 1)
    if len(fields) != count:
        raise ValueError(f"it has {len(fields)} fields, not {count}")
    return fields


def _number(fields: dict[str, str], name: str) -> int:
    try:
        return int(fields.get(name, -1))
    except ValueError:
        raise ValueError(f"its {name} {fields[name]!r} is not a whole number") from None


def _seconds(text: str) -> float | None:
    return None if text.startswith("-") else parse_time(text)


@dataclass(frozen=True)
class Folder:
    """Every video and image below a folder; the name of a file's own folder is its attribute `folder`."""

    root: Path

    def __iter__(self) -> Iterator[Row | BadRow]:
        files = media_files(self.root)
        first = next(files, None)
        if first is None:
            raise UserError(f"{self.root} holds no videos and no images")
        names = (path.relative_to(self.root).as_posix() for path in (first, *files))
        return convert(((name, name) for name in names), lambda name: [self._row(name)])

    def _row(self, name: str) -> Row:
        path, media = existing_media(self.root, name)
        parent = Path(name).parent.name
        return Row(
            id=name, path=path, media=media, video=name, attributes={"folder": parent} if parent else {}
        )
