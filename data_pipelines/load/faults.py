"""Clips that could not be used: counted by cause, listed once each, too many end the run."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ivjax.errors import UserError

_FEWEST_FOR_A_SHARE = 100  # clips; before that many, a share says little
_NAMED = 10  # faults that the error message spells out


@dataclass(frozen=True)
class Fault:
    """A clip that was replaced: where it stands, and why."""

    corpus: str
    shard: str
    record: int
    cause: str
    detail: str

    def __str__(self) -> str:
        return f"{self.corpus}/{self.shard} record {self.record}: {self.cause}: {self.detail}"


class FaultLog:
    """Keeps count of faults. `file` lists each broken clip once (JSON lines); None keeps no list.

    More than `limit` of the clips of a run being broken is an error.
    """

    def __init__(self, limit: float, file: Path | None = None):
        self._limit = limit
        self._file = file
        self._named: dict[tuple[str, str, int], Fault] = {}
        self._clips = 0
        self.causes: Counter[str] = Counter()
        if file is not None and file.is_file():
            self._remember(file)

    @property
    def named(self) -> list[Fault]:
        """Each broken clip that was met, once."""
        return list(self._named.values())

    def add(self, clips: int, faults: Sequence[Fault]) -> None:
        """Takes note of `clips` further clips, `faults` of them or their replacements broken."""
        self._clips += clips
        for fault in faults:
            self.causes[fault.cause] += 1
            self._name(fault)
        broken = sum(self.causes.values())
        if self._clips >= _FEWEST_FOR_A_SHARE and broken > self._limit * self._clips:
            raise UserError(self._describe(broken))

    def _name(self, fault: Fault) -> None:
        key = (fault.corpus, fault.shard, fault.record)
        if key in self._named:
            return
        self._named[key] = fault
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(json.dumps(asdict(fault)) + "\n")

    def _remember(self, file: Path) -> None:
        """A resumed run does not list again what its list has."""
        for line in file.read_text().splitlines():
            try:
                fault = Fault(**json.loads(line))
            except (ValueError, TypeError):  # cut short by a kill
                continue
            self._named[fault.corpus, fault.shard, fault.record] = fault

    def _describe(self, broken: int) -> str:
        causes = ", ".join(f"{count} {cause}" for cause, count in self.causes.most_common())
        shown = "".join(f"\n  {fault}" for fault in self.named[:_NAMED])
        more = f"\n  ... all of them in {self._file}" if self._file and len(self._named) > _NAMED else ""
        return (
            f"{broken} of {self._clips} clips cannot be used ({causes}), more than the allowed share of "
            f"{self._limit:.2%}; mend the corpus (`ivjax data validate`) or raise data.broken{shown}{more}"
        )
