"""Runs a family's model on a fixture of the original, and compares layer by layer."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ivjax.convert.detection import recognise
from ivjax.convert.engine.rows import unflatten
from ivjax.convert.formats.safetensors_files import open_tensors
from ivjax.convert.formats.tensors import part
from ivjax.convert.planning import Choices, plan
from ivjax.errors import UserError

TOLERANCE = 1e-3  # relative, of float32
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Line:
    """A layer's output against the original's. relative: the difference's length over the original's."""

    layer: str
    dtype: str
    max_abs: float
    relative: float
    cosine: float


@dataclass(frozen=True)
class Parity:
    """The comparison of a whole model; float32 decides whether it holds."""

    family: str
    fixture: str
    lines: Sequence[Line]

    @property
    def holds(self) -> bool:
        """Whether every layer is the original's in float32."""
        return all(line.relative <= TOLERANCE for line in self.lines if line.dtype == "float32")

    def text(self) -> str:
        """A table, for people."""
        width = max(len(line.layer) for line in self.lines)
        head = f"{'layer':<{width}}  {'dtype':<8}  {'max abs':>9}  {'relative':>9}  cosine"
        rows = [
            f"{x.layer:<{width}}  {x.dtype:<8}  {x.max_abs:9.2e}  {x.relative:9.2e}  {x.cosine:.8f}"
            for x in self.lines
        ]
        end = f"float32 is {'within' if self.holds else 'beyond'} {TOLERANCE:g} relative"
        return "\n".join([f"{self.family} on {self.fixture}", head, *rows, end])

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for programs."""
        lines = [asdict(line) for line in self.lines]
        return {"family": self.family, "fixture": self.fixture, "holds": self.holds, "lines": lines}


def compare(weights: Path, fixture: Path) -> Parity:
    """Parity of weights on a fixture: NAME.safetensors (`params/`, `inputs/`, `outputs/`) and NAME.json.

    `weights` may be the fixture itself, for its own parameters.
    """
    stored, config = open_tensors(fixture), _config(fixture)
    tensors = open_tensors(weights)
    source = part(tensors, "params/") if any(name.startswith("params/") for name in tensors) else tensors
    family = recognise(source, str(weights)).family
    if family.parity is None:
        raise UserError(f"{family.name} cannot be run on fixtures yet")
    try:
        sizes = family.parity.sizes(config)
    except (KeyError, TypeError) as error:
        raise UserError(f"{fixture} is no fixture of {family.name}: its config lacks {error}") from None
    planned = plan(source, str(weights), Choices(dtype="float32"), family.shapes(sizes), family.grid(sizes))
    planned.report.check(str(weights))
    params = unflatten({lazy.name: lazy.read() for lazy in planned.lazies()})
    inputs = dict(part(stored, "inputs/"))
    run, outputs = functools.partial(family.parity.run, sizes), part(stored, "outputs/")
    try:
        found = {dtype: _layers(run, params, inputs, dtype) for dtype in DTYPES}
    except KeyError as error:
        raise UserError(f"{fixture} cannot be run: it holds no inputs/{error.args[0]}") from None
    lines = [
        _line(layer, dtype, ours, outputs[layer])
        for dtype, layers in found.items()
        for layer, ours in layers
        if layer in outputs
    ]
    if not lines:
        raise UserError(f"{fixture} holds no output that {family.name} names")
    return Parity(family.name, fixture.stem, lines)


def _layers(
    run: Callable[..., Mapping[str, Any]], params: Any, inputs: Any, dtype: str
) -> list[tuple[str, Any]]:
    """What `run` gives, compiled, in its own order: dicts lose theirs in compilation."""
    names: list[str] = []

    def values(params: Any) -> list[Any]:
        found = run(params, inputs, dtype)
        names.extend(found)
        return list(found.values())

    with jax.default_matmul_precision("highest"):
        arrays = jax.jit(values)(params)
    return list(zip(names, arrays, strict=True))


def _line(layer: str, dtype: str, ours: Any, theirs: np.ndarray) -> Line:
    a, b = np.asarray(ours, np.float64).reshape(-1), theirs.astype(np.float64).reshape(-1)
    if np.shape(ours) != theirs.shape:
        raise UserError(f"{layer} is {np.shape(ours)} here and {theirs.shape} in the fixture")
    length, difference = float(np.linalg.norm(b)), a - b
    relative = float(np.linalg.norm(difference)) / max(length, 1e-30)
    cosine = float(a @ b) / max(float(np.linalg.norm(a)) * length, 1e-30)
    return Line(layer, dtype, float(np.abs(difference).max()), relative, cosine)


def _config(fixture: Path) -> dict[str, Any]:
    path = fixture.with_suffix(".json")
    try:
        stored = json.loads(path.read_text())
        told = stored["config"] if "config" in stored else stored["constructor"]
        # Fixtures with a constructor say beside it what only its inputs show, such as the number of frames.
        return stored | told
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the fixture's {path} cannot be read ({type(error).__name__}: {error})") from None
