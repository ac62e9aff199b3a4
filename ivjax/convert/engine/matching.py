"""Compares a file with a model on names and shapes alone: which tensor fills what, and what does not fit."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ivjax.convert.engine.fits import Change, Fitting
from ivjax.convert.engine.match_report import MatchReport, ShapeDifference
from ivjax.convert.engine.rows import Leaf, Row, Table, is_float
from ivjax.convert.formats.tensors import Shape, Tensors
from ivjax.errors import UserError
from ivjax.experiment.patterns import covers

Places = dict[int, str]  # place in a leaf, by layers and parts -> name of the tensor


@dataclass(frozen=True)
class MatchRequest:
    """The model that a file is compared with, and how strictly.

    Attributes:
        target: shapes of the model by path; None takes whatever is in the file.
        fresh: patterns of paths that are initialised instead of read.
        ignored: patterns of names -> why they are not needed.
        ties: copy -> the tensor that it repeats.
        dtype: floats are cast to it; None keeps them as stored.
        fitting: what the rules for other shapes must know.
        partial: whether parameters that the file lacks whole, and tensors that the model lacks, are allowed.
    """

    target: Mapping[str, Shape] | None = None
    fresh: Sequence[str] = ()
    ignored: Mapping[str, str] = field(default_factory=dict)
    ties: Mapping[str, str] = field(default_factory=dict)
    dtype: np.dtype | None = None
    fitting: Fitting = Fitting()
    partial: bool = False


@dataclass(frozen=True)
class Match:
    """The result of a comparison.

    Attributes:
        leaves: the leaves that fit, in the model's order.
        report: accounts for every tensor and every parameter.
    """

    leaves: Sequence[Leaf]
    report: MatchReport


def match(rows: Iterable[Row], tensors: Tensors, wanted: MatchRequest = MatchRequest()) -> Match:
    """Matches every tensor of `tensors` with every parameter wanted; reads nothing."""
    # Problems are collected and not raised one by one, so that a user sees all of them at once.
    matching = _Matching(Table(rows), tensors, wanted)
    matching.sort_names()
    target = wanted.target if wanted.target is not None else matching.shapes_in_file()
    leaves = [leaf for path, shape in target.items() if (leaf := matching.leaf(path, shape, target))]
    matching.account_for_the_rest(target)
    return Match(leaves, matching.report(leaves))


class _Matching:
    """The state of one comparison: what was found so far, and every error."""

    def __init__(self, table: Table, tensors: Tensors, wanted: MatchRequest):
        self._table, self._tensors, self._wanted = table, tensors, wanted
        self._found: dict[str, Places] = {}
        self._rows: dict[str, Row] = {}
        self._missing: dict[str, str] = {}
        self._surplus: dict[str, str] = {}
        self._unused: dict[str, str] = {}
        self._ties: dict[str, str] = {}
        self._resized: dict[str, str] = {}
        self._shapes: list[ShapeDifference] = []
        self._conflicts: list[str] = []
        self._fresh: list[str] = []

    def sort_names(self) -> None:
        """Finds for each tensor the leaf that it fills, and the place in it."""
        for name in self._tensors:
            row, place = self._table.find(name) or (None, 0)
            if row is None:
                self._set_aside(name)
            elif self._rows.setdefault(row.target, row) is not row:
                # Names of two releases in one file: which of them is right cannot be known.
                other = self._rows[row.target].source
                self._conflicts.append(f"both {other} and {row.source} would fill {row.target}")
            else:
                self._found.setdefault(row.target, {})[place] = name

    def _set_aside(self, name: str) -> None:
        """Notes a tensor that no row takes: a tied copy, one to ignore, or an error."""
        ignored = self._wanted.ignored
        if name in self._wanted.ties:
            self._tie(name, self._wanted.ties[name])
        elif covers(ignored, name):
            self._unused[name] = next(why for pattern, why in ignored.items() if covers([pattern], name))
        else:
            self._surplus[name] = "no row of the table takes it"

    def _tie(self, name: str, owner: str) -> None:
        if owner not in self._tensors:
            self._conflicts.append(f"{name} repeats {owner}, which is missing")
        elif self._tensors.shape(name) != self._tensors.shape(owner):
            shapes = self._tensors.shape(name), self._tensors.shape(owner)
            self._shapes.append(ShapeDifference(name, *shapes, f"it must repeat {owner}; remove it"))
        else:
            self._ties[name] = owner

    def shapes_in_file(self) -> dict[str, Shape]:
        """Returns the shapes of the leaves that the file's tensors make by themselves."""
        shapes: dict[str, Shape] = {}
        for path, places in self._found.items():
            row, first = self._rows[path], next(iter(places.values()))
            try:
                shapes[path] = row.leaf_shape(self._tensors.shape(first), len(places))
            except ValueError:
                have = self._tensors.shape(first)
                raise UserError(
                    f"{first} of shape {have} cannot become {path}: it has the wrong number of axes"
                ) from None
        return shapes

    def leaf(self, path: str, shape: Shape, target: Mapping[str, Shape]) -> Leaf | None:
        """Returns the leaf at `path`; None if it is fresh or, noted, does not fit."""
        places = self._found.pop(path, {})
        # Before the row is looked up, because fresh parameters need none.
        if covers(self._wanted.fresh, path):
            self._fresh.append(path)
            self._unused |= {name: "its parameter is initialised afresh" for name in places.values()}
            return None
        row = self._rows.get(path) or self._table.by_target.get(path)
        if row is None:
            if not self._wanted.partial:
                self._missing[path] = path
            return None
        if row.last_of is not None and places:
            # A part of a model may be wanted without the stack that says how many layers there are.
            least = min(places) // len(row.sources)
            layers = target[row.last_of][0] if row.last_of in target else least + shape[0]
            row = row.behind(layers, shape[0])
            places = {place - row.first * len(row.sources): name for place, name in places.items()}
        names = self._names(row, places, row.count(shape))
        if names is None:
            return None
        wanted = row.source_shape(shape)
        changes = [self._change(name, wanted, row) for name in names]
        if any(change is False for change in changes):
            return None
        needed = {
            name: change for name, change in zip(names, changes, strict=True) if isinstance(change, Change)
        }
        return Leaf(path, shape, self._dtype(path, names), row, tuple(names), needed)

    def _names(self, row: Row, places: Places, count: int) -> list[str] | None:
        """Returns the names of all places; None if one is missing. Notes missing and surplus ones."""
        for place in places.keys() - set(range(count)):
            # A deeper file is an error and not cut off: its last layers are what
            # the others were trained for.
            self._surplus[places[place]] = f"the model has {count // len(row.sources)} layers there"
        absent = [row.name(place) for place in range(count) if place not in places]
        if self._wanted.partial and not places:
            return None
        for name in absent:
            self._note_missing(name, row.target)
        return None if absent else [places[place] for place in range(count)]

    def _note_missing(self, name: str, path: str) -> None:
        # A partial file may lack whole parameters. One that has some layers of a stack is an error: nobody
        # would notice that the layers it has were not read.
        remedy = "of which the file has other layers" if self._wanted.partial else "(or name it as fresh)"
        self._missing[name] = f"{path} {remedy}"

    def _change(self, name: str, wanted: Shape, row: Row) -> Change | bool:
        """Returns the change that a tensor needs; True if it fits as it is; False, noted, if it cannot."""
        found = self._tensors.shape(name)
        if found == wanted:
            return True
        try:
            change = row.fit(found, wanted, self._wanted.fitting) if row.fit else None
        except UserError as error:
            self._conflicts.append(f"{name}: {error}")
            return False
        if change is None:
            self._shapes.append(ShapeDifference(name, found, wanted, _remedy(found, wanted, row.target)))
            return False
        self._resized[name] = change.text
        return change

    def _dtype(self, path: str, names: Sequence[str]) -> np.dtype:
        stored = dict.fromkeys(self._tensors.dtype(name) for name in names)
        cast = self._wanted.dtype
        # Whole numbers are indices, which another dtype would spoil.
        if cast is not None and all(map(is_float, stored)):
            return cast
        if len(stored) > 1:
            kinds = " and ".join(map(str, stored))
            self._conflicts.append(f"the layers of {path} are stored as {kinds}; choose one with --dtype")
        return next(iter(stored))

    def account_for_the_rest(self, target: Mapping[str, Shape]) -> None:
        """Notes tensors whose parameter the model lacks, and patterns of fresh parameters that match none."""
        rest = {name: path for path, places in self._found.items() for name in places.values()}
        for name, path in rest.items():
            if name in self._wanted.ties:
                # The model has one parameter for both tensors.
                self._tie(name, self._wanted.ties[name])
                continue
            optional = self._wanted.partial or covers(self._wanted.ignored, path)
            (self._unused if optional else self._surplus)[name] = f"the model has no {path}"
        for pattern in self._wanted.fresh:
            if not any(covers([pattern], path) for path in target):
                self._conflicts.append(f"no parameter matches the fresh pattern {pattern}")

    def report(self, leaves: Sequence[Leaf]) -> MatchReport:
        """Returns the report on all that was noted."""
        names = [name for leaf in leaves for name in leaf.names]
        return MatchReport(
            matched=len(names),
            missing=self._missing,
            surplus=self._surplus,
            shapes=tuple(self._shapes),
            conflicts=tuple(self._conflicts),
            unused=self._unused,
            resized=self._resized,
            fresh=tuple(self._fresh),
            ties=self._ties,
            dtypes=dict(Counter(str(self._tensors.dtype(name)) for name in names)),
            container=self._tensors.container,
        )


def _remedy(found: Shape, wanted: Shape, path: str) -> str:
    # torch and jax keep kernels the other way round, so a file that others have converted may have them
    # transposed.
    if found == wanted[::-1]:
        return "it is transposed; transpose it, or convert the file that it was made from"
    return f"choose the preset or the sizes it was trained with, or name {path} as fresh"
