"""The report on a comparison of a file with a model."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ivjax.convert.formats.tensors import Shape
from ivjax.errors import UserError, readable

_IN_SENTENCE = 3  # problems that an error names
_IN_REPORT = 24  # problems that a report lists
_IN_LINE = 600  # characters of a line


@dataclass(frozen=True)
class ShapeDifference:
    """A tensor of another shape than the model's.

    Attributes:
        name: the tensor.
        found: its shape in the file.
        wanted: the shape that the model needs.
        remedy: what the user can do.
    """

    name: str
    found: Shape
    wanted: Shape
    remedy: str

    def text(self) -> str:
        """Returns the clause that follows the name."""
        return f"is {self.found} in the file and {self.wanted} in the model: {self.remedy}"


@dataclass(frozen=True)
class MatchReport:
    """Accounts for every tensor of a file and every parameter of a model.

    Attributes:
        matched: how many tensors fill parameters.
        missing: tensor -> the parameter that it would fill. An error.
        surplus: tensor -> why nothing takes it. An error.
        shapes: tensors of another shape. An error.
        conflicts: other errors, as sentences.
        unused: tensor -> why it is not needed.
        resized: tensor -> how it was made to fit.
        fresh: paths of parameters that are initialised.
        ties: copy -> the tensor that it must equal.
        dtypes: dtype -> number of tensors.
        family: the checkpoint family.
        preset: the name of the model's sizes; None if it was given by its shapes.
        container: the key that held the tensors in the file.
        prefix: what was removed from all names.
        non_finite: tensor -> how many of its numbers are NaN or infinite. An error unless it is allowed.
        allows_non_finite: whether such numbers are allowed.
    """

    matched: int
    missing: Mapping[str, str] = field(default_factory=dict)
    surplus: Mapping[str, str] = field(default_factory=dict)
    shapes: Sequence[ShapeDifference] = ()
    conflicts: Sequence[str] = ()
    unused: Mapping[str, str] = field(default_factory=dict)
    resized: Mapping[str, str] = field(default_factory=dict)
    fresh: Sequence[str] = ()
    ties: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, int] = field(default_factory=dict)
    family: str = ""
    preset: str | None = None
    container: str = "flat"
    prefix: str = ""
    non_finite: Mapping[str, str] = field(default_factory=dict)
    allows_non_finite: bool = False

    @property
    def fits(self) -> bool:
        """Whether the file gives the model all it needs, and nothing else."""
        return not self.errors

    @property
    def errors(self) -> int:
        """The number of errors."""
        values = 0 if self.allows_non_finite else len(self.non_finite)
        return len(self.missing) + len(self.surplus) + len(self.shapes) + len(self.conflicts) + values

    def problems(self) -> list[str]:
        """Returns one clause for each error; layers that fail alike share one."""
        shapes = _merged({shape.name: shape.text() for shape in self.shapes})
        missing = [_absent(name, path) for name, path in _merged(self.missing)]
        surplus = [f"{name} is left over: {why}" for name, why in _merged(self.surplus)]
        odd = [] if self.allows_non_finite else self._odd_values()
        return [*self.conflicts, *(f"{name} {text}" for name, text in shapes), *missing, *surplus, *odd]

    def _odd_values(self) -> list[str]:
        return [f"{name} holds {found}" for name, found in _merged(self.non_finite)]

    def check(self, what: str) -> None:
        """Raises an error that names what does not fit, unless all fits. `what` is the file's name."""
        problems = self.problems()
        if not problems:
            return
        model = " ".join(filter(None, (self.family, self.preset))) or "the model"
        more = f"; and {len(problems) - _IN_SENTENCE} more" if len(problems) > _IN_SENTENCE else ""
        raise UserError(f"{what} and {model} do not fit: {'; '.join(problems[:_IN_SENTENCE])}{more}")

    def text(self) -> str:
        """Returns the report in lines, for people."""
        head = {
            "family": self.family or "unknown",
            "preset": self.preset or "none",
            "container": self.container,
            "prefix": self.prefix or "none",
            "matched": f"{self.matched} tensors",
            "dtypes": ", ".join(f"{count} {dtype}" for dtype, count in self.dtypes.items()) or "none",
        }
        lines = [f"{name:<10}{value}" for name, value in head.items()]
        for name in ("resized", "unused", "ties"):
            lines += [f"{name:<10}{tensor}: {what}" for tensor, what in _merged(getattr(self, name))]
        lines += [f"{'fresh':<10}{path}" for path in self.fresh]
        if self.allows_non_finite:
            lines += [f"{'allowed':<10}{clause}" for clause in self._odd_values()]
        problems = self.problems()
        lines += [f"{'error':<10}{problem}" for problem in problems[:_IN_REPORT]]
        if len(problems) > _IN_REPORT:
            lines.append(f"{'error':<10}and {len(problems) - _IN_REPORT} more; --json lists all")
        lines.append("fits" if self.fits else f"does not fit: {self.errors} errors")
        return "\n".join(readable(line, _IN_LINE) for line in lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns the report as plain values, for programs."""
        return dataclasses.asdict(self) | {"fits": self.fits, "errors": self.errors}


def _absent(name: str, path: str) -> str:
    if name == path:
        return f"no such file holds {path}: name it as fresh (--fresh {path})"
    return f"{name} is missing, which fills {path}"


def _merged(named: Mapping[str, str]) -> list[tuple[str, str]]:
    """Returns (name, text) pairs; layers of one tensor with the same text become one: `blocks.{0..11}.x`."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, text in named.items():
        groups.setdefault((re.sub(r"\d+", "{}", name, count=1), text), []).append(name)
    return [(_range(key, names), text) for (key, text), names in groups.items()]


def _range(key: str, names: Iterable[str]) -> str:
    names = list(names)
    if len(names) == 1:
        return names[0]
    numbers = sorted(int(re.search(r"\d+", name)[0]) for name in names)  # type: ignore[index]
    joined = numbers == list(range(numbers[0], numbers[-1] + 1))
    text = f"{numbers[0]}..{numbers[-1]}" if joined else ",".join(map(str, numbers))
    return key.replace("{}", f"{{{text}}}")
