"""Finds which family a file is of, which preset comes nearest, and how its tensors' names are wrapped."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ivjax.convert.engine.family import Family
from ivjax.convert.engine.matching import Match, MatchRequest, match
from ivjax.convert.engine.own_format import is_own, stored_sizes
from ivjax.convert.engine.packing import part_names
from ivjax.convert.engine.rows import Row, Table
from ivjax.convert.formats.tensors import Tensors, below, stripped
from ivjax.convert.hints import common_prefixes, prefixes_of_some, shape_hint, stranger_of
from ivjax.convert.registry import FAMILIES, family_named
from ivjax.errors import UserError
from ivjax.experiment.patterns import covers

# The smallest share of a file's names that a family must know before the file is taken for one of that
# family. Half, because files may bring optimizer-like extras, but never mostly those.
_LEAST_SHARE = 0.5
# The same for tensors that are a part of a file.
_CERTAIN_SHARE = 0.9
# More tensors, and longer names, than any file of a family has: the largest released models have 1,600
# tensors. Each name is compared with the tables of all families, so time grows with the names of a file.
_MOST_TENSORS, _LONGEST_NAME = 10_000, 500


@dataclass(frozen=True)
class OpenedFile:
    """A file's tensors under their bare names, and the family that they are of.

    Attributes:
        tensors: the tensors, without the prefix that wrapped their names.
        family: the checkpoint family.
        prefix: the prefix that was removed; "" for none.
        in_own_format: whether the file is in this project's format, where names are tree paths.
        branch: the branch of the family's tree that is wanted, under paths that begin below it; "" for all.
    """

    tensors: Tensors
    family: Family
    prefix: str
    in_own_format: bool
    branch: str = ""

    @property
    def frames(self) -> tuple[int, ...]:
        """The numbers of frames that its joint position tables may stand for."""
        sizes = self.stored_sizes()
        grid = None if sizes is None else self.family.grid(sizes)
        return self.family.frames if grid is None else (grid[0],)

    def at(self, branch: str) -> "OpenedFile":
        """Returns the same file, of which only a branch is wanted."""
        branches = self.family.branches
        if branch and branch not in branches:
            others = f"its branches are {', '.join(branches)}" if branches else f"leave out #{branch}"
            raise UserError(f"a file of {self.family.name} has no branch #{branch}; {others}")
        return replace(self, branch=branch)

    def unpacked(self, sizes: Any = None) -> "OpenedFile":
        """Returns the same file under the names of its family's table, for a model of `sizes`.

        What the file's own config.json says comes first: how tensors are packed is the file's affair.
        """
        if self.in_own_format or not self.family.packed:
            return self
        configured = self.family.configured(self.tensors.config)
        known = next(s for s in (configured, sizes, *self.family.presets.values()) if s is not None)
        return replace(self, tensors=self.family.unpacked(self.tensors, known))

    def match(self, wanted: MatchRequest) -> Match:
        """Compares the file with a model."""
        family = self.family
        if self.in_own_format:
            wanted = replace(wanted, ignored=dict.fromkeys(family.added, "only some models have it"))
            rows: Sequence[Row] = family.own_rows()
        else:
            wanted = replace(wanted, ignored=family.ignored, ties=family.ties)
            rows = family.rows
        found = match(self._below_branch(rows), self.tensors, wanted)
        return replace(found, report=replace(found.report, family=family.name, prefix=self.prefix))

    def _below_branch(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Returns the rows with paths below the branch."""
        top = f"{self.branch}/"
        if not self.branch:
            return rows
        inside = (row.target.startswith(top) for row in rows)
        # Rows elsewhere stay, under a path that no tree has, so that their tensors are not called surplus.
        return [
            replace(
                row,
                target=row.target.removeprefix(top) if there else f"../{row.target}",
                last_of=row.last_of and row.last_of.removeprefix(top),
            )
            for row, there in zip(rows, inside, strict=True)
        ]

    def configured(self) -> tuple[Any, str] | None:
        """Returns the sizes that the config.json beside the file names, and what they are called."""
        sizes = self.family.configured(self.tensors.config)
        if sizes is None:
            return None
        alike = (name for name, preset in self.family.presets.items() if preset == sizes)
        return sizes, next(alike, "config.json")

    def stored_sizes(self) -> Any:
        """Returns the sizes that a file in this project's format names, or None."""
        return stored_sizes(self.tensors, self.family) if self.in_own_format else None


