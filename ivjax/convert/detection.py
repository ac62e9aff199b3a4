"""Which family a file is of, which preset comes nearest, and how its tensors are wrapped."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ivjax.convert.engine.family import Family
from ivjax.convert.engine.matching import Plan, Wanted, match
from ivjax.convert.engine.own_format import is_own, stored_sizes
from ivjax.convert.engine.rows import Row, Table
from ivjax.convert.formats.tensors import Tensors, stripped
from ivjax.convert.registry import FAMILIES, family_named
from ivjax.errors import UserError
from ivjax.experiment.patterns import covers

_ENOUGH = 0.5  # of a file's tensors must be a family's, to call it of that family unasked


@dataclass(frozen=True)
class Opened:
    """A file's tensors without what they were wrapped in, and the family that they are of.

    own: the file is in this project's format, and names are tree paths. branch: only what lies there in the
    family's tree is wanted, under paths that begin below it.
    """

    tensors: Tensors
    family: Family
    prefix: str
    own: bool
    branch: str = ""

    @property
    def frames(self) -> tuple[int, ...]:
        """The times that its joint position tables may stand for."""
        sizes = self.stored_sizes()
        return self.family.frames if sizes is None else (self.family.grid(sizes)[0],)

    def at(self, branch: str) -> "Opened":
        """The same, of which only a branch is wanted."""
        branches = self.family.branches
        if branch and branch not in branches:
            others = f"its branches are {', '.join(branches)}" if branches else f"leave out #{branch}"
            raise UserError(f"a file of {self.family.name} has no branch #{branch}; {others}")
        return replace(self, branch=branch)

    def plan(self, wanted: Wanted) -> Plan:
        """The comparison with a model."""
        family = self.family
        if self.own:
            wanted = replace(wanted, ignored=dict.fromkeys(family.added, "only some models have it"))
            return self._signed(match(self._below(family.own_rows()), self.tensors, wanted))
        wanted = replace(wanted, ignored=family.ignored, ties=family.ties)
        return self._signed(match(self._below(family.rows), self.tensors, wanted))

    def _below(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows with paths below the branch; those elsewhere lead nowhere."""
        top = f"{self.branch}/"
        if not self.branch:
            return rows
        inside = (row.target.startswith(top) for row in rows)
        return [
            replace(row, target=row.target.removeprefix(top) if there else f"../{row.target}")
            for row, there in zip(rows, inside, strict=True)
        ]

    def _signed(self, plan: Plan) -> Plan:
        return replace(plan, report=replace(plan.report, family=self.family.name, prefix=self.prefix))

    def stored_sizes(self) -> Any:
        """The sizes that a file in this project's format tells, or None."""
        return stored_sizes(self.tensors, self.family) if self.own else None


def recognise(
    tensors: Tensors, what: str, name: str | None = None, likely: Collection[Family] = ()
) -> Opened:
    """Finds the family by the tensors' names; `name` is the family that the user says it is.

    Of families that take as many names, those in `likely` go first.
    """
    wanted = family_named(name) if name else None
    if is_own(tensors):
        family = family_named(tensors.metadata.get("family", ""))
        _agree(what, family, wanted)
        return Opened(tensors, family, "", own=True)
    family, prefix = _fitting(tensors, what, wanted, [f.name for f in likely])
    return Opened(stripped(tensors, prefix), family, prefix, own=False)


def _fitting(tensors: Tensors, what: str, wanted: Family | None, likely: Sequence[str]) -> tuple[Family, str]:
    """The family and prefix that take the most names.

    Of equals a likely one goes first, then the one that ignores the fewest names, then the one with the
    fewest rows left over. The user's word counts unless another takes more names.
    """
    shares = {(family.name, prefix): _share(family, tensors, prefix) for family, prefix in _candidates()}
    ranks = {key: (taken, key[0] in likely, *rest) for key, (taken, *rest) in shares.items()}
    best = max(ranks, key=lambda key: ranks[key])
    if wanted is not None:
        chosen = max((key for key in ranks if key[0] == wanted.name), key=lambda key: ranks[key])
        if shares[best][0] >= _ENOUGH and shares[chosen][0] < shares[best][0]:
            _agree(what, FAMILIES[best[0]], wanted)
        return wanted, chosen[1]
    if shares[best][0] < _ENOUGH:
        first = ", ".join(list(tensors)[:3])
        raise UserError(
            f"{what} is of none of the families {', '.join(FAMILIES)}: its tensors are called {first}, ..."
        )
    return FAMILIES[best[0]], best[1]


def _agree(what: str, found: Family, wanted: Family | None) -> None:
    if wanted is not None and wanted is not found:
        raise UserError(f"{what} looks like {found.name}, not {wanted.name}; name that family, or none")


def _candidates() -> list[tuple[Family, str]]:
    """No prefix goes before any prefix: of equals the first is taken."""
    prefixes = {name: dict.fromkeys(("", f.prefix, *f.prefixes)) for name, f in FAMILIES.items()}
    return [(FAMILIES[name], prefix) for name, several in prefixes.items() for prefix in several]


def _share(family: Family, names: Mapping[str, Any], prefix: str) -> tuple[float, float, float]:
    """Share of the names that the family's table takes, without and with those that the family ignores, and
    of its rows that take any. All names that are not ignored must have the prefix."""
    counted = [name for name in names if not covers(family.ignored, name.removeprefix(prefix))]
    if not counted or not all(name.startswith(prefix) for name in counted):
        return 0.0, 0.0, 0.0
    table = Table(family.rows)
    found = [taken[0].source for name in counted if (taken := table.find(name[len(prefix) :]))]
    return len(found) / len(counted), len(found) / len(names), len(set(found)) / len(family.rows)


def nearest_preset(opened: Opened, wanted: Wanted) -> str:
    """The preset that the file fits with the fewest errors, and of these with the least resizing."""
    family, efforts = opened.family, {}
    for name, sizes in family.presets.items():
        fitting = replace(wanted.fitting, grid=family.grid(sizes))
        report = opened.plan(replace(wanted, target=family.shapes(sizes), fitting=fitting)).report
        efforts[name] = (report.errors, len(report.resized))
    return min(efforts, key=lambda name: efforts[name])


def preset_named(family: Family, name: str) -> Any:
    """Sizes of a preset."""
    if name not in family.presets:
        raise UserError(f"{family.name} has no preset {name!r}; it has {', '.join(family.presets)}")
    return family.presets[name]
