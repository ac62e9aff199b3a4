"""Trip counts of the loops of a compiled program, read from its text.

XLA annotates most loops with their trip count. For the others the count follows from the loop's condition,
which compares an element of the loop's state with a limit, and from what one iteration adds to that element.
"""

import math
import re
from dataclasses import dataclass

from ivjax.plan.hlo import Computation, Instruction, Module

# Opcodes that pass a number on unchanged.
_COPIES = ("copy", "bitcast", "convert", "reshape", "copy-start", "copy-done", "opt-barrier")


@dataclass(frozen=True)
class _Number:
    """A constant (`element` is None), or an element of a loop's state plus a constant."""

    element: int | None
    number: int


@dataclass(frozen=True)
class _Comparison:
    direction: str
    left: "_Known"
    right: "_Known"


_Known = _Number | _Comparison | None
_MIRRORED = {"GT": "LT", "GE": "LE", "LT": "GT", "LE": "GE"}


def trip_count(module: Module, inside: str, loop: Instruction) -> int | None:
    """Returns how often a `while` of computation `inside` runs its body; None where the text does not say."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.text):
        return int(known[1])
    condition, body = (module.computations[loop.named(name)[0]] for name in ("condition", "body"))
    test = _Reader(module, condition).value(condition.root)
    if not isinstance(test, _Comparison):
        return None
    before, after = _Reader(module, module.computations[inside]), _Reader(module, body)

    def numbers(value: _Known) -> tuple[int, int] | None:
        """Returns the first value of a compared number, and what an iteration adds to it."""
        if not isinstance(value, _Number) or value.element is None:
            return (value.number, 0) if isinstance(value, _Number) else None
        first = before.element(loop.operands[0], value.element)
        iteration = after.element(body.root, value.element)
        if not isinstance(first, _Number) or first.element is not None or not isinstance(iteration, _Number):
            return None
        return (first.number + value.number, iteration.number) if iteration.element == value.element else None

    left, right = numbers(test.left), numbers(test.right)
    return None if left is None or right is None else _iterations(test.direction, left, right)


def _iterations(direction: str, left: tuple[int, int], right: tuple[int, int]) -> int | None:
    # XLA may write the limit first; a comparison with the counter on the left is easier to solve.
    if right[1]:
        direction, left, right = _MIRRORED.get(direction, direction), right, left
    (first, step), (limit, other) = left, right
    # A limit that moves, or a counter that does not, has no count that can be read off.
    if not step or other or direction == "EQ":
        return None
    whole = (limit - first) // step + 1
    # A loop whose condition fails at the start runs zero times, for which the formula may be negative.
    return max(whole if direction in ("LE", "GE") else math.ceil((limit - first) / step), 0)


@dataclass(frozen=True)
class _Reader:
    """Reads numbers of a computation: of a loop, or one that `caller` calls with `operands`."""

    module: Module
    computation: Computation
    caller: "_Reader | None" = None
    operands: tuple[str, ...] = ()

    def value(self, name: str) -> _Known:
        """Returns what a scalar instruction computes."""
        line = self.computation.instructions.get(name)
        if line is None:
            return None
        if line.opcode == "constant":
            found = re.match(r"(-?\d+)\)", line.text)
            return _Number(None, int(found[1])) if found else None
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
        """Returns element `index` of a tuple."""
        line = self.computation.instructions[name]
        if line.opcode == "tuple":
            return self.value(line.operands[index])
        # The only parameter of a loop's body is the tuple of its state.
        if line.opcode == "parameter" and not self.caller:
            return _Number(index, 0)
        if line.opcode in ("fusion", "call"):
            inner = self._inner(line)
            return inner.element(inner.computation.root, index)
        return self.element(line.operands[0], index) if line.opcode in _COPIES else None

    def _inner(self, line: Instruction) -> "_Reader":
        called = (line.named("calls") or line.named("to_apply"))[0]
        return _Reader(self.module, self.module.computations[called], self, line.operands)


def _sum(left: _Known, right: _Known, sign: int) -> _Known:
    if not isinstance(left, _Number) or not isinstance(right, _Number):
        return None
    if left.element is not None and right.element is not None or sign < 0 and right.element is not None:
        return None
    element = right.element if left.element is None else left.element
    return _Number(element, left.number + sign * right.number)
