"""`ivjax.load`: a model and its parameters out of a run folder or a weight file."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ivjax.data_pipelines.load.mixture import tokenizer_of
from ivjax.data_pipelines.tokenizers.base import Tokenizer
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.patterns import covers
from ivjax.ops.trees import paths_of
from ivjax.stages.objective import Objective, Params, Stage

if TYPE_CHECKING:
    from ivjax.experiment.experiment import Experiment


_ORIGIN = re.compile(r"(?:(?P<into>\w+)=)?(?P<path>.+?)(?:#(?P<there>[\w/]+))?", re.DOTALL)


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
    float32. `ema`: a run's averaged parameters instead of its last ones. What a run did not train is read
    from its `init_from` again, but for its teachers, which are no part of the model.
    """
    from ivjax.experiment.storing import is_run, stored_experiment

    folder = Path(path).expanduser()
    if is_run(folder):
        if preset or family or fresh:
            raise UserError(f"{path} is a run, which knows its sizes: leave out preset, family and fresh")
        experiment = stored_experiment(folder)
        params = jax.device_put(params_of_run(folder, experiment, ema), jax.local_devices()[0])
        return Loaded(experiment.stage.model(Compute(dtype)), params, tokenizer_of(experiment.data))
    from ivjax.convert.engine.weights import import_weights
    from ivjax.convert.families.all import family_named

    imported = import_weights(folder, family, preset, fresh, "float32")
    found = family_named(imported.report.family)
    params = jax.tree.map(jnp.asarray, imported.params)
    return Loaded(found.model(imported.sizes, jnp.dtype(dtype)), params, found.tokenizer(imported.sizes))


def params_of_run(
    folder: Path, experiment: "Experiment", ema: bool = False, branch: str | None = None
) -> Params:
    """What a run trained, and the rest of its model, or with `branch` that part alone, in the host's memory.

    What is frozen is not in its checkpoints, but where the run had it from. Teachers are left there, unless
    they are the branch.
    """
    from ivjax.experiment.mesh_shape import MeshShape
    from ivjax.train.checkpoint import restore_params
    from ivjax.train.freeze import joined
    from ivjax.train.mesh import build_mesh
    from ivjax.train.start import shapes_of, starting_params

    objective = experiment.stage.build(experiment.compute)
    device = _host()
    params = restore_params(folder, jax.sharding.SingleDeviceSharding(device), ema)
    shapes = _needed(shapes_of(objective, "float32").frozen, experiment.stage, branch)
    if shapes:
        read = read_weights(objective, experiment, shapes)
        mesh = build_mesh(MeshShape(), [device])
        params = joined(params, starting_params(objective, shapes, read, experiment.seed, mesh))
    return params


def _needed(frozen: Params, stage: Stage, branch: str | None) -> Params:
    """Of what is frozen, the branch; or what belongs to the model that is trained, and not to a teacher."""
    from ivjax.convert.engine.rows import unflatten
    from ivjax.convert.families.all import family_of_stage

    found = family_of_stage(stage)
    if branch is not None:
        wanted = {path for path, _ in paths_of(frozen) if path.startswith(f"{branch}/")}
    elif found is not None:
        family, sizes = found
        wanted = {*family.shapes(sizes), *family.added}
    else:
        return frozen
    return unflatten({path: leaf for path, leaf in paths_of(frozen) if path in wanted})


def read_weights(objective: Objective, experiment: "Experiment", target: Params) -> dict[str, np.ndarray]:
    """Leaves of `target` by path out of the experiment's `init_from`, later files before earlier ones.

    With a file of the whole model, each leaf must be in one or match a pattern of `init_fresh`; with files of
    parts, so must the leaves of these. What is frozen must in any case, because random numbers that are never
    trained are hardly meant.
    """
    found: dict[str, np.ndarray] = {}
    for entry in experiment.init_from:
        found |= _read_origin(entry, objective, experiment, target)
    parts = {part for part, _, _ in map(_parsed, experiment.init_from)}
    named = ["*"] if "" in parts else [f"{part}/*" for part in parts]
    missing = [p for p, _ in paths_of(target) if p not in found and not covers(experiment.init_fresh, p)]
    frozen = [path for path in missing if covers(objective.frozen, path)]
    lacking = frozen or [path for path in missing if covers(named, path)]
    if lacking:
        files = ", ".join(experiment.init_from) or "no file"
        more = f" and {len(lacking) - 8} more" if len(lacking) > 8 else ""
        raise UserError(
            f"init_from gives {files}, and nothing for {', '.join(lacking[:8])}{more}"
            f"{' (frozen)' if frozen else ''}; add a file, or name them in init_fresh"
        )
    return found


def _parsed(entry: str) -> tuple[str, str, str]:
    """PART, FILE and BRANCH of an entry of `init_from`; nothing for those that it lacks."""
    found = _ORIGIN.fullmatch(entry)
    assert found is not None
    return found["into"] or "", found["path"], found["there"] or ""


def _read_origin(
    entry: str, objective: Objective, experiment: "Experiment", target: Params
) -> dict[str, np.ndarray]:
    """What an entry of `init_from` holds: FILE, BRANCH=FILE, or BRANCH=FILE#BRANCH_THERE."""
    from ivjax.convert.engine.weights import import_into

    into, path, there = _parsed(entry)
    if not into:
        return import_into(path, target, objective.grid, there)
    sizes = experiment.stage.encoders().get(into)
    if sizes is None:
        parts = ", ".join(experiment.stage.encoders()) or "none"
        raise UserError(f"init_from={entry}: the stage has no part {into}; its parts are {parts}")
    below = {name[len(into) + 1 :]: leaf for name, leaf in paths_of(target) if name.startswith(f"{into}/")}
    try:
        leaves = import_into(path, below, sizes.grid, there, type(sizes)) if below else {}
    except UserError as error:
        raise UserError(f"init_from={entry}: {error}") from None
    return {f"{into}/{name}": leaf for name, leaf in leaves.items()}


def _host() -> jax.Device:
    """A CPU where jax has one beside its accelerators."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]