def recognise(
    tensors: Tensors, what: str, name: str | None = None, likely: Collection[Family] = ()
) -> OpenedFile:
    """Finds the family of a file by its tensors' names.

    Args:
        tensors: the file.
        what: what to call the file in errors.
        name: the family that the user says it is.
        likely: families that are preferred among those that know as many names.
    """
    wanted = family_named(name) if name else None
    _check_names(tensors, what)
    # Such a file says itself what it is, so no names are compared.
    if is_own(tensors):
        family = family_named(tensors.metadata.get("family", ""))
        _check_agrees(what, family, wanted)
        return OpenedFile(tensors, family, "", in_own_format=True)
    family, prefix = _best_fit(tensors, what, wanted, [f.name for f in likely])
    try:
        # Here too, where a model's sizes are known: a file may have the right shapes and another arithmetic.
        family.configured(tensors.config)
    except UserError as error:
        raise UserError(f"{what} is no {family.name} that is computed here: {error}") from None
    return OpenedFile(stripped(tensors, prefix), family, prefix, in_own_format=False)


def _check_names(tensors: Tensors, what: str) -> None:
    """Raises UserError for more tensors, or longer names, than a model has."""
    longest = max(map(len, tensors), default=0)
    if longest > _LONGEST_NAME:
        raise UserError(f"{what} has a tensor with a name of {longest:,} characters, as no model has")
    if len(tensors) > _MOST_TENSORS:
        why = stranger_of(tensors) or "no model that is read here has so many; give the file of one model"
        raise UserError(f"{what} holds {len(tensors):,} tensors: {why}")


def _best_fit(
    tensors: Tensors, what: str, wanted: Family | None, likely: Sequence[str]
) -> tuple[Family, str]:
    """Returns the family and the prefix that know the most names.

    Ties go to a likely family, then to the one that ignores the fewest names, then to the one with the fewest
    rows left over. What the user says counts, unless another family knows more names.
    """
    # Shares that are too small need not be known exactly, unless the user trusts them.
    least = 0.0 if wanted else _LEAST_SHARE
    ranks = _ranks(tensors, likely, _candidates(), least)
    best = max(ranks, key=lambda key: ranks[key])
    if ranks[best][0] < _LEAST_SHARE:
        # Tried only now: the names of one tower alone begin alike, too, and that belongs to them.
        ranks |= _ranks(tensors, likely, product(FAMILIES.values(), common_prefixes(tensors)), least)
        best = max(ranks, key=lambda key: ranks[key])
    if wanted is not None:
        chosen = max((key for key in ranks if key[0] == wanted.name), key=lambda key: ranks[key])
        # Trusted as long as it is no worse than the best guess: files may be cut down or extended.
        if ranks[best][0] >= _LEAST_SHARE and ranks[chosen][0] < ranks[best][0]:
            _check_agrees(what, FAMILIES[best[0]], wanted)
        return wanted, chosen[1]
    stranger = stranger_of(tensors) if ranks[best][0] < 1.0 else None
    if stranger or ranks[best][0] < _LEAST_SHARE:
        raise UserError(f"no checkpoint family matches {what}: {stranger or _hint(tensors)}")
    return FAMILIES[best[0]], best[1]


