"""Videos by name: files, and the clips of corpora as `folder::number::id`."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from ivjax.data_pipelines.sources.media import media_files, media_of
from ivjax.data_pipelines.store.clips import is_corpus, open_clips
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError
from ivjax.evals.items import CorpusItems, EvalData, Item, UnscoredClip
from ivjax.experiment.bucket_files import is_bucket

_SEPARATOR = "::"


class MediaList:
    """The media that a command names: files, globs, folders of videos, corpus folders, members of tars.

    Yields items whose id is the name under which `find_medium` finds them again. A file comes once.
    """

    def __init__(self, words: Sequence[str]):
        self._named: dict[str, CorpusItems | None] = {}  # None: a file
        for word in words:
            self._add(word)

    def __len__(self) -> int:
        return sum(1 if clips is None else len(clips) for clips in self._named.values())

    def __iter__(self) -> Iterator[Item | UnscoredClip]:
        for name, clips in self._named.items():
            if clips is None:
                yield Item(name, name)
            else:
                yield from _named(name, clips)

    def _add(self, word: str) -> None:
        path = Path(word).expanduser()
        if is_corpus(word):
            # A path would lose a slash of an address.
            name = word if is_bucket(word) else str(path)
            self._named[name] = _clips(name)
        elif path.is_dir():
            self._named |= dict.fromkeys(_videos(path))
        elif path.is_file() or Path(str(path).partition(_SEPARATOR)[0]).is_file():
            self._named[str(path)] = None
        else:
            for each in _matches(str(path)):
                self._add(each)


def _matches(pattern: str) -> list[str]:
    found = glob.glob(pattern, recursive=True)
    # glob gives files in the order of the disk, which differs between machines.
    wanted = sorted(each for each in found if media_of(each) or Path(each).is_dir())
    if not wanted:
        state = "matches no video" if found else "does not exist"
        raise UserError(f"{pattern} {state}; name videos, folders, globs or a corpus folder")
    return wanted


def _clips(folder: str) -> CorpusItems:
    items = CorpusItems(EvalData(folder))
    if not len(items):
        raise UserError(f"{folder} holds no clips; name a corpus that does")
    return items


def _videos(folder: Path) -> list[str]:
    found = [str(file) for file in media_files(folder) if media_of(file.name) == "video"]
    if not found:
        raise UserError(f"{folder} holds no videos; name a folder that does")
    return found


def _named(folder: str, clips: CorpusItems) -> Iterator[Item | UnscoredClip]:
    for number, item in enumerate(clips):
        if isinstance(item, UnscoredClip):
            yield item
        else:
            yield Item(_SEPARATOR.join((folder, str(number), item.id)), item.media)


def find_medium(name: str, folder: str) -> str | bytes:
    """Returns the file of a name, or the bytes of a clip; relative names belong to `folder`.

    Raises ClipError if the corpus does not hold the clip any more.
    """
    place, separator, inside = name.partition(_SEPARATOR)
    place = found_from(place, folder)
    if not is_corpus(place):
        return place + separator + inside
    number, _, wanted = inside.partition(_SEPARATOR)
    clips = open_clips(place)
    try:
        # The id too: a corpus that was built anew may have another clip under this number.
        if int(number) < len(clips) and (clip := clips[int(number)]).id == wanted:
            return clip.payload
    finally:
        clips.close()
    raise ClipError("missing", f"{place} does not hold the clip {wanted} any more")


def found_from(path: str, folder: str) -> str:
    """Returns a path that was given in `folder`, or the path as it is where that exists."""
    elsewhere = Path(folder, path)
    # Weights may name a branch of a file, PATH#BRANCH.
    there = [place for place in (str(elsewhere), str(elsewhere).rpartition("#")[0]) if place]
    if Path(path).expanduser().exists() or not any(Path(place).exists() for place in there):
        return path
    return str(elsewhere)
