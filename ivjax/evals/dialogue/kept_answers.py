"""Answers on the disk, each written as soon as it is there, so that an interrupted test goes on."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from ivjax.drafts import try_lock
from ivjax.errors import UserError

KeptAnswer = Mapping[str, Any]  # what was said to one question, ready for JSON


class KeptAnswers:
    """The answers of this process and, beside them, those that earlier runs left.

    The first line of each file says which test it is of; answers to another test are refused. Each line says
    what was asked, so that a question that has changed since is asked again.
    """

    def __init__(self, file: str | None, test: Mapping[str, Any], asked: Mapping[int, str], process: int = 0):
        """Reads what is there.

        Args:
            file: where answers are kept; None keeps none.
            test: what decides the answers: model, test set, options.
            asked: a digest of each question, by its place in the test set.
            process: number of this process, each of which has a file of its own.
        """
        self._head, self._asked = json.dumps({"test": test}, sort_keys=True), asked
        self._path = None if file is None else _path(Path(file).expanduser(), process)
        self._open: TextIO | None = None
        self.found: dict[int, KeptAnswer] = {}
        if file is not None:
            self._read_all(Path(file).expanduser())

    def _read_all(self, file: Path) -> None:
        others = sorted(file.parent.glob(f"{file.stem}.process*{file.suffix}"))
        for path in (file, *others):
            if path.is_file() and path.stat().st_size:
                self._read(path)

    def _read(self, path: Path) -> None:
        lines = _lines(path)
        if lines[0] != self._head:
            raise UserError(
                f"{path} holds the answers of another test, model or option; remove it, or name another file "
                "with --answers"
            )
        for kept in _answers(lines):
            if kept.asked == self._asked.get(kept.place):
                self.found[kept.place] = kept.answer

    def add(self, place: int, answer: KeptAnswer) -> None:
        """Keeps the answer to the question at a place of the test set."""
        self.found[place] = answer
        if self._path is None:
            return
        if self._open is None:
            self._open = self._opened(self._path)
        line = {"place": place, "asked": self._asked[place], "answer": answer}
        self._open.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._open.flush()

    def _opened(self, path: Path) -> TextIO:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}; choose another file") from None
        # The lock ends with the process, in whatever way that ends.
        if not try_lock(file.fileno()):
            file.close()
            raise UserError(
                f"{path} is being written by another eval; wait for it, or name another file with --answers"
            )
        fresh = not path.stat().st_size
        # A cut line of a killed run must not run into the next one.
        file.write(f"{self._head}\n" if fresh else "\n")
        return file

    def close(self) -> None:
        """Closes the file."""
        if self._open is not None:
            self._open.close()


def read_answers(file: Path) -> dict[int, KeptAnswer]:
    """Returns the answers in a file, of whatever test they are, by the places of their questions."""
    return {kept.place: kept.answer for kept in _answers(_lines(file))}


class _Line(NamedTuple):
    place: int
    asked: str
    answer: KeptAnswer


def _lines(file: Path) -> list[str]:
    # Not splitlines: replies may hold further signs that end a line in Unicode, and none in JSON.
    return file.read_text(encoding="utf-8", errors="replace").split("\n")


def _answers(lines: Sequence[str]) -> Iterator[_Line]:
    """Yields what the lines of a file hold below the first one, which says what test they are of."""
    for line in lines[1:]:
        try:
            content = json.loads(line)
            kept = _Line(int(content["place"]), content["asked"], content["answer"])
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a killed run may be cut; its question is asked again
        yield kept


def _path(file: Path, process: int) -> Path:
    return file if process == 0 else file.with_name(f"{file.stem}.process{process}{file.suffix}")