def _ranks(
    tensors: Tensors, likely: Sequence[str], candidates: Iterable[tuple[Family, str]], least: float
) -> dict[tuple[str, str], tuple[float, bool, float, float]]:
    """Returns the ranks of families and prefixes; the largest is the best. See `_shares` for `least`."""
    ranks = {}
    for family, prefix in candidates:
        known, of_all, used = _shares(family, tensors, prefix, least)
        ranks[family.name, prefix] = known, family.name in likely, of_all, used
    return ranks


def _hint(tensors: Tensors) -> str:
    """Returns what is known of a file that no family reads."""
    names = list(tensors)
    first = f"its tensors are called {', '.join(names[:3])}, ..."
    for prefix in prefixes_of_some(names):
        inside = below(tensors, prefix)
        ranks = _ranks(inside, (), _candidates(), _CERTAIN_SHARE)
        best = max(ranks, key=lambda key: ranks[key])
        if ranks[best][0] >= _CERTAIN_SHARE:
            return (
                f"of its {len(names)} tensors the {len(inside)} below {prefix} have the names of {best[0]}; "
                "save those alone"
            )
    return (
        f"{first}; {shape_hint(tensors) or 'neither names nor shapes are known here'}; the families are "
        f"{', '.join(FAMILIES)}"
    )


def _check_agrees(what: str, found: Family, wanted: Family | None) -> None:
    if wanted is not None and wanted is not found:
        raise UserError(f"{what} looks like {found.name}, not {wanted.name}; name that family, or none")


def _candidates() -> list[tuple[Family, str]]:
    """Returns each family with each prefix that its files may have; "" comes first and so wins ties."""
    prefixes = {name: dict.fromkeys(("", f.prefix, *f.prefixes)) for name, f in FAMILIES.items()}
    return [(FAMILIES[name], prefix) for name, several in prefixes.items() for prefix in several]


def _shares(
    family: Family, names: Mapping[str, Any], prefix: str, least: float
) -> tuple[float, float, float]:
    """Returns three shares: of the file's names that the family's table knows, leaving out those that the
    family ignores; of all names; and of the table's rows that are used. All are 0 where a name that is not
    ignored lacks the prefix, and where the first of them is less than `least`."""
    nothing = 0.0, 0.0, 0.0
    if not all(f"{prefix}{name}" in names for name in family.needs):
        return nothing
    # First, because it settles most prefixes at the first name.
    if not all(covers(family.ignored, name) for name in names if not name.startswith(prefix)):
        return nothing
    table = Table(family.rows)
    known, unknown, sources = 0, 0, set()
    for name in names:
        bare = name.removeprefix(prefix)
        if covers(family.ignored, bare):
            continue
        listed = part_names(family.packed, bare)[0]
        if (taken := table.find(listed)) is not None:
            sources.add(taken[0].source)
        # A copy of a tensor is known as well.
        elif listed not in family.ties:
            unknown += 1
            if unknown > (1 - least) * len(names):
                return nothing
            continue
        known += 1
    if not known:
        return nothing
    return known / (known + unknown), known / len(names), len(sources) / len(family.rows)


def nearest_preset(file: OpenedFile, wanted: MatchRequest) -> str:
    """Returns the preset that the file fits with the fewest errors.

    Ties go to the least resizing, then to the one whose sizes are the file's.
    """
    family, efforts = file.family, {}
    for name, sizes in family.presets.items():
        fitting = replace(wanted.fitting, grid=family.grid(sizes))
        seen = file.unpacked(sizes)
        measured = family.measured(sizes, seen.tensors)
        # Shapes alone are compared, so trying all released sizes costs no reading.
        report = seen.match(replace(wanted, target=family.shapes(measured), fitting=fitting)).report
        efforts[name] = (report.errors, len(report.resized), measured != sizes)
    return min(efforts, key=lambda name: efforts[name])


def preset_named(family: Family, name: str) -> Any:
    """Returns the sizes of a preset."""
    if name not in family.presets:
        raise UserError(f"{family.name} has no preset {name!r}; it has {', '.join(family.presets)}")
    return family.presets[name]
