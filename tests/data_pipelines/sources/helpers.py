"""Small annotation files, and what a source made of them."""

import io
import json
import tarfile

from ivjax.data_pipelines.sources.row import BadRow, SourceRow

ID = "99lSi0tcL21"


def make_media(tmp_path):
    """A folder of files that exist; no source opens them."""
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    for name in (f"{ID}.mp4", "a.mp4", "b.webm", "sub/c.mp4", "d.jpg"):
        (folder / name).write_bytes(name.encode())
    return folder


def write_lines(path, rows):
    """A file of JSON lines; a row of bytes is written as it is."""
    lines = (row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def rows_of(source):
    return [row for row in source if isinstance(row, SourceRow)]


def reasons(source):
    return [(row.where, row.reason) for row in source if isinstance(row, BadRow)]


def assert_reasons(source, expected):
    """Each bad row stands where it should, and its reason holds the words."""
    found = reasons(source)
    assert [where for where, _ in found] == [where for where, _ in expected]
    for (_, reason), (_, words) in zip(found, expected, strict=True):
        assert words in reason
