"""Reads the text of a compiled program: computations, sizes of shapes, groups of devices."""

import math
import re
from dataclasses import dataclass

import numpy as np

_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) .*\{$")
# Attributes of kernels run over several lines, some of which start with }}.
_END = re.compile(r"\}(, \w+=.*)?$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([<=\d,]*)\]")
_PARTITIONS = re.compile(r"\b(?:num_partitions|replica_count)=(\d+)")


@dataclass(frozen=True)
class Instruction:
    """One line: `%name = shape opcode(operands), attributes`. `text` is everything after the bracket."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    text: str

    def named(self, attribute: str) -> tuple[str, ...]:
        """Returns the computations that an attribute such as `calls` names."""
        found = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.text)
        return tuple(re.findall(r"[\w.\-]+", found[1])) if found else ()


@dataclass(frozen=True)
class Computation:
    """Instructions by name, in the order of the text."""

    name: str
    instructions: dict[str, Instruction]
    root: str


@dataclass(frozen=True)
class Module:
    """A program for `partitions` devices."""

    entry: str
    computations: dict[str, Computation]
    partitions: int


def parse(text: str) -> Module:
    """Parses what `compiled.as_text()` returns."""
    header, _, rest = text.partition("\n")
    partitions = math.prod(map(int, _PARTITIONS.findall(header)))
    computations: dict[str, Computation] = {}
    name = root = entry = ""
    lines: dict[str, Instruction] = {}
    for line in rest.splitlines():
        if name and _END.match(line):
            computations[name] = Computation(name, lines, root)
            name = ""
        elif not name and not line.startswith(" ") and (head := _HEADER.match(line)):
            name, lines = head[2], {}
            entry = name if head[1] else entry
        elif name and (found := _INSTRUCTION.match(line)):
            instruction = _instruction(*found.groups()[1:])
            lines[instruction.name] = instruction
            root = instruction.name if found[1] else root
    if not entry:
        raise ValueError("the text is no compiled program: it has no ENTRY computation")
    return Module(entry, computations, partitions)


def _instruction(name: str, shape: str, opcode: str, text: str) -> Instruction:
    # Types among the operands hold brackets too, but no bracket before a comma and a space.
    inside = re.split(r"\), |\)$", text, maxsplit=1)[0]
    return Instruction(name, shape, opcode, tuple(re.findall(r"%([\w.\-]+)", inside)), text)


def sizes_of(shape: str) -> list[int]:
    """Returns the bytes of every array in a shape, without the padding of its layout."""
    return [_size(kind, dimensions) for kind, dimensions in _ARRAY.findall(shape)]


def _size(kind: str, dimensions: str) -> int:
    # Booleans take a byte; all other types name their bits, and a token, which names none, takes nothing.
    bits = 8 if kind == "pred" else int((re.findall(r"\d+", kind) or [0])[0])
    # A bounded dynamic dimension is written <=N, and memory is reserved for the bound.
    count = math.prod(int(size) for size in dimensions.replace("<=", "").split(",") if size)
    return -(-bits * count // 8)


def replica_groups(text: str, partitions: int) -> list[np.ndarray]:
    """Returns the partition ids of every group, from the attribute in any of its three forms.

    {{0,1},{2,3}}, [groups,size]<=[dims]T(perm), and mesh['a'=2,'b'=4], device_ids=(..) {'b'}.
    """
    if found := re.search(r"replica_groups=(\[[\d,]+\])<=(\[[\d,]+\](?:T\([\d,]+\))?)", text):
        return list(_iota(found[2]).reshape(_integers(found[1])))
    if found := re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?)\))? \{([^}]*)\}", text):
        return _mesh_groups(*found.groups())
    found = re.search(r"replica_groups=\{(\{[\d,{}]*\})\}", text)
    # No groups written, or empty ones, mean all devices.
    return id_groups(found[1]) if found else [np.arange(partitions)]


def _integers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def id_groups(text: str) -> list[np.ndarray]:
    """Returns {0,1},{2,3} as arrays."""
    return [np.asarray(_integers(group)) for group in re.findall(r"\{([\d,]+)\}", text)]


def _iota(text: str) -> np.ndarray:
    """Returns [2,4]T(1,0): the numbers from 0 in the shape [2,4], then transposed."""
    shape, _, order = text.partition("T")
    numbers = np.arange(math.prod(_integers(shape))).reshape(_integers(shape))
    return numbers.transpose(_integers(order)) if order else numbers


def _mesh_groups(axes: str, order: str | None, along: str) -> list[np.ndarray]:
    """Returns groups along axes of the compiler's mesh; 'a':(2)4 is the 4 ways of `a` after its first 2."""
    sizes = {name: int(size) for name, size in re.findall(r"([\w.]+)'?=(\d+)", axes)}
    shape, names = tuple(sizes.values()), list(sizes)
    ids = np.arange(math.prod(shape))
    if order:
        listed = _integers(order)
        ids = np.asarray(listed) if len(listed) == ids.size > 1 else _iota(order).reshape(-1)
    places = np.stack(np.unravel_index(np.arange(ids.size), shape))
    fixed = places.copy()
    for name, before, size in re.findall(r"([A-Za-z_][\w.]*)'?(?::\((\d+)\)(\d+))?", along):
        stride = sizes[name] // (int(before) * int(size)) if size else 1
        ways = int(size or sizes[name])
        fixed[names.index(name)] -= places[names.index(name)] // stride % ways * stride
    group = np.ravel_multi_index(tuple(fixed), shape)
    return [ids[group == number] for number in np.unique(group)]
