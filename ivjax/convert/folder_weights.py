"""Reads the parameters of a folder that was made of a run, and holds .safetensors in place of checkpoints."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ivjax.convert.engine.rows import unflatten
from ivjax.convert.formats.opening import index_of, open_tensors
from ivjax.convert.formats.tensors import Shape
from ivjax.errors import UserError
from ivjax.experiment.run_folder import WEIGHTS, checkpoint_steps
from ivjax.ops.cut import Params

CONFIG = "config.json"  # says what the model is
_SHOWN = 5  # parameters that a message names


def holds_weights(folder: Path) -> bool:
    """Whether a folder holds a run's parameters in .safetensors, whole or in shards."""
    weights = folder / WEIGHTS
    # Checkpoints come first: they are what a run itself writes.
    return (weights.is_file() or index_of(weights).is_file()) and not checkpoint_steps(folder)


def folder_params(
    folder: Path, wanted: Mapping[str, Shape], sharding: jax.sharding.Sharding, ema: bool = False
) -> Params:
    """Returns the parameters of a folder in float32; UserError unless they are the `wanted` ones."""
    file = folder / WEIGHTS
    if ema:
        raise UserError(f"{folder} holds one set of parameters, and no average beside it; leave out ema")
    tensors = open_tensors(file)
    there = [path for path in wanted if path in tensors]
    for what, paths in (
        ("lacks", [path for path in wanted if path not in tensors]),
        ("has, and the model has not,", [path for path in tensors if path not in wanted]),
        ("has in another shape", [path for path in there if tensors.shape(path) != wanted[path]]),
    ):
        if paths:
            more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
            raise UserError(f"{file} {what} {', '.join(paths[:_SHOWN])}{more}; copy the whole folder again")
    read = {path: np.asarray(tensors[path], np.float32) for path in wanted}
    return unflatten({path: jax.device_put(leaf, sharding) for path, leaf in read.items()})


def stored_step(folder: Path) -> int | None:
    """Returns after which step of its run a folder was made; None if it does not say so."""
    try:
        config: Any = json.loads((folder / CONFIG).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    step = config.get("step") if isinstance(config, dict) else None
    return step if isinstance(step, int) else None
