"""Counts the collectives of a compiled program: kinds, mesh axes, number and bytes in one step."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh

from ivjax.plan.hlo import Computation, Instruction, id_groups, parse, replica_groups, sizes_of
from ivjax.plan.trip_count import trip_count

KINDS = (
    "all-gather",
    "reduce-scatter",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "ragged-all-to-all",
    "collective-broadcast",
)
_TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_PAIRS = re.compile(r'source_target_pairs="?\{(\{[\d,{}]*\})\}')
# Passed through when the users of a value are followed; none of them changes which elements are used.
_VIEWS = ("get-tuple-element", "bitcast", "reshape", "transpose", "copy", "convert")


@dataclass(frozen=True)
class Traffic:
    """Collectives of one kind along the same axes.

    Attributes:
        kind: such as "all-gather".
        axes: the mesh axes that they run along.
        count: how many run in a step.
        bytes: what one device sends in a step.
        largest: bytes of the largest single result.
        crosses_slices: whether the data-centre network between slices carries them.
    """

    kind: str
    axes: tuple[str, ...]
    count: int
    bytes: int
    largest: int
    crosses_slices: bool = False


@dataclass(frozen=True)
class Census:
    """All traffic of a step, most bytes first. Loops of unknown trip count are counted as one iteration."""

    traffic: tuple[Traffic, ...]
    unknown_loops: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes that one device sends in a step."""
        return sum(row.bytes for row in self.traffic)


def census(hlo: str, mesh: Mesh) -> Census:
    """Counts the collectives of `compiled.as_text()`, a program compiled for `mesh`.

    Bytes are those of ring algorithms, for arrays without the padding of their layouts.
    """
    program = _Program(hlo, _MeshPositions(mesh))
    moves = program.moves(program.module.entry)
    rows: dict[tuple[str, tuple[str, ...], bool], list[tuple[_Collective, int]]] = {}
    for move, times in (+moves).items():
        rows.setdefault((move.kind, move.axes, move.crosses_slices), []).append((move, times))
    traffic = [
        Traffic(
            kind,
            axes,
            count=sum(times for _, times in row),
            bytes=sum(move.bytes * times for move, times in row),
            largest=max(move.largest for move, _ in row),
            crosses_slices=crosses,
        )
        for (kind, axes, crosses), row in rows.items()
    ]
    return Census(tuple(sorted(traffic, key=lambda row: -row.bytes)), tuple(program.unknown_loops))


def describe(found: Census) -> Iterator[str]:
    """Yields a table of the traffic, one line per kind and axes, then loops of unknown trip count."""
    titles = f"{'times':>8} {'GiB sent per device and step':>30} {'largest MiB':>12}"
    yield f"{'collective':<22} {'axes':<24} {titles}"
    for row in found.traffic:
        axes = "+".join(row.axes) + (" (between slices)" if row.crosses_slices else "")
        sizes = f"{row.bytes / 2**30:30.3f} {row.largest / 2**20:12.2f}"
        yield f"{row.kind:<22} {axes:<24} {row.count:8d} {sizes}"
    yield f"{'all':<47} {sum(row.count for row in found.traffic):8d} {found.bytes / 2**30:30.3f}"
    for loop in found.unknown_loops:
        yield f"trip_count unknown: loop {loop} is counted as one iteration"


class _MeshPositions:
    """Finds the mesh axes that a group of partitions runs along."""

    def __init__(self, mesh: Mesh):
        self.shape, self.names = mesh.devices.shape, mesh.axis_names
        # Only devices of several TPU slices have the attribute; CPUs and GPUs lack it.
        slices = [getattr(device, "slice_index", None) or 0 for device in mesh.devices.flat]
        self.slices = np.asarray(slices)
        self.members = [np.flatnonzero(self.slices == index) for index in sorted(set(slices))]

    def positions(self, partitions: int) -> np.ndarray:
        """Returns the position in the mesh of each partition of a program, which may be that of one slice."""
        # For several slices XLA compiles the program of one slice, and joins them by transfers of its own.
        if partitions == self.slices.size:
            return np.arange(partitions)
        if len(self.members) > 1 and all(partitions == len(members) for members in self.members):
            return self.members[0]
        raise ValueError(f"the program has {partitions} partitions and the mesh {self.slices.size} devices")

    def along(self, groups: Sequence[np.ndarray]) -> tuple[tuple[str, ...], bool]:
        """Returns the axes along which members of a group differ, and whether they are in several slices."""
        differ, crosses = np.zeros(len(self.shape), bool), False
        for group in groups:
            places = np.stack(np.unravel_index(group, self.shape))
            differ |= (places != places[:, :1]).any(axis=1)
            crosses |= bool((self.slices[group] != self.slices[group[0]]).any())
        return tuple(name for name, moves in zip(self.names, differ, strict=True) if moves), crosses


@dataclass(frozen=True)
class _Collective:
    """One collective: what a device sends, and its largest result."""

    kind: str
    axes: tuple[str, ...]
    crosses_slices: bool
    bytes: int
    largest: int


