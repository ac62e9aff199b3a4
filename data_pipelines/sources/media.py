"""Where media files lie: plain files, members of tars, folders searched by id."""

import functools
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ivjax.data_pipelines.records import Media
from ivjax.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".gif")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_SEPARATOR = "::"


def media_of(path: str) -> Media | None:
    """Video or image, by suffix; None for anything else."""
    suffix = "." + path.rpartition(".")[2].lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "image" if suffix in IMAGE_SUFFIXES else None


def existing_media(root: Path, path: str) -> tuple[str, Media]:
    """The file of a path below `root`, and what it is; ValueError if it is neither or not there."""
    media, file = media_of(path), root / path
    if media is None:
        raise ValueError(f"{path or 'its path'} is neither a video nor an image")
    if not file.is_file():
        raise ValueError(f"{file} does not exist")
    return str(file), media


def read_media(path: str) -> bytes:
    """The bytes of a file, or of `archive.tar::member`; OSError if it cannot be read."""
    archive, separator, member = path.rpartition(_SEPARATOR)
    if not separator:
        return Path(path).read_bytes()
    places = _members(archive, Path(archive).stat().st_mtime_ns)
    if member not in places:
        raise FileNotFoundError(f"{archive} has no member {member}")
    offset, size = places[member]
    with open(archive, "rb") as file:
        file.seek(offset)
        return file.read(size)


def tar_members(archive: Path) -> Mapping[str, tuple[int, int]]:
    """Offset and size of each file of a tar, in order."""
    return _members(str(archive), archive.stat().st_mtime_ns)


def member_path(archive: Path, member: str) -> str:
    """How a row names a member of a tar."""
    return f"{archive}{_SEPARATOR}{member}"


@functools.lru_cache(maxsize=64)
def _members(archive: str, changed: int) -> Mapping[str, tuple[int, int]]:
    """`changed` makes a tar that was written anew be read anew."""
    try:
        with tarfile.open(archive, "r:") as tar:
            return {entry.name: (entry.offset_data, entry.size) for entry in tar if entry.isfile()}
    except tarfile.TarError as error:
        raise UserError(f"{archive} is no plain tar ({error}); unpack it, or fetch it again") from None


class VideoFolder:
    """Finds files by id: <id>.mp4 and the like, at any depth; indexed at first use."""

    def __init__(self, folder: Path):
        self._folder = folder

    @functools.cached_property
    def _files(self) -> dict[str, str]:
        if not self._folder.is_dir():
            raise UserError(f"{self._folder} is no folder; name the one that holds the videos")
        return {path.stem: str(path) for path in media_files(self._folder)}

    def find(self, name: str) -> str | None:
        """The file of an id, or of a path relative to the folder."""
        if found := self._files.get(name):
            return found
        path = self._folder / name
        return str(path) if path.is_file() else None


def media_files(folder: Path) -> Iterator[Path]:
    """Videos and images below a folder, in the order of their names."""
    yield from sorted(path for path in folder.rglob("*") if media_of(path.name) and path.is_file())
