"""Parameters in the Orbax checkpoints of a run folder."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from ivjax.convert.formats.seal import damage
from ivjax.errors import UserError
from ivjax.experiment.buckets import storage
from ivjax.experiment.run_folder import CHECKPOINTS, checkpoint_steps, folder_with_weights


def restore_params(folder: Path, sharding: jax.sharding.Sharding, ema: bool = False) -> dict[str, Any]:
    """Returns the parameters, or their EMA, of a run's newest checkpoint, without the optimizer's state.

    Of a run in phases, those of its last phase.
    """
    folder = folder_with_weights(folder)
    steps = checkpoint_steps(folder)
    if not steps:
        raise UserError(f"{folder} holds no checkpoint; is it a run folder, and has the run saved once?")
    # An item's folder is a checkpoint of its own, so nothing of the optimizer's state is read.
    item = storage(folder) / CHECKPOINTS / str(steps[-1]) / ("ema" if ema else "params")
    if not item.is_dir():
        raise UserError(f"{item.parent} holds no {item.name}; the run was trained without it")
    try:
        target = jax.tree.map(
            lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding), item_tree(item)
        )
        with ocp.StandardCheckpointer() as reader:
            params: dict[str, Any] = reader.restore(item, target)
        # On the devices where they lie: those of a run that starts from them may be others, or more.
        with jax.set_mesh(jax.sharding.Mesh(np.array([*sharding.device_set]), ("devices",))):
            changed = damage(_meta(item.parent), None, {item.name: params})
        if changed:
            raise ValueError(changed)
        return params
    except Exception as error:  # whatever a damaged file raises, deep in the reader
        raise UserError(f"{item} cannot be read ({error}); the run's own start sets it aside") from error


def _meta(step: epath.Path) -> dict[str, Any]:
    """What a checkpoint says of its run; nothing in those of models that were saved without a run."""
    if not (step / "meta").is_dir():
        return {}
    return ocp.JsonCheckpointHandler().restore(step / "meta")


def item_tree(item: epath.Path) -> Any:
    """Returns the shapes and dtypes of an item's arrays, as the item describes itself."""
    # Not asked of a checkpointer, which also looks for the description of a step beside the arrays, where an
    # item has none, and warns of it at every load.
    return ocp.StandardCheckpointHandler().metadata(item).tree
