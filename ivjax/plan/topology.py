"""Reads and checks topologies: accelerators and how they are joined, as in `v5p:4x4x8` or `h200:64`."""

import math
import re
from dataclasses import dataclass

from ivjax.errors import UserError, nearest
from ivjax.train.chips import CHIPS, Chip

# Other names of a generation, which the compiler does not know.
_OTHER_NAMES = {
    "v5lite": "v5e",
    "v5litepod": "v5e",
    "v5": "v5p",
    "v6": "v6e",
    "trillium": "v6e",
    "v7": "tpu7x",
    "v7x": "tpu7x",
    "tpu7": "tpu7x",
    "ironwood": "tpu7x",
}

# Slices that clouds offer; an impossible shape is answered with the nearest of these.
_GRIDS = {
    2: ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)),
    3: (
        *((1, 1, 1), (1, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4)),
        *((4, 4, 4), (4, 4, 8), (4, 8, 8), (8, 8, 8), (8, 8, 16), (8, 16, 16), (16, 16, 16)),
        *((16, 16, 24), (16, 20, 28), (16, 24, 24)),
    ),
}
_SIDES = {
    2: "a side is 2, 4, 8 or 16, and a single chip 1x1",
    3: "a side is a multiple of 4, or 1 or 2 below 4x4x4 as in 2x2x1 and 2x2x4",
}


@dataclass(frozen=True)
class Topology:
    """Accelerators of one kind.

    Attributes:
        chip: the kind.
        shape: chips of one slice along each dimension of its torus; one number on GPU and CPU.
        slices: how many slices the data-centre network joins.
    """

    chip: Chip
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def devices_per_slice(self) -> int:
        """The devices that jax sees in one slice."""
        return math.prod(self.shape) * self.chip.devices_per_chip

    @property
    def devices(self) -> int:
        """The devices that jax sees in all slices."""
        return self.devices_per_slice * self.slices

    @property
    def hosts(self) -> int:
        """The machines that they are in, with one process each."""
        return math.ceil(self.devices_per_slice / self.chip.devices_per_host) * self.slices

    @property
    def name(self) -> str:
        """The topology as users write it: "v5p:8x8x4" or "v5p:8x8x4 x2 slices"."""
        slices = f" x{self.slices} slices" if self.slices > 1 else ""
        return _write(self.chip, self.shape) + slices


def parse(text: str, slices: int = 1) -> Topology:
    """Reads `<tpu>:<AxB[xC]>`, `<gpu>:<count>` (also `<count>x<gpu>`) or `cpu:<count>`, `slices` times."""
    name, mark, size = _split(text)
    if name not in CHIPS:
        raise UserError(_unknown(text, name, mark + size))
    chip = CHIPS[name]
    shape = _grid(text, chip, mark, size) if chip.platform == "tpu" else _count(text, chip, mark, size)
    if slices < 1:
        raise UserError(f"slices={slices} of {text}: a topology has at least 1 slice")
    if slices > 1 and chip.platform == "cpu":
        raise UserError(f"slices={slices} of {text}: processors have no slices; write slices=1")
    return Topology(chip, shape, slices)


def offered(chip: Chip, most: int) -> list[Topology]:
    """Returns the topologies of a kind with at most so many devices, the smallest first."""
    if chip.platform == "tpu":
        shapes: list[tuple[int, ...]] = [grid for grid in _GRIDS[chip.torus] if math.prod(grid) <= _pod(chip)]
    else:
        shapes = [(count,) for count in (1, 2, 4, *range(8, most + 1, 8))]
    return [found for shape in shapes if (found := Topology(chip, shape)).devices <= most]


def _write(chip: Chip, shape: tuple[int, ...]) -> str:
    return f"{chip.name}:{'x'.join(map(str, shape))}"


def _split(text: str) -> tuple[str, str, str]:
    """Returns the name, the mark after it, and the size; `64xh200` becomes h200, :, 64."""
    text = text.strip().lower()
    # Clusters of GPUs are commonly written 64xh200.
    swapped = re.fullmatch(r"(\d+)x([a-z]\w*)", text)
    if swapped:
        return swapped[2], ":", swapped[1]
    found = re.fullmatch(r"([^:-]*)([:-]?)(.*)", text)
    return (found[1], found[2], found[3]) if found else (text, "", "")


def _unknown(text: str, name: str, rest: str) -> str:
    """Returns what is wrong with a name that is not in the table."""
    if name not in _OTHER_NAMES:
        names = f"there are {', '.join(CHIPS)}"
        return f"topology {text!r}: no accelerator is called {name!r} ({names}){nearest(name, CHIPS)}"
    chip = CHIPS[_OTHER_NAMES[name]]
    if rest.startswith("-"):
        return _accelerator_type(text, chip, rest[1:])
    return f"topology {text!r}: {name} is called {chip.name} here; write {_nearest(chip, rest[1:])}"


