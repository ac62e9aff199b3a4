"""The description of a checkpoint family: its table of rows, its released sizes, the form of its files."""

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.convert.engine.packing import Packed, Unpacked, packed_again
from ivjax.convert.engine.rows import SAME, Row, original_tensors
from ivjax.convert.formats.tensors import LazyTensor, Shape, Tensors
from ivjax.data_pipelines.fields.turns import Turns
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.errors import UserError
from ivjax.experiment.branches import branches_of, options_of
from ivjax.experiment.computing import Compute
from ivjax.experiment.kinds import check_kinds
from ivjax.experiment.ranges import check_ranges
from ivjax.models.sizes import Grid
from ivjax.ops.cut import Params
from ivjax.ops.trees import paths_of

BUFFERS = {
    "*position_ids": "positions are counted, not stored",
    "*inv_freq": "rotary frequencies are computed",
    "*num_batches_tracked": "batches are counted in training only",
}

# The largest sizes that a file may name. A model is traced layer by layer, and some families make arrays as
# long as its sizes, before a tensor is looked at.
_MOST_LAYERS, _LARGEST_SIZE = 1000, 2**20

# What DistributedDataParallel, training scripts and torch.compile put before all names.
WRAPPERS = ("module.", "model.", "_orig_mod.")


@dataclass(frozen=True)
class FixtureRun:
    """Runs a family's model on a fixture of the original.

    Attributes:
        sizes: config of the fixture -> sizes of the model.
        run: (sizes, params, inputs, dtype) -> outputs under the fixture's names, in the original's layout.
    """

    sizes: Callable[[Mapping[str, Any]], Any]
    run: Callable[[Any, Params, Mapping[str, Any], Any], Mapping[str, Any]]


@dataclass(frozen=True)
class HubConfig:
    """What the config.json says that lies beside a file of the transformers library.

    Attributes:
        model_types: the library's names of the models.
        sizes: config -> sizes of the model; raises UserError for a model that is not computed here.
    """

    model_types: tuple[str, ...]
    sizes: Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Merging:
    """Parameters that export merges into others, because the originals' names have no place for them.

    Attributes:
        paths: their paths; files in this project's format hold them.
        merged: (parameters, sizes) -> the parameters without them.
    """

    paths: tuple[str, ...]
    merged: Callable[[Tensors, Any], Tensors]


@dataclass(frozen=True)
class InnerModel:
    """A model of another family inside a family's models.

    Attributes:
        family: its own family, of files that hold it alone.
        prefix: what goes before that family's names.
    """

    family: "Family"
    prefix: str


