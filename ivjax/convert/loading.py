"""`ivjax.load`: a model and its parameters out of a run folder or a weight file."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from ivjax.convert.origins import params_of_run
from ivjax.convert.registry import family_named
from ivjax.convert.weights import import_weights
from ivjax.data_pipelines.load.tokenizers_in_use import caption_tokenizer
from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.storing import is_run, stored_experiment
from ivjax.ops.cut import Params


class Loaded(NamedTuple):
    """A model with its parameters.

    Attributes:
        model: a video tower has `encode(params, clips)`, a pair of towers `video(params, clips)` and
            `words(params, ids)`, a classifier `logits(params, clips)`.
        params: nested dicts of float32 arrays.
        tokenizer: turns captions into ids; None for a model that reads no text.
    """

    model: Any
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
    on_host: bool = False,
) -> Loaded:
    """Loads the model of a run folder, of an original checkpoint, or of a file of this project's format.

    Args:
        path: the run folder or the file.
        preset: the released size; needed where the file does not say it.
        family: the checkpoint family; needed where the tensors' names fit several.
        fresh: patterns of parameter paths that are initialised instead of read.
        dtype: what the model computes in. Parameters are always float32.
        ema: loads the averaged parameters of a run instead of the last ones.
        on_host: leaves the parameters in the host's memory, for a caller that spreads them over devices.

    What a run did not train is read from its `init_from` again. Its teachers are left out, because they are
    no part of the model.
    """
    folder = Path(path).expanduser()
    if is_run(folder):
        if preset or family or fresh:
            raise UserError(f"{path} is a run, which knows its sizes: leave out preset, family and fresh")
        experiment = stored_experiment(folder)
        params = params_of_run(folder, experiment, ema)
        if not on_host:
            params = jax.device_put(params, jax.local_devices()[0])
        return Loaded(experiment.stage.model(Compute(dtype)), params, caption_tokenizer(experiment))
    # In float32 whatever the model computes in: its layers cast by themselves, as in training.
    imported = import_weights(folder, family, preset, fresh, "float32")
    found = family_named(imported.report.family)
    params = imported.params if on_host else jax.tree.map(jnp.asarray, imported.params)
    return Loaded(found.model(imported.sizes, jnp.dtype(dtype)), params, found.tokenizer(imported.sizes))
