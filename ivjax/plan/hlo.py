"""The text of a compiled program: computations, sizes of shapes, groups of devices, turns of loops."""

import math
import re
from dataclasses import dataclass

import numpy as np

_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) .*\{$")
_END = re.compile(
    r"\}(, \w+=.*)?$"
)  # attributes of kernels run over several lines, some of which start with }}
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([<=\d,]*)\]")
_PARTITIONS = re.compile(r"\b(?:num_partitions|replica_count)=(\d+)")
_COPIES = ("copy", "bitcast", "convert", "reshape", "copy-start", "copy-done", "opt-barrier")


@dataclass(frozen=True)
class Instruction:
    """One line: `%name = shape opcode(operands), attributes`; `text` is all behind the bracket."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    text: str

    def named(self, attribute: str) -> tuple[str, ...]:
        """The computations that an attribute such as `calls` names."""
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
    """Reads what `compiled.as_text()` gives."""
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
        raise ValueError("this is no program text: it has no ENTRY computation")
    return Module(entry, computations, partitions)


def _instruction(name: str, shape: str, opcode: str, text: str) -> Instruction:
    # Types among the operands hold brackets too, but no bracket before a comma and a space.
    inside = re.split(r"\), |\)$", text, maxsplit=1)[0]
    return Instruction(name, shape, opcode, tuple(re.findall(r"%([\w.\-]+)", inside)), text)


def sizes_of(shape: str) -> list[int]:
    """Bytes of every array in a shape, without the padding of its layout."""
    return [_size(kind, dimensions) for kind, dimensions in _ARRAY.findall(shape)]


def _size(kind: str, dimensions: str) -> int:
    bits = 8 if kind == "pred" else int((re.findall(r"\d+", kind) or [0])[0])
    count = math.prod(int(size) for size in dimensions.replace("<=", "").split(",") if size)
    return -(-bits * count // 8)


def replica_groups(text: str, partitions: int) -> list[np.ndarray]:
    """The partition ids of every group, from the attribute in any of its three forms.

    {{0,1},{2,3}}, [groups,size]<=[dims]T(perm), and mesh['a'=2,'b'=4], device_ids=(..) {'b'}.
    """
    if found := re.search(r"replica_groups=(\[[\d,]+\])<=(\[[\d,]+\](?:T\([\d,]+\))?)", text):
        return list(_iota(found[2]).reshape(_integers(found[1])))
    if found := re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?)\))? \{([^}]*)\}", text):
        return _mesh_groups(*found.groups())
    found = re.search(r"replica_groups=\{(\{[\d,{}]*\})\}", text)
    return id_groups(found[1]) if found else [np.arange(partitions)]


def _integers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def id_groups(text: str) -> list[np.ndarray]:
    """{0,1},{2,3} as arrays."""
    return [np.asarray(_integers(group)) for group in re.findall(r"\{([\d,]+)\}", text)]


def _iota(text: str) -> np.ndarray:
    """[2,4]T(1,0): the numbers from 0 in the shape [2,4], then transposed."""
    shape, _, order = text.partition("T")
    numbers = np.arange(math.prod(_integers(shape))).reshape(_integers(shape))
    return numbers.transpose(_integers(order)) if order else numbers


def _mesh_groups(axes: str, order: str | None, along: str) -> list[np.ndarray]:
    """Groups along axes of the compiler's own mesh; 'a':(2)4 is the 4 ways of `a` behind its first 2."""
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


@dataclass(frozen=True)
class _Value:
    """A number known beforehand (`element` is None), or an element of a loop's state plus a number."""

    element: int | None
    number: int


@dataclass(frozen=True)
class _Comparison:
    direction: str
    left: "_Known"
    right: "_Known"


_Known = _Value | _Comparison | None
_MIRRORED = {"GT": "LT", "GE": "LE", "LT": "GT", "LE": "GE"}


def trip_count(module: Module, inside: str, loop: Instruction) -> int | None:
    """How often a `while` of computation `inside` runs its body; None where the text does not tell."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.text):
        return int(known[1])
    condition, body = (module.computations[loop.named(part)[0]] for part in ("condition", "body"))
    test = _Reader(module, condition).value(condition.root)
    if not isinstance(test, _Comparison):
        return None
    before, after = _Reader(module, module.computations[inside]), _Reader(module, body)

    def numbers(value: _Known) -> tuple[int, int] | None:
        """What a compared value is at first, and what a turn adds to it."""
        if not isinstance(value, _Value) or value.element is None:
            return (value.number, 0) if isinstance(value, _Value) else None
        first = before.element(loop.operands[0], value.element)
        turn = after.element(body.root, value.element)
        if not isinstance(first, _Value) or first.element is not None or not isinstance(turn, _Value):
            return None
        return (first.number + value.number, turn.number) if turn.element == value.element else None

    left, right = numbers(test.left), numbers(test.right)
    return None if left is None or right is None else _turns(test.direction, left, right)


def _turns(direction: str, left: tuple[int, int], right: tuple[int, int]) -> int | None:
    if right[1]:
        direction, left, right = _MIRRORED.get(direction, direction), right, left
    (first, step), (limit, other) = left, right
    if not step or other or direction == "EQ":
        return None
    whole = (limit - first) // step + 1
    return max(whole if direction in ("LE", "GE") else math.ceil((limit - first) / step), 0)


@dataclass(frozen=True)
class _Reader:
    """Numbers of a computation whose parameter is a loop's state, or that gets `operands` of `caller`."""

    module: Module
    computation: Computation
    caller: "_Reader | None" = None
    operands: tuple[str, ...] = ()

    def value(self, name: str) -> _Known:
        """What a scalar instruction gives."""
        line = self.computation.instructions.get(name)
        if line is None:
            return None
        if line.opcode == "constant":
            found = re.match(r"(-?\d+)\)", line.text)
            return _Value(None, int(found[1])) if found else None
        if line.opcode == "parameter" and self.caller:
            return self.caller.value(self.operands[int(line.text.partition(")")[0])])
        if line.opcode == "get-tuple-element":
            return self.element(line.operands[0], int(re.findall(r"index=(\d+)", line.text)[0]))
        if line.opcode == "compare":
            direction = re.findall(r"direction=(\w+)", line.text)[0]
            return _Comparison(direction, *map(self.value, line.operands))
        if line.opcode in ("add", "subtract"):
            left, right = map(self.value, line.operands)
            return _sum(left, right, 1 if line.opcode == "add" else -1)
        if line.opcode in ("fusion", "call"):
            inner = self._inner(line)
            return inner.value(inner.computation.root)
        return self.value(line.operands[0]) if line.opcode in _COPIES else None

    def element(self, name: str, index: int) -> _Known:
        """What element `index` of a tuple is."""
        line = self.computation.instructions[name]
        if line.opcode == "tuple":
            return self.value(line.operands[index])
        if line.opcode == "parameter" and not self.caller:
            return _Value(index, 0)
        if line.opcode in ("fusion", "call"):
            inner = self._inner(line)
            return inner.element(inner.computation.root, index)
        return self.element(line.operands[0], index) if line.opcode in _COPIES else None

    def _inner(self, line: Instruction) -> "_Reader":
        called = (line.named("calls") or line.named("to_apply"))[0]
        return _Reader(self.module, self.module.computations[called], self, line.operands)


def _sum(left: _Known, right: _Known, sign: int) -> _Known:
    if not isinstance(left, _Value) or not isinstance(right, _Value):
        return None
    if left.element is not None and right.element is not None or sign < 0 and right.element is not None:
        return None
    element = right.element if left.element is None else left.element
    return _Value(element, left.number + sign * right.number)