@dataclass(frozen=True)
class Family:
    """A checkpoint family: files whose tensors one table can read.

    Attributes:
        name: the name that users type.
        rows: the table between original tensors and parameters.
        presets: name -> sizes of a released model; the types of these sizes are what its models are known by.
        tokenizer: sizes -> tokenizer of captions or of a language model, or None.
        container: the key that holds the tensors in the public torch files; `flat` for none.
        prefix: what the names in the public files begin with; export writes it.
        ignored: patterns of original names -> why they are not needed.
        needs: names, without a prefix, that all of its files have, where other families share the rest.
        prefixes: what else files may put before all names.
        ties: copy -> the original tensor that it repeats. A copy that has a row of its own is one only for
            models without the row's parameter, whose files may leave it out.
        frames: numbers of frames that its joint position tables were released for.
        added: paths of parameters that no file of the originals holds.
        parity: how the model is run on fixtures; None where there are none.
        about: what its files are, for the list of families.
        stores_runs: whether a run of such a model is exported under these names unless others are asked for.
        hub: how the config.json beside its files is read; None for files that have none.
        packed: original tensors that hold several parameters; rows name their parts.
        buffers: sizes -> tensors that files of the originals hold and no parameter fills, such as positions
            that are counted; export writes them.
        merging: parameters that export merges into others; None for none.
        measured: (sizes, tensors under the table's names) -> the sizes with what only the tensors tell, such
            as how many words there are.
        language: the language model at the branch `language`, which may lie in a file of its own; None for
            models without one.
        turns: sizes -> how conversations with its released models are written and what they see;
            None for models that answer no questions.
    """

    name: str
    rows: tuple[Row, ...]
    presets: Mapping[str, Any]
    tokenizer: Callable[[Any], Tokenizer | None] = lambda sizes: None
    container: str = "flat"
    prefix: str = ""
    ignored: Mapping[str, str] = field(default_factory=lambda: BUFFERS)
    needs: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = WRAPPERS
    ties: Mapping[str, str] = field(default_factory=dict)
    frames: tuple[int, ...] = (8,)
    added: tuple[str, ...] = ()
    parity: FixtureRun | None = None
    about: str = ""
    stores_runs: bool = True
    hub: HubConfig | None = None
    packed: tuple[Packed, ...] = ()
    buffers: Callable[[Any], Mapping[str, np.ndarray]] = lambda sizes: {}
    merging: Merging | None = None
    measured: Callable[[Any, Tensors], Any] = lambda sizes, tensors: sizes
    language: InnerModel | None = None
    turns: Callable[[Any], Turns | None] = lambda sizes: None

    @property
    def kind(self) -> type:
        """The type of this family's sizes."""
        return type(next(iter(self.presets.values())))

    @property
    def branches(self) -> dict[str, type]:
        """The branches of the tree that are models of their own, with the type of their sizes."""
        tops = {row.target.split("/")[0] for row in self.rows}
        sizes = next(iter(self.presets.values()))
        inner = {field.name: type(getattr(sizes, field.name)) for field in dataclasses.fields(sizes)}
        return {name: kind for name, kind in inner.items() if name in tops and dataclasses.is_dataclass(kind)}

    def fits(self, sizes: Any) -> bool:
        """Whether sizes are those of one of its models: of the same types, in every branch."""
        # The very type: a size of a subclass may have other parameters.
        if type(sizes) is not self.kind:
            return False
        return all(type(getattr(sizes, branch)) is kind for branch, kind in self.branches.items())

    def model(self, sizes: Any, dtype: Any) -> Any:
        """The model of these sizes that computes in `dtype`."""
        return sizes.build(Compute(dtype=jnp.dtype(dtype).name))

    def init(self, sizes: Any) -> Params:
        """Fresh parameters of the model of these sizes."""
        return self.model(sizes, "float32").init(jax.random.key(0))

    def grid(self, sizes: Any) -> Grid | None:
        """The patch grid of the model of these sizes; None for one that sees nothing."""
        return sizes.grid

    def holds(self, kind: type, branch: str = "") -> bool:
        """Whether its models, or with `branch` that branch of them, have sizes of this type."""
        found = self.branches.get(branch) if branch else self.kind
        # A size may name others whose parameters are a part of its own: files of those are a start for it.
        return found is kind or found in getattr(kind, "starts_from", ())

    def shapes(self, sizes: Any) -> dict[str, Shape]:
        """Returns the shapes of the parameters by path; nothing is computed."""
        try:
            return dict(_shapes(self.init, sizes))
        except Exception as error:  # a model may fail in any way on impossible sizes
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"no {self.name} of these sizes can be built: {reason}; mend {sizes}") from error

    def unpacked(self, tensors: Tensors, sizes: Any) -> Tensors:
        """Returns a file's tensors under the table's names, for a model of `sizes`."""
        return Unpacked(tensors, self.packed, sizes) if self.packed else tensors

    def original_tensors(self, leaves: Tensors, sizes: Any = None) -> list[LazyTensor]:
        """Returns the tensors of a public file, still to be read, made of parameters by path.

        Without the `sizes` of the model nothing is merged or added, and nothing may be packed.
        """
        if self.merging and sizes is not None:
            leaves = self.merging.merged(leaves, sizes)
        rowless = {alias: owner for alias, owner in self.ties.items() if alias not in self._sources}
        tensors: Sequence[LazyTensor] = original_tensors(self.rows, leaves, rowless, self.added)
        # A parameter that all layers share is listed in as many as there are; `ties` names more.
        names = {tensor.name for tensor in tensors}
        tensors = [tensor for tensor in tensors if _has_layer(tensor.name, names - rowless.keys())]
        if self.packed:
            tensors = packed_again(tensors, self.packed, sizes)
        if sizes is not None:
            tensors = [*tensors, *(_in_memory(name, array) for name, array in self.buffers(sizes).items())]
        return [dataclasses.replace(tensor, name=f"{self.prefix}{tensor.name}") for tensor in tensors]

    def configured(self, config: Mapping[str, Any]) -> Any:
        """Returns the sizes that a config.json names; None if it is of no such model."""
        if self.hub is None or config.get("model_type") not in self.hub.model_types:
            return None
        try:
            return _checked(self.hub.sizes(config))
        except KeyError as error:
            broken = f"lacks {error}, needed for"
        except (TypeError, ValueError, ArithmeticError, AttributeError):
            broken = "has a value of the wrong kind for"
        raise UserError(
            f"its config.json {broken} {config['model_type']}; take the one that came with the weights"
        )

    @property
    def _sources(self) -> set[str]:
        return {source for row in self.rows for source in row.sources}

    def own_rows(self) -> list[Row]:
        """Returns the table of files in this project's own format: paths are names."""
        # A rule of another shape holds only where nothing is transposed, because it sees original tensors.
        # Reversed, because of several rows of one path the first counts, and a dict keeps the last.
        fits = {row.target: row.fit if row.transform is SAME else None for row in reversed(self.rows)}
        fits |= dict.fromkeys((*self.added, *(self.merging.paths if self.merging else ())))
        return [Row(path, path, fit=fit) for path, fit in fits.items()]

    def sizes(self, stored: Mapping[str, Any]) -> Any:
        """Returns the sizes that `dataclasses.asdict` made `stored` of, or raises UserError."""
        return _checked(_rebuilt(self.kind, tuple(self.presets.values()), stored))


