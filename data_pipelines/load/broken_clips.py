"""Clips that cannot be used: counted by cause, listed once each; too many of them end the run."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ivjax.drafts import store
from ivjax.errors import UserError

_FEWEST_FOR_A_SHARE = 100  # clips; before that many, a share says little
_NAMED = 10  # broken clips that the error message spells out


@dataclass(frozen=True)
class BrokenClip:
    """A clip that was replaced: where it stands, and why."""

    corpus: str
    shard: str
    record: int
    cause: str
    detail: str

    def __str__(self) -> str:
        return f"{self.corpus}/{self.shard} record {self.record}: {self.cause}: {self.detail}"


class BrokenClipLog:
    """Counts broken clips by cause, and ends the run when too many are.

    Args:
        limit: the share of broken clips above which `add` raises UserError.
        file: lists each broken clip once (JSON lines); None keeps no list.
        path: where the mixture stands in the experiment, for messages.
        per_row: clips of a row, where several share one.
    """

    def __init__(self, limit: float, file: Path | None = None, path: str = "data", per_row: float = 1.0):
        self._limit = limit
        self._per_row = per_row
        self._file = file
        self._path = path
        self._named: dict[tuple[str, str, int], BrokenClip] = {}
        self._rows = self._clips = 0
        self.causes: Counter[str] = Counter()
        if file is not None and file.is_file():
            self._remember(file)

    @property
    def named(self) -> list[BrokenClip]:
        """Each broken clip that was met, once."""
        return list(self._named.values())

    def add(self, rows: int, broken: Sequence[BrokenClip]) -> None:
        """Counts the clips of further rows; `broken` are those that are, replacements included."""
        self._rows += rows
        self._clips = round(self._rows * self._per_row)
        for clip in broken:
            self.causes[clip.cause] += 1
            self._list(clip)
        total = sum(self.causes.values())
        if self._clips >= _FEWEST_FOR_A_SHARE and total > self._limit * self._clips:
            raise UserError(self._describe(total), *self._shown())

    def _list(self, clip: BrokenClip) -> None:
        key = (clip.corpus, clip.shard, clip.record)
        if key in self._named:
            return
        self._named[key] = clip
        if self._file is not None:
            # Opened for each line, so that a killed run loses none.
            with self._file.open("a") as file:
                file.write(json.dumps(asdict(clip)) + "\n")

    def _remember(self, file: Path) -> None:
        """Reads the list of a run that is resumed, which lists no clip again."""
        text, whole = file.read_text(), ""
        for line in text.splitlines():
            try:
                clip = BrokenClip(**json.loads(line))
            except (ValueError, TypeError):  # cut short by a kill
                continue
            whole += f"{line}\n"
            self._named[clip.corpus, clip.shard, clip.record] = clip
        if whole != text:  # else the next line would be joined to the one that was cut short
            store(file, whole)

    def _describe(self, broken: int) -> str:
        causes = ", ".join(f"{count} {cause}" for cause, count in self.causes.most_common())
        return (
            f"{broken} of {self._clips} clips cannot be used ({causes}), more than the allowed share of "
            f"{self._limit:.2%}; mend the corpus (`ivjax data validate`) or raise {self._path}.broken"
        )

    def _shown(self) -> list[str]:
        """Returns a line for each of the first broken clips."""
        more = [f"... all of them in {self._file}"] if self._file and len(self._named) > _NAMED else []
        return [*map(str, self.named[:_NAMED]), *more]
