"""The typed experiment: options, overrides, storing. The bottom floor: imports no jax, Flax, Orbax or Grain.

A config needs this package alone for everything that is not a model or a data pipeline:

    from ivjax import experiment as ix
"""

from ivjax.experiment.branches import replaced
from ivjax.experiment.computing import Compute, Recipe, Remat
from ivjax.experiment.experiment import DataSource, Experiment, Stage
from ivjax.experiment.files import (
    load_experiment,
    parse_name,
    shipped_configs,
    variants_of,
    with_overrides,
)
from ivjax.experiment.listing import diff, leaves, resolved_text, show, to_json
from ivjax.experiment.mesh_shape import MESH_AXES, MeshShape
from ivjax.experiment.overrides import apply_overrides, expand
from ivjax.experiment.run_options import (
    AdamW,
    Checkpointing,
    EvalLoss,
    EvalRun,
    Logging,
    Phase,
    Starts,
    Suite,
    Trains,
)
from ivjax.experiment.schedules import FlooredCosine, Schedule, WarmupCosine
from ivjax.experiment.storing import is_run, store_experiment, stored_experiment

__all__ = [
    "MESH_AXES",
    "AdamW",
    "Checkpointing",
    "Compute",
    "DataSource",
    "EvalLoss",
    "EvalRun",
    "Experiment",
    "FlooredCosine",
    "Logging",
    "MeshShape",
    "Phase",
    "Recipe",
    "Remat",
    "Schedule",
    "Stage",
    "Starts",
    "Suite",
    "Trains",
    "WarmupCosine",
    "apply_overrides",
    "diff",
    "expand",
    "is_run",
    "leaves",
    "load_experiment",
    "parse_name",
    "replaced",
    "resolved_text",
    "shipped_configs",
    "show",
    "store_experiment",
    "stored_experiment",
    "to_json",
    "variants_of",
    "with_overrides",
]