class _Program:
    """Finds the collectives of each computation, including those of computations that it calls."""

    def __init__(self, hlo: str, places: _MeshPositions):
        self.module, self.places = parse(hlo), places
        self.positions = places.positions(self.module.partitions)
        self.unknown_loops: list[str] = []
        self._found: dict[str, Counter[_Collective]] = {}
        self._chains: set[tuple[str, ...]] = set()

    def moves(self, name: str, fused: bool = False) -> Counter[_Collective]:
        """Returns the collectives of one run of a computation."""
        if name not in self._found:
            self._found[name] = Counter()
            computation = self.module.computations[name]
            for line in computation.instructions.values():
                self._found[name].update(self._line(computation, line, fused))
        return self._found[name]

    def _line(self, computation: Computation, line: Instruction, fused: bool) -> Counter[_Collective]:
        if line.opcode == "while":
            return self._loop(computation, line)
        if line.opcode == "conditional":
            branches = line.named("branch_computations") or (
                *line.named("true_computation"),
                *line.named("false_computation"),
            )
            # Which branch runs is known only at run time, so the dearest stands for all of them.
            return max(map(self.moves, branches), key=_bytes)
        found: Counter[_Collective] = Counter(self._collective(computation, line, fused))
        # The end of an asynchronous call names the same computation as its start, which was counted.
        if not line.opcode.endswith(("-done", "-update")):
            for attribute in ("calls", "to_apply", "called_computations"):
                for called in line.named(attribute):
                    found.update(self.moves(called, line.opcode == "fusion"))
        return found

    def _loop(self, computation: Computation, line: Instruction) -> Counter[_Collective]:
        iteration = self.moves(line.named("body")[0])
        if not iteration:
            return iteration
        # XLA's own cost analysis counts the body of a loop once, whatever the trip count.
        times = trip_count(self.module, computation.name, line)
        if times is None:
            origin = re.search(r'op_name="([^"]*)"', line.text)
            self.unknown_loops.append(f"{line.name} ({origin[1]})" if origin else line.name)
        return Counter({move: count * (1 if times is None else times) for move, count in iteration.items()})

    def _collective(self, computation: Computation, line: Instruction, fused: bool) -> Iterator[_Collective]:
        kind, groups = self._groups(line)
        if not kind or self._continues(line):
            return
        if kind == "all-reduce" and fused and _only_sliced(computation, line.name):
            kind = "reduce-scatter"
        # A send has a token beside its payload, and a ragged-all-to-all its output and offsets.
        operands = line.operands[:1] if line.opcode == "send" or kind.startswith("ragged") else line.operands
        sizes = [size for name in operands for size in sizes_of(computation.instructions[name].shape)]
        axes, crosses = self.places.along(groups)
        # A group of one device sends nothing, though the instruction is there.
        if axes:
            ways = max(map(len, groups))
            # `sizes` are those of operands; a gather's result is larger, a scatter's smaller.
            grown = {"all-gather": ways, "reduce-scatter": 1 / ways}.get(kind, 1)
            yield _Collective(kind, axes, crosses, _sent(kind, sum(sizes), ways), round(max(sizes) * grown))

    def _continues(self, line: Instruction) -> bool:
        """Whether this instruction repeats a collective that was counted already.

        TPU programs write an asynchronous collective into its start, into each fusion that overlaps with
        it, and into its end; all of them carry the same chain id and channel.
        """
        chain = re.search(r'\bchain_id="(\d+)"', line.text)
        if not chain:
            return False
        key = (chain[1], *re.findall(r"\bchannel_id=(\d+)", line.text))
        seen = key in self._chains
        self._chains.add(key)
        return seen

    def _groups(self, line: Instruction) -> tuple[str, list[np.ndarray]]:
        """Returns the kind of a collective ("" for anything else), and its groups as mesh positions."""
        kind = line.opcode.removesuffix("-start")
        transfer, pairs = _TRANSFER.search(line.text), _PAIRS.search(line.text)
        # Between slices TPU programs have no collectives: host transfers named after what they do instead.
        if kind == "send" and transfer:
            kind = transfer[1].lower().replace("_", "-").replace("one-to-one", "collective-permute")
            return kind, list(np.stack(self.places.members, axis=1))
        if kind in ("send", "collective-permute") and pairs:
            return "collective-permute", [self.positions[pair] for pair in id_groups(pairs[1])]
        if kind not in KINDS:
            return "", []
        return kind, [self.positions[group] for group in replica_groups(line.text, self.positions.size)]


def _bytes(moves: Counter[_Collective]) -> int:
    return sum(move.bytes * count for move, count in moves.items())


def _only_sliced(computation: Computation, name: str) -> bool:
    """Whether only slices of a value are used: in a fusion, that is how TPUs write a reduce-scatter."""
    users = [line for line in computation.instructions.values() if name in line.operands]
    return bool(users) and all(
        line.opcode == "dynamic-slice" or line.opcode in _VIEWS and _only_sliced(computation, line.name)
        for line in users
    )


def _sent(kind: str, operands: int, ways: int) -> int:
    """Returns the bytes that one of `ways` devices sends when each holds `operands` bytes."""
    if kind == "all-gather":
        return operands * (ways - 1)
    if kind in ("collective-permute", "collective-broadcast"):
        return operands
    # A ring all-reduce is a reduce-scatter and an all-gather, and each sends (ways - 1) / ways of the array.
    return round(operands * (2 if kind == "all-reduce" else 1) * (ways - 1) / ways)