def _grid(text: str, chip: Chip, mark: str, size: str) -> tuple[int, ...]:
    """Returns the shape of a TPU slice in chips, checked against what the generation offers."""
    if mark == "-":
        raise UserError(_accelerator_type(text, chip, size))
    shape, near = _numbers(size), _nearest(chip, size)
    if not shape:
        wrong = f"needs the shape of a slice in chips, for example {near}"
    elif len(shape) != chip.torus:
        has = f"{len(shape)} dimension{'s' * (len(shape) > 1)}"
        wrong = f"has {has} and a {chip.name} slice {chip.torus}; the nearest is {near}"
    elif math.prod(shape) > _pod(chip):
        has = f"{math.prod(shape)} chips and a pod of {chip.name} {_pod(chip)}"
        wrong = f"has {has}; the nearest is {near}, and slices multiply it"
    elif not _exists(chip, shape):
        wrong = f"does not exist ({_SIDES[chip.torus]}); the nearest is {near}"
    else:
        return shape
    raise UserError(f"topology {text!r} {wrong}")


def _numbers(size: str) -> tuple[int, ...]:
    """Returns 4x8 as (4, 8), and anything else as ()."""
    return tuple(map(int, size.split("x"))) if re.fullmatch(r"\d+(x\d+)*", size) else ()


def _exists(chip: Chip, shape: tuple[int, ...]) -> bool:
    if len(shape) != chip.torus or math.prod(shape) > _pod(chip):
        return False
    if shape in _GRIDS[chip.torus]:
        return True
    if chip.torus == 2:
        return all(side in (2, 4, 8, 16) for side in shape)
    small = all(side in (2, 4) for side in shape[:2]) and shape[2] in (1, 2, 4)
    return small or all(side > 0 and side % 4 == 0 for side in shape)


def _pod(chip: Chip) -> int:
    """Returns the chips of the largest slice."""
    return chip.domain // chip.devices_per_chip


def _nearest(chip: Chip, size: str) -> str:
    """Returns the topology of this size if it exists, otherwise the one on offer with about as many chips."""
    shape = _numbers(size)
    return _write(chip, shape) if _exists(chip, shape) else _offered(chip, math.prod(shape) if shape else 64)


def _offered(chip: Chip, chips: int) -> str:
    """Returns the slice on offer whose number of chips comes nearest, by ratio."""
    fitting = [grid for grid in _GRIDS[chip.torus] if math.prod(grid) <= _pod(chip)]
    return _write(chip, min(fitting, key=lambda grid: abs(math.log(math.prod(grid) / max(chips, 1)))))


def _accelerator_type(text: str, chip: Chip, size: str) -> str:
    """Returns what is wrong with the cloud's form `v5p-128`, where some generations count cores."""
    if not size.isdecimal():
        return f"topology {text!r} lacks the colon before the shape; write {_nearest(chip, size)}"
    # The generations with a 3-D torus have two cores in a chip.
    cores = 2 if chip.torus == 3 else 1
    chips = max(int(size) // cores, 1)
    counted = f"{'cores' if cores == 2 else 'chips'}: {chips} chip{'s' * (chips > 1)}"
    return f"topology {text!r} is a name that counts {counted}; write the shape, {_offered(chip, chips)}"


def _count(text: str, chip: Chip, mark: str, size: str) -> tuple[int, ...]:
    """Returns the number of GPUs (1, 2, 4 or whole hosts) or of CPU devices, checked."""
    shape = _numbers(size)
    if not shape:
        raise UserError(f"topology {text!r} needs a number of devices, for example {chip.name}:8")
    if chip.platform == "cpu":
        legal, rule = min(max(math.prod(shape), 1), chip.domain), f"a number from 1 to {chip.domain}"
    else:
        legal = _whole_hosts(chip, math.prod(shape))
        rule = f"1, 2, 4 or whole hosts of {chip.devices_per_host}"
    if mark != ":" or shape != (legal,):
        raise UserError(f"topology {text!r}: {chip.name} takes {rule}; the nearest is {chip.name}:{legal}")
    return shape


def _whole_hosts(chip: Chip, count: int) -> int:
    """Returns the legal number of GPUs nearest to `count`."""
    host = chip.devices_per_host
    if count >= host:
        return (count + host // 2) // host * host
    return min((1, 2, 4, host), key=lambda legal: abs(legal - count))