def _checked(sizes: Any) -> Any:
    """Returns sizes that a file names, if their values are of the declared types and ranges."""
    check_kinds(sizes)
    check_ranges(sizes)
    _check_extent(sizes, "")
    return sizes


def _check_extent(value: Any, path: str) -> None:
    """Raises UserError for a whole number, in the fields of sizes and below, that no model can have."""
    for name, branch in branches_of(value).items():
        most = _MOST_LAYERS if name == "depth" else _LARGEST_SIZE
        if int in options_of(branch.kind) and isinstance(branch.value, int) and branch.value > most:
            raise UserError(f"{path}{name} is {branch.value}, and no model's is above {most}")
        _check_extent(branch.value, f"{path}{name}.")


def _has_layer(name: str, names: Collection[str]) -> bool:
    """Whether the layer of a tensor, if it is of one, is a layer of any of `names`."""
    layer = re.match(r".*?\.layers?\.\d+\.", name)
    return layer is None or name in names or any(other.startswith(layer[0]) for other in names)


def _in_memory(name: str, array: np.ndarray) -> LazyTensor:
    return LazyTensor(name, array.shape, array.dtype, lambda: [array])


# Finding the nearest preset traces every released model, and the comparison then asks for one of them again.
# Classifiers alone have 48.
@functools.lru_cache(maxsize=128)
def _shapes(init: Callable[[Any], Params], sizes: Any) -> tuple[tuple[str, Shape], ...]:
    tree = jax.eval_shape(functools.partial(init, sizes))
    return tuple((path, tuple(leaf.shape)) for path, leaf in paths_of(tree))


def _rebuilt(kind: Any, examples: Sequence[Any], stored: Any) -> Any:
    """Returns a value of type `kind` from its plain form in JSON.

    The type of the first of the presets' `examples` counts: the declared one may be a protocol, and the first
    presets may leave a part out.
    """
    if stored is None:
        return None
    examples = [example for example in examples if dataclasses.is_dataclass(example)]
    kind = type(examples[0]) if examples else kind
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    if dataclasses.is_dataclass(kind):
        kinds = typing.get_type_hints(kind)
        make: Any = kind
        return make(
            **{
                name: _rebuilt(kinds[name], [getattr(one, name, None) for one in examples], value)
                for name, value in stored.items()
            }
        )
    return tuple(stored) if isinstance(stored, list) else stored
