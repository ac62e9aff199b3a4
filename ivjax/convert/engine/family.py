"""What must be known of a checkpoint family: one table of rows, and how its files look."""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax

from ivjax.convert.engine.rows import SAME, Row, original
from ivjax.convert.formats.tensors import Lazy, Shape, Tensors
from ivjax.data_pipelines.tokenizers.base import Tokenizer
from ivjax.errors import UserError
from ivjax.ops.resize import Grid
from ivjax.ops.trees import paths_of

Params = dict[str, Any]

BUFFERS = {
    "*position_ids": "positions are counted, not stored",
    "*inv_freq": "rotary frequencies are computed",
    "*num_batches_tracked": "batches are counted in training only",
}

WRAPPERS = ("module.", "model.", "_orig_mod.")  # what training code puts before all names


@dataclass(frozen=True)
class Parity:
    """How a family's model is run on a fixture of the original: `sizes` of the fixture's config, and
    `run(sizes, params, inputs, dtype)` -> outputs under the fixture's names, in the original's layout."""

    sizes: Callable[[Mapping[str, Any]], Any]
    run: Callable[[Any, Params, Mapping[str, Any], Any], Mapping[str, Any]]


@dataclass(frozen=True)
class Family:
    """A checkpoint family.

    presets: sizes of the released models (frozen dataclasses). `model(sizes, dtype)` computes, `init(sizes)`
    makes fresh parameters, `grid(sizes)` is the patch grid, `tokenizer(sizes)` reads captions. container: the
    key of the public torch files. prefix: what their names begin with. prefixes: what else files wrap all
    names in. ignored: patterns of names -> why they are not needed. ties: copy -> the tensor it repeats.
    frames: the times that its joint position tables were released for. added: paths of the model's
    parameters that no file of the originals holds. `of_stage(stage)` gives the sizes of what a stage trains,
    None if that is another family's.
    """

    name: str
    rows: tuple[Row, ...]
    presets: Mapping[str, Any]
    model: Callable[[Any, Any], nn.Module]
    init: Callable[[Any], Params]
    grid: Callable[[Any], Grid]
    tokenizer: Callable[[Any], Tokenizer | None] = lambda sizes: None
    container: str = "flat"
    prefix: str = ""
    ignored: Mapping[str, str] = field(default_factory=lambda: BUFFERS)
    prefixes: tuple[str, ...] = WRAPPERS
    ties: Mapping[str, str] = field(default_factory=dict)
    frames: tuple[int, ...] = (8,)
    added: tuple[str, ...] = ()
    of_stage: Callable[[Any], Any] = lambda stage: None
    parity: Parity | None = None

    @property
    def kind(self) -> type:
        """What sizes of this family are instances of."""
        return type(next(iter(self.presets.values())))

    @property
    def branches(self) -> dict[str, type]:
        """The parts that are models of their own: branch of the tree -> what their sizes are instances of."""
        tops = {row.target.split("/")[0] for row in self.rows}
        sizes = next(iter(self.presets.values()))
        inner = {field.name: type(getattr(sizes, field.name)) for field in dataclasses.fields(sizes)}
        return {name: kind for name, kind in inner.items() if name in tops and dataclasses.is_dataclass(kind)}

    def holds(self, kind: type, branch: str = "") -> bool:
        """Whether its models, or that branch of them, have sizes of this kind."""
        return (self.branches.get(branch) if branch else self.kind) is kind

    def shapes(self, sizes: Any) -> dict[str, Shape]:
        """Shapes of the parameters by tree path; nothing is computed."""
        try:
            return dict(_shapes(self.init, sizes))
        except Exception as error:  # whatever a model makes of sizes that cannot be
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"no {self.name} of these sizes can be built: {reason}; mend {sizes}") from error

    def original(self, leaves: Tensors) -> list[Lazy]:
        """The tensors of a public file made of leaves by tree path, still to be read."""
        lazies = original(self.rows, leaves, self.ties, self.added)
        return [dataclasses.replace(lazy, name=f"{self.prefix}{lazy.name}") for lazy in lazies]

    def own_rows(self) -> list[Row]:
        """The rows of files in this project's own format: the tree's paths as names."""
        fits = {row.target: row.fit if row.transform is SAME else None for row in reversed(self.rows)}
        fits |= dict.fromkeys(self.added)
        return [Row(path, path, fit=fit) for path, fit in fits.items()]

    def sizes(self, stored: Mapping[str, Any]) -> Any:
        """The sizes that `dataclasses.asdict` made `stored` of."""
        return _rebuilt(self.kind, stored)


@functools.lru_cache(maxsize=32)
def _shapes(init: Callable[[Any], Params], sizes: Any) -> tuple[tuple[str, Shape], ...]:
    tree = jax.eval_shape(functools.partial(init, sizes))
    return tuple((path, tuple(leaf.shape)) for path, leaf in paths_of(tree))


def _rebuilt(kind: Any, stored: Any) -> Any:
    """A value of type `kind` from its plain form as JSON holds it."""
    if stored is None:
        return None
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    if dataclasses.is_dataclass(kind):
        kinds = typing.get_type_hints(kind)
        make: Any = kind
        return make(**{name: _rebuilt(kinds[name], value) for name, value in stored.items()})
    return tuple(stored) if isinstance(stored, list) else stored
