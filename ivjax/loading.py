"""`ivjax.load`: a model and its parameters out of a run folder or a weight file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ivjax.data_pipelines.mixture import Media, Mixture
from ivjax.data_pipelines.tokenizers.base import Tokenizer
from ivjax.stages.objective import Compute, Params

if TYPE_CHECKING:
    from ivjax.config import Experiment


class Loaded(NamedTuple):
    """`model.apply({"params": params}, ...)`; the tokenizer of its captions, if it reads any."""

    model: nn.Module
    params: Params
    tokenizer: Tokenizer | None


def load(
    path: str | Path,
    preset: str | None = None,
    *,
    family: str | None = None,
    fresh: tuple[str, ...] = (),
    dtype: Literal["float32", "bfloat16"] = "float32",
    ema: bool = False,
) -> Loaded:
    """The model of a run folder, of an original checkpoint, or of a file that `ivjax convert import` wrote.

    The file says which family and size it is; `family` and `preset` name them where it does not. Parameters
    that match a pattern of `fresh` are initialised. `dtype` is what the model computes in; parameters are
    float32. `ema`: a run's averaged parameters instead of its last ones.
    """
    from ivjax.stored import is_run, stored_experiment

    folder = Path(path).expanduser()
    if is_run(folder):
        return _of_run(folder, stored_experiment(folder), dtype, ema)
    from ivjax.convert.families import family_named
    from ivjax.convert.weights import import_weights

    imported = import_weights(folder, family, preset, fresh, "float32")
    found = family_named(imported.report.family)
    params = jax.tree.map(jnp.asarray, imported.params)
    return Loaded(found.model(imported.sizes, jnp.dtype(dtype)), params, found.tokenizer(imported.sizes))


def _of_run(folder: Path, experiment: "Experiment", dtype: Any, ema: bool) -> Loaded:
    """What is frozen is not in the checkpoints of a run, but where the run had it from."""
    from ivjax.train.checkpoint import restore_params
    from ivjax.train.freeze import joined
    from ivjax.train.mesh import MeshShape, build_mesh
    from ivjax.train.start import read_weights, shapes_of, starting_params

    stage = experiment.stage
    objective = stage.build(experiment.compute)
    [device] = jax.local_devices()[:1]
    params = restore_params(folder, jax.sharding.SingleDeviceSharding(device), ema)
    if objective.frozen:
        shapes = shapes_of(objective, "float32").frozen
        read = read_weights(objective, experiment.init_from, experiment.init_fresh)
        mesh = build_mesh(MeshShape(), [device])
        params = joined(params, starting_params(objective, shapes, read, experiment.seed, mesh))
    return Loaded(stage.model(Compute(dtype)), params, _tokenizer(experiment.data))


def _tokenizer(data: Any) -> Tokenizer | None:
    source = data.video if isinstance(data, Media) else data
    return source.reader.tokenizer if isinstance(source, Mixture) else None
