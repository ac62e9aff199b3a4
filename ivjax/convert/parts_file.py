"""Reads a pair of towers out of several files, as InternVideo2-CLIP was released: in part.

FILE?vision=OTHER?text=THIRD takes what FILE lacks of either tower from the files that it was made from.
OTHER#BRANCH is a branch of a file.
"""

import re
from collections.abc import Mapping, Sequence

from ivjax.convert.detection import recognise
from ivjax.convert.engine.family import Family
from ivjax.convert.engine.rows import Table
from ivjax.convert.formats.tensors import Joined, Renamed, Tensors
from ivjax.convert.registry import FAMILIES
from ivjax.errors import UserError

_MARK = re.compile(r"\?(vision|text)=")


def split_parts(path: str) -> tuple[str, dict[str, str]] | None:
    """Returns the file, and the file of each tower by its branch; None if `path` names no such."""
    file, *rest = _MARK.split(path)
    return (file, dict(zip(rest[::2], rest[1::2], strict=True))) if rest else None


def with_parts(whole: Tensors, parts: Mapping[str, tuple[str, Tensors]], what: str) -> Tensors:
    """Returns the tensors of file `what` and, by branch, those of the files of its towers, which count less.

    All have the names of the first one's family; what its files have no place for is left out.
    """
    outer = _family_of(whole, parts, what)
    places: dict[str, Tensors] = {}
    for branch, (other, tensors) in parts.items():
        named = _renamed(outer, branch, other, tensors)
        places |= dict.fromkeys(named, named)
    places |= dict.fromkeys(whole, whole)
    joined = Joined(places, whole.metadata)
    joined.container = whole.container
    return joined


def _family_of(whole: Tensors, parts: Mapping[str, tuple[str, Tensors]], what: str) -> Family:
    """Returns the family that knows all names of a file, and whose towers are those of the parts."""
    # By the parts, because what was released alone has names that several families know.
    for family in FAMILIES.values():
        if not set(parts) <= family.branches.keys():
            continue
        table = Table(family.rows)
        known = all(table.find(name) for name in whole if not name.endswith("inv_freq"))
        if known and all(_part_of(family, branch, tensors) for branch, (_, tensors) in parts.items()):
            return family
    others = " and ".join(f"{branch} from {other}" for branch, (other, _) in parts.items())
    raise UserError(f"no pair of towers has the names of {what}, and {others}; give those it is made of")


def _part_of(family: Family, branch: str, tensors: Tensors) -> bool:
    return any(_inner_families(family, branch, tensors))


def _inner_families(family: Family, branch: str, tensors: Tensors) -> Sequence[Family]:
    """Returns the families that a file of a branch may be of, and whose tables know most of its names."""
    kind = family.branches[branch]
    found = []
    for inner in FAMILIES.values():
        holds = inner.holds(kind) or any(inner.holds(kind, name) for name in inner.branches)
        if holds and any(Table(inner.rows).find(name.removeprefix(inner.prefix)) for name in tensors):
            found.append(inner)
    return found


def _renamed(outer: Family, branch: str, path: str, tensors: Tensors) -> Tensors:
    """Returns the tensors of a tower's file under the names that the whole model's family has for them."""
    _, _, below = path.partition("#")
    inner = recognise(tensors, path, likely=_inner_families(outer, branch, tensors))
    kind = outer.branches[branch]
    if not below and not inner.family.holds(kind):
        below = next((name for name in inner.family.branches if inner.family.holds(kind, name)), "")
    top = f"{below}/" if below else ""
    rows, table = Table(outer.rows).by_target, Table(inner.family.rows)
    names = {}
    for name in inner.tensors:
        row, place = table.find(name) or (None, 0)
        if row is None or not row.target.startswith(top):
            continue
        target = rows.get(f"{branch}/{row.target.removeprefix(top)}")
        if target is not None:
            names[target.name(place)] = name
    if not names:
        raise UserError(f"{path} holds nothing of the {branch} tower of {outer.name}; give that tower's file")
    return Renamed(inner.tensors, names)
