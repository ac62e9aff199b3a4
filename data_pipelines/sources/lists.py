"""Plain lists of files, one a line, and folders of files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ivjax.data_pipelines.sources.media import existing_media, media_files, media_of
from ivjax.data_pipelines.sources.row import BadRow, Row
from ivjax.data_pipelines.sources.times import clip_id, parse_time
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
    the whole file, or for no label.
    """

    table: Path
    root: Path
    layout: Layout = "kinetics"
    split: str | None = None

    def __iter__(self) -> Iterator[Row | BadRow]:
        if not self.table.is_file():
            raise UserError(f"{self.table} does not exist; name a list of files")
        with self.table.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield self._line(f"{self.table.name} line {number}", line)

    def _line(self, where: str, line: bytes) -> Row | BadRow:
        try:
            fields = split_line(line.decode().strip(), len(_FIELDS[self.layout]), self.split)
            return self._row(dict(zip(_FIELDS[self.layout], fields, strict=True)))
        except UnicodeDecodeError:
            return BadRow(where, "it is not UTF-8")
        except ValueError as error:
            return BadRow(where, str(error))

    def _row(self, fields: dict[str, str]) -> Row:
        path = fields["path"]
        if self.layout == "videomae" and int(fields["total"]) > 0 or (self.root / path).is_dir():
            raise ValueError(f"{path} is a folder of frames; make a video of it first")
        file, media = existing_media(self.root, path)
        start, end = (_seconds(fields.get(name)) for name in ("start", "end"))
        if self.layout == "videomae":
            start = None
        if end is not None and end <= (start or 0.0):
            raise ValueError(f"it ends at {end:g} s, before its start at {start or 0.0:g} s")
        label = int(fields.get("label", -1))
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


def _seconds(text: str | None) -> float | None:
    return None if text is None or float(text) < 0 else parse_time(text)


@dataclass(frozen=True)
class Folder:
    """Every video and image below a folder; the name of a file's own folder is its attribute `folder`."""

    root: Path

    def __iter__(self) -> Iterator[Row | BadRow]:
        found = False
        for path in media_files(self.root):
            found = True
            name = path.relative_to(self.root).as_posix()
            media = media_of(name)
            assert media is not None
            inside = path.parent != self.root
            attributes = {"folder": path.parent.name} if inside else {}
            yield Row(id=name, path=str(path), media=media, video=name, attributes=attributes)
        if not found:
            raise UserError(f"{self.root} holds no videos and no images")
