"""Runs a family's model on a fixture of the original, and compares them layer by layer."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ivjax.convert.comparison import ImportChoices, compare
from ivjax.convert.detection import recognise
from ivjax.convert.engine.rows import unflatten
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.tensors import below
from ivjax.convert.registry import FAMILIES
from ivjax.errors import UserError

TOLERANCE = 1e-3  # relative, of float32
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class LayerDifference:
    """A layer's output against the original's.

    Attributes:
        layer: the output's name in the fixture.
        dtype: what the model computed in.
        max_abs: the largest absolute difference.
        relative: norm of the difference over norm of the original.
        cosine: cosine of the angle between both.
    """

    layer: str
    dtype: str
    max_abs: float
    relative: float
    cosine: float


@dataclass(frozen=True)
class ParityReport:
    """The comparison of a whole model with the original.

    Attributes:
        family: the checkpoint family.
        fixture: the fixture's name.
        layers: one entry for each layer and dtype.
    """

    family: str
    fixture: str
    layers: Sequence[LayerDifference]

    @property
    def holds(self) -> bool:
        """Whether every layer is the original's in float32; bfloat16 rounds too much to judge by."""
        return all(layer.relative <= TOLERANCE for layer in self.layers if layer.dtype == "float32")

    def text(self) -> str:
        """Returns a table for people."""
        width = max(len(layer.layer) for layer in self.layers)
        head = f"{'layer':<{width}}  {'dtype':<8}  {'max abs':>9}  {'relative':>9}  cosine"
        rows = [
            f"{x.layer:<{width}}  {x.dtype:<8}  {x.max_abs:9.2e}  {x.relative:9.2e}  {x.cosine:.8f}"
            for x in self.layers
        ]
        end = f"float32 is {'within' if self.holds else 'beyond'} {TOLERANCE:g} relative"
        return "\n".join([f"{self.family} on {self.fixture}", head, *rows, end])

    def as_dict(self) -> dict[str, Any]:
        """Returns the same as plain values, for programs."""
        layers = [asdict(layer) for layer in self.layers]
        return {"family": self.family, "fixture": self.fixture, "holds": self.holds, "layers": layers}


def check_parity(weights: Path, fixture: Path) -> ParityReport:
    """Runs weights on a fixture and compares every layer that the fixture holds.

    A fixture is NAME.safetensors (`params/`, `inputs/`, `outputs/`) with NAME.json beside it. `weights` may
    be the fixture itself, for its own parameters.
    """
    stored, config = open_tensors(fixture), _config(fixture)
    tensors = open_tensors(weights)
    source = below(tensors, "params/") if any(name.startswith("params/") for name in tensors) else tensors
    family = recognise(source, str(weights)).family
    if family.parity is None:
        able = ", ".join(name for name, other in FAMILIES.items() if other.parity)
        raise UserError(f"{family.name} is not run on fixtures; of these families models are: {able}")
    try:
        sizes = family.parity.sizes(config)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{fixture} is no fixture of {family.name}: its config lacks {error}; give its own weights"
        ) from None
    # The sizes beside the shapes, for tensors that hold several parameters.
    choices = ImportChoices(dtype="float32", sizes=sizes)
    compared = compare(source, str(weights), choices, family.shapes(sizes), family.grid(sizes))
    compared.report.check(str(weights))
    params = unflatten({leaf.name: leaf.read() for leaf in compared.leaves()})
    inputs = dict(below(stored, "inputs/"))
    run, outputs = functools.partial(family.parity.run, sizes), below(stored, "outputs/")
    try:
        found = {dtype: _layers(run, params, inputs, dtype) for dtype in DTYPES}
    except KeyError as error:
        raise UserError(f"{fixture} cannot be run: it holds no inputs/{error.args[0]}") from None
    differences = [
        _difference(layer, dtype, ours, outputs[layer])
        for dtype, layers in found.items()
        for layer, ours in layers
        if layer in outputs
    ]
    if not differences:
        raise UserError(f"{fixture} holds no output that {family.name} names")
    return ParityReport(family.name, fixture.stem, differences)


def _layers(
    run: Callable[..., Mapping[str, Any]], params: Any, inputs: Any, dtype: str
) -> list[tuple[str, Any]]:
    """Returns the layers that `run` gives, compiled, in its own order."""
    # jit sorts the keys of dicts; a list keeps the order of the layers, which the table is read by.
    names: list[str] = []

    def values(params: Any) -> list[Any]:
        found = run(params, inputs, dtype)
        names.extend(found)
        return list(found.values())

    # By default accelerators multiply float32 in fewer bits.
    with jax.default_matmul_precision("highest"):
        arrays = jax.jit(values)(params)
    return list(zip(names, arrays, strict=True))


def _difference(layer: str, dtype: str, ours: Any, theirs: np.ndarray) -> LayerDifference:
    # In float64, so that the comparison itself adds no rounding to what it measures.
    a, b = np.asarray(ours, np.float64).reshape(-1), theirs.astype(np.float64).reshape(-1)
    if np.shape(ours) != theirs.shape:
        raise UserError(f"{layer} is {np.shape(ours)} here and {theirs.shape} in the fixture")
    length, difference = float(np.linalg.norm(b)), a - b
    relative = float(np.linalg.norm(difference)) / max(length, 1e-30)
    cosine = float(a @ b) / max(float(np.linalg.norm(a)) * length, 1e-30)
    return LayerDifference(layer, dtype, float(np.abs(difference).max()), relative, cosine)


def _config(fixture: Path) -> dict[str, Any]:
    path = fixture.with_suffix(".json")
    try:
        stored: dict[str, Any] = json.loads(path.read_text())
        # Fixtures with a constructor say beside it what only its inputs show, such as the number of frames;
        # those of several models have all options beside each other.
        return stored | stored.get("config", stored.get("constructor", {}))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"the fixture's {path} cannot be read ({type(error).__name__}: {error})") from None
