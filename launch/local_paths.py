"""Paths of a launched command, and a sentence for each that the machines of the job will not have."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ivjax.experiment.experiment import Experiment
from ivjax.experiment.listing import leaves
from ivjax.experiment.overrides import apply_overrides

# Texts that name a file or a folder: the last parts of experiment paths, and places of command-line options.
_FIELDS = ("path", "data", "train", "classes", "predictions")
_OPTIONS = (
    *("source", "data", "video", "videos", "weights", "tokenizer", "train", "classes", "predictions"),
    *("candidates", "moments", "audio", "evals"),
)
_WRITTEN = ("workdir", "out", "png", "page", "predictions", "answers")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9]*:/+")  # pathlib has already made one slash of gs://'s two
# BRANCH=FILE?head=CHOICE?nonfinite=allow#BRANCH, as in init_from and --weights.
_WEIGHTS = re.compile(
    r"(?:\w+=)?(?P<file>.+?)(?:\?head=(?P<head>.+?))?(?:\?nonfinite=allow)?(?:#[\w/]+)?", re.DOTALL
)
# Every node has its own of these.
_OF_ONE_NODE = ("/tmp", "/var/tmp", "/dev/shm", "/run")


class NamedPath(NamedTuple):
    """A file or folder of a command.

    Attributes:
        option: the override or flag that holds it.
        path: as it is written there.
        written: whether the command writes it, and need not find it.
    """

    option: str
    path: str
    written: bool = False


@dataclasses.dataclass(frozen=True)
class Folders:
    """The folders that the machines of a job see.

    Attributes:
        below: folders from the root; whatever lies below them is there.
        mend: the end of a sentence: what to do with a path that the command reads and that is not there.
        written: the same for one that it writes.
        seen_by: who sees the folders.
        this_machine: whether the machines have the paths of this one, except for those of one node alone.
    """

    below: Sequence[str]
    mend: str
    written: str
    seen_by: str = "the machines"
    this_machine: bool = False

    def warning(self, named: NamedPath) -> str | None:
        """Returns a sentence about a path that the machines will not have; None for one that they have."""
        if _ELSEWHERE.match(named.path):
            return None
        path = Path(named.path).expanduser()
        if self.this_machine:
            path = path.absolute()
        if any(path.is_relative_to(folder) for folder in self.below):
            return None
        why = self._why(named, path)
        mend = (self.written if named.written else self.mend).format(name=path.name)
        return f"{named.option} is {named.path}, {why}; {mend}" if why else None

    def _why(self, named: NamedPath, path: Path) -> str:
        """What is wrong with a path that lies below none of the folders; nothing if it may be there."""
        if self.below and self.this_machine:
            return f"which is in none of the folders that {self.seen_by} see ({', '.join(self.below)})"
        if self.this_machine:
            own = next((folder for folder in _OF_ONE_NODE if path.is_relative_to(folder)), None)
            if own is not None:
                return f"and each node has its own {own}"
            return "" if named.written or path.exists() else "which does not exist"
        return (
            "which would go with the machine's disk" if named.written else "which no machine of the job has"
        )


def paths_of_experiment(experiment: Experiment) -> list[NamedPath]:
    """Returns the files and folders that a run reads: corpora, vocabularies, weights, lists, test sets."""
    whole = dataclasses.replace(experiment, phases=())
    found = dict.fromkeys(_paths_of(leaves(whole)))
    for number, phase in enumerate(experiment.phases):
        for named in _paths_of(leaves(apply_overrides(whole, phase.changes))):
            if named not in found:
                # The path that holds it, which is what an override has to change.
                found[named._replace(option=f"phases.{number}.changes")] = None
    return list(found)


def _paths_of(values: Mapping[str, Any]) -> Iterator[NamedPath]:
    for option, value in values.items():
        if option == "init_from":
            for entry in value:
                yield from _weights(option, entry)
        elif isinstance(value, str):
            name = option.rpartition(".")[2]
            if value and _is_path(name, value, _FIELDS):
                yield NamedPath(option, value, name in _WRITTEN)
        elif isinstance(value, tuple):
            # Changes of one corpus are overrides of its fields.
            changes = [item.partition("=") for item in value if isinstance(item, str)]
            for path, _, text in changes:
                if text and path.rpartition(".")[2] in _FIELDS:
                    yield NamedPath(option, text)


def paths_of_options(options: Mapping[str, Any], words: Sequence[str]) -> list[NamedPath]:
    """Returns the files and folders that the words of a command line give to its options.

    `options` are the values as argparse stores them. Defaults are left out: they are not among the words.
    """
    given = {part for word in words for part in (word, word.partition("=")[2])}
    found: list[NamedPath] = []
    for place, value in options.items():
        name = place.removeprefix("suite_")
        flag = f"--{name.replace('_', '-')}"
        option = flag if any(word.split("=")[0] == flag for word in words) else name
        for text in _texts(value):
            # Path("a/") is Path("a").
            word = next((word for word in given if word and Path(word) == Path(text)), None)
            if word is None or not (isinstance(text, Path) or _is_path(name, text, _OPTIONS)):
                continue
            if name in ("weights", "source", "videos"):
                found += _weights(option, word)
            elif name != "config":
                found.append(NamedPath(option, word, name in _WRITTEN))
    return found


def _texts(value: Any) -> Iterable[str | Path]:
    values = value if isinstance(value, list | tuple) else (value,)
    return [one for one in values if isinstance(one, str | Path) and str(one)]


def _is_path(name: str, text: str, names: Sequence[str]) -> bool:
    """Whether a text is a path: by its name, or because it lies on this machine."""
    # The second finds those of fields and flags that are not known here, such as a user's own field.
    return name in names or ("/" in text and "\n" not in text and Path(text).expanduser().exists())


def _weights(option: str, entry: str) -> Iterator[NamedPath]:
    parts = _WEIGHTS.fullmatch(entry)
    assert parts is not None  # the pattern takes every text
    yield NamedPath(option, parts["file"])
    if (parts["head"] or "").endswith(".json"):
        yield NamedPath(option, parts["head"])


def warnings(named: Iterable[NamedPath], folders: Folders) -> list[str]:
    """Returns a sentence for each path that the machines will not have, each path once."""
    lines = (folders.warning(one) for one in named)
    return list(dict.fromkeys(line for line in lines if line is not None))
