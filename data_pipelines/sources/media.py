"""Access to media files: plain files, members of tars, cells of tables, folders searched by id."""

import contextlib
import functools
import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from ivjax.data_pipelines.sources.cells import cell_size, read_cell, split_cell
from ivjax.data_pipelines.store.records import MediaKind
from ivjax.errors import UserError

# What a folder is searched for. Fixed and not asked of FFmpeg, whose list also has texts and sound, and
# differs between versions. Files that a list names may end otherwise.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".ismv", ".mj2", ".mkv", ".mk3d", ".webm"),
    *(
        ".ts",
        ".mts",
        ".m2ts",
        ".m2t",
        ".mpg",
        ".mpeg",
        ".mpe",
        ".m1v",
        ".m2v",
        ".mpv",
        ".vob",
        ".mod",
        ".tod",
    ),
    *(".avi", ".divx", ".wmv", ".asf", ".flv", ".ogv", ".ogm", ".rm", ".rmvb", ".mxf", ".gxf", ".dv", ".nut"),
    *(".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".h266", ".266", ".vvc", ".ivf", ".obu", ".y4m"),
    *(".mjpeg", ".mjpg", ".gif", ".apng"),
)
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff")
_TEXTS = {"tty"}  # FFmpeg draws any text as a video
_SEPARATOR = "::"


def media_of(path: str) -> MediaKind | None:
    """Returns video or image by the suffix; None for anything else."""
    suffix = "." + path.rpartition(".")[2].lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "image" if suffix in IMAGE_SUFFIXES else None


def existing_media(
    root: Path, path: object, frame_rate: float | None = None, sound: bool = False
) -> tuple[str, MediaKind]:
    """Returns the file of a path below `root` and its medium; ValueError if it has none or does not exist.

    With a `frame_rate`, a folder is a video too, and with `sound` a file of sound without pictures.
    """
    if not isinstance(path, str) or not path:
        raise ValueError("it has no path" if path in (None, "") else f"{path!r} is not a path")
    media, file = media_of(path), root / path
    if file.is_dir():
        if frame_rate is None:
            raise ValueError(f"{path} is a folder of frames; say how many a second with --set fps=12")
        return str(file), "video"
    if not file.is_file():
        raise ValueError(f"{file} does not exist")
    return str(file), media or probed_media(str(file), sound)


def probed_media(file: str, sound: bool = False) -> MediaKind:
    """Returns video or image by the content of a file; ValueError if it is neither.

    With `sound`, a file of sound without pictures is a video: a model that only hears can read it.
    """
    import av  # here, because most lists name files whose ending is enough

    heard = False
    source = file if split_cell(file) is None else io.BytesIO(read_media(file))
    with contextlib.suppress(av.FFmpegError, ValueError), av.open(source, "r") as container:
        cover = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & cover]
        if streams and container.format.name not in _TEXTS:
            return "image" if container.format.name.endswith("_pipe") else "video"
        heard = bool(container.streams.audio)
    if heard and not sound:
        raise ValueError(f"{file} is a sound without pictures; where it is heard alone, --set sound=true")
    if heard:
        return "video"
    raise ValueError(f"{file} is neither a video nor an image")


def read_media(path: str) -> bytes:
    """Returns the bytes of a file, of `archive.tar::member` or of a cell; OSError if it cannot be read."""
    if split_cell(path) is not None:
        return read_cell(path)
    archive, separator, member = path.partition(f".tar{_SEPARATOR}")
    if not separator:
        return Path(path).read_bytes()
    tar = Path(f"{archive}.tar")
    places = tar_members(tar)
    if member not in places:
        raise FileNotFoundError(f"{tar} has no member {member}")
    offset, size = places[member]
    # Read by offset: tarfile would walk through all members before.
    with tar.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def media_size(path: str) -> int | None:
    """Returns the bytes of a file, a member of a tar, a cell, or a folder's files; None if it is not there.

    Of a cell of a Parquet file, which does not say how long it is, those of its row group.
    """
    archive, separator, member = path.partition(f".tar{_SEPARATOR}")
    try:
        if split_cell(path) is not None:
            return cell_size(path)
        if separator:
            return tar_members(Path(f"{archive}.tar"))[member][1]
        place = Path(path)
        return sum(file.stat().st_size for file in (place.iterdir() if place.is_dir() else [place]))
    except (OSError, KeyError):
        return None


def tar_members(archive: Path) -> Mapping[str, tuple[int, int]]:
    """Returns offset and size of each file of a tar, in order; OSError if it is damaged or compressed."""
    return _members(str(archive), archive.stat().st_mtime_ns)


def member_path(archive: Path, member: str) -> str:
    """Returns the path by which rows name a member of a tar."""
    return f"{archive}{_SEPARATOR}{member}"


@functools.lru_cache(maxsize=64)
def _members(archive: str, changed: int) -> Mapping[str, tuple[int, int]]:
    """Reads the members; `changed` is part of the cache's key, so a rewritten tar is read again."""
    try:
        with open(archive, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            places = {entry.name: (entry.offset_data, entry.size) for entry in tar if entry.isfile()}
            # At a damaged header tarfile stops as if the tar ended there; a real end is zeros.
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise tarfile.ReadError(f"damaged at byte {tar.offset}")
            return places
    except tarfile.TarError as error:
        raise OSError(f"{archive} is no whole plain tar ({error}); unpack it, or fetch it again") from None


class VideoFolder:
    """Finds videos by id (<id>.mp4 and the like) at any depth. Indexed at first use."""

    def __init__(self, folder: Path):
        self._folder = folder

    @functools.cached_property
    def _files(self) -> dict[str, str]:
        """The first video of each name. Images are left out: beside a video they are thumbnails."""
        files: dict[str, str] = {}
        for path in media_files(self._folder):
            if media_of(path.name) == "video":
                files.setdefault(path.stem, str(path))
        return files

    def find(self, name: str) -> str | None:
        """Returns the file of an id, or of a path relative to the folder; None if there is none."""
        if found := self._files.get(name):
            return found
        path = self._folder / name
        return str(path) if path.is_file() else None


def media_files(folder: Path) -> Iterator[Path]:
    """Yields videos and images below a folder, in the order of `all_files`."""
    return (path for path in all_files(folder) if media_of(path.name))


def all_files(folder: Path) -> Iterator[Path]:
    """Yields files below a folder by name, a folder's own before its subfolders', none hidden."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; name the one that holds the videos")
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        # Sorted in place, because os.walk takes its order from this list; disks give another on each machine.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename} cannot be read ({error.strerror}); change who may read it")
