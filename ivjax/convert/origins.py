"""Reads parameters from wherever a run may have them: weight files, other runs, and branches of both.

The functions here call each other in a circle, because a run keeps its model alone: its teachers are read
from its own `init_from`, which may name another run. Hence they share a module.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ivjax.convert.chosen_classes import split_classes, with_classes
from ivjax.convert.detection import OpenedFile, recognise
from ivjax.convert.engine.family import Family
from ivjax.convert.engine.fits import Fitting
from ivjax.convert.engine.matching import MatchRequest
from ivjax.convert.engine.own_format import metadata
from ivjax.convert.engine.rows import unflatten
from ivjax.convert.folder_weights import folder_params, holds_weights
from ivjax.convert.formats.finite import FiniteTensors, split_allowed
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.orbax_files import restore_params
from ivjax.convert.formats.tensors import Arrays, LazyTensor, Shape, Tensors
from ivjax.convert.formats.writing import write_safetensors
from ivjax.convert.language_file import split_language, with_language
from ivjax.convert.parts_file import split_parts, with_parts
from ivjax.convert.registry import FAMILIES, family_of_sizes, family_of_stage
from ivjax.convert.starting import shapes_of, starting_params
from ivjax.errors import UserError
from ivjax.experiment.buckets import local
from ivjax.experiment.experiment import Experiment, Stage
from ivjax.experiment.kept_files import FROZEN
from ivjax.experiment.patterns import covers
from ivjax.experiment.run_folder import folder_with_weights
from ivjax.experiment.storing import is_run, stored_experiment
from ivjax.models.sizes import Grid
from ivjax.ops.cut import Params, joined
from ivjax.ops.trees import paths_of
from ivjax.stages.objective import Objective
from ivjax.stages.training_rates import objective_of

# An entry of init_from: [BRANCH=]FILE[#BRANCH_OF_THE_FILE].
_ENTRY = re.compile(r"(?:(?P<into>\w+)=)?(?P<path>.+?)(?:#(?P<there>[\w/]+))?", re.DOTALL)


def open_weights(path: Path | str, finite: bool = True) -> Tensors:
    """Returns the tensors of a weight file, or of a run folder under the names of this project's format.

    FILE?head=400, FILE?head=LIST.json or FILE?head=none has only some classes of a classifier's head, and
    FILE?language=OTHER has the language model of another file, FILE?vision=OTHER?text=THIRD what a file lacks
    of a pair of towers. Unless `finite` is false, or
    FILE?nonfinite=allow is asked for, NaN and infinities raise when they are read.
    """
    if allowed := split_allowed(str(path)):
        return open_weights(allowed, finite=False)
    tensors = _open_any(path)
    return FiniteTensors(tensors, str(path)) if finite else tensors


def _open_any(path: Path | str) -> Tensors:
    if in_parts := split_parts(str(path)):
        file, others = in_parts
        parts = {branch: (other, _open_any(other.partition("#")[0])) for branch, other in others.items()}
        return with_parts(_open_any(file), parts, file)
    if with_other := split_language(str(path)):
        file, other = with_other
        return with_language(_open_any(file), _open_any(other), file, other)
    if chosen := split_classes(str(path)):
        file, asked = chosen
        return with_classes(_open_any(file), asked, file)
    folder = local(str(path)).expanduser()
    if not is_run(folder):
        return open_tensors(folder)
    experiment = stored_experiment(folder)
    found = family_of_stage(experiment.stage)
    if found is None:
        branches = ", ".join(f"{path}#{name}" for name in experiment.stage.encoders())
        stage = type(experiment.stage).__name__
        raise UserError(
            f"{path} was trained as {stage}, which no checkpoint family stores whole"
            + (f"; name a branch of it: {branches}" if branches else "")
        )
    family, sizes = found
    # Without the teachers, which no family stores beside its model.
    names = {*family.shapes(sizes), *family.added}
    leaves = {path: leaf for path, leaf in paths_of(params_of_run(folder, experiment)) if path in names}
    return Arrays(leaves, metadata(family.name, sizes, None))


def params_of_run(
    folder: Path, experiment: Experiment, ema: bool = False, branch: str | None = None
) -> Params:
    """Returns the parameters of a run's model in the host's memory; with `branch`, also those of that branch.

    Checkpoints hold what was trained, and the folder the rest of the model. Teachers are read from where the
    run had them, and only if they are the branch.
    """
    objective = objective_of(experiment)
    # In the host's memory, because a whole model may not fit on one accelerator.
    sharding = jax.sharding.SingleDeviceSharding(_host_device())
    trained, frozen = shapes_of(objective, "float32")
    shapes = _needed(frozen, experiment.stage, branch)
    place = folder_with_weights(folder)
    if holds_weights(place):
        own = joined(trained, _needed(frozen, experiment.stage, None))
        params = folder_params(place, shapes_by_path(own), sharding, ema)
        held = dict(paths_of(params))
        shapes = unflatten({path: leaf for path, leaf in paths_of(shapes) if path not in held})
    else:
        params = restore_params(folder, sharding, ema)
    if shapes:
        read = weights_of_run(folder, objective, experiment, shapes)
        # Frozen parameters in no file come from the seed, as they did when the run started.
        places = jax.tree.map(lambda _: sharding, shapes)
        params = joined(params, starting_params(objective, shapes, read, experiment.seed, places))
    return params


def keep_frozen(folder: Path, objective: Objective, experiment: Experiment) -> None:
    """Stores in a run folder what its model has and the run never trains, unless it is there.

    Once and not in every checkpoint. Teachers are left out: they are no part of the model, and many times as
    large. What `init_fresh` draws comes from the seed again.
    """
    # To find out what is frozen takes a trace of the model.
    if not objective.frozen or (folder / FROZEN).exists():
        return
    frozen = dict(paths_of(shapes_of(objective, "float32").frozen))
    # Of the model's own parameters, and not by its family: a pair of towers of two families is of none.
    init = getattr(experiment.stage.model(experiment.compute), "init", None)
    if init is None:
        return
    own = [path for path, _ in paths_of(jax.eval_shape(init, jax.random.key(0))) if path in frozen]
    if not own:
        return
    read = read_weights(objective, experiment, unflatten({path: frozen[path] for path in own}))
    tensors = [LazyTensor(path, leaf.shape, leaf.dtype, _chunks(leaf)) for path, leaf in read.items()]
    if tensors:
        write_safetensors(folder / FROZEN, tensors, {}, shard_bytes=sum(t.nbytes for t in tensors) + 1)


def _chunks(leaf: np.ndarray) -> Callable[[], list[np.ndarray]]:
    return lambda: [leaf]


def weights_of_run(
    folder: Path, objective: Objective, experiment: Experiment, target: Params
) -> dict[str, np.ndarray]:
    """Returns leaves of `target` by path that a run did not train: from its folder, else from `init_from`."""
    file, wanted = folder_with_weights(folder) / FROZEN, dict(paths_of(target))
    found: dict[str, np.ndarray] = {}
    if file.is_file():
        tensors = open_tensors(file)
        found = {path: tensors[path] for path in wanted if path in tensors}
        # All that was read is in the file; the rest of the model was drawn.
        wanted = {path: leaf for path, leaf in wanted.items() if not covers(experiment.init_fresh, path)}
    missing = {path: leaf for path, leaf in wanted.items() if path not in found}
    if not missing:
        return found
    try:
        return found | read_weights(objective, experiment, unflatten(missing))
    except UserError as error:
        branches = ", ".join(dict.fromkeys(path.split("/")[0] for path in missing))
        raise UserError(f"{folder} reads its {branches} from init_from, as at its start: {error}") from None


def _needed(frozen: Params, stage: Stage, branch: str | None) -> Params:
    """Returns the frozen leaves of the branch; without one, those of the trained model, but of no teacher."""
    found = family_of_stage(stage)
    if branch is not None:
        wanted = {path for path, _ in paths_of(frozen) if path.startswith(f"{branch}/")}
    elif found is not None:
        family, sizes = found
        wanted = {*family.shapes(sizes), *family.added}
    else:
        return frozen
    return unflatten({path: leaf for path, leaf in paths_of(frozen) if path in wanted})


def read_weights(objective: Objective, experiment: Experiment, target: Params) -> dict[str, np.ndarray]:
    """Returns leaves of `target` by path out of the experiment's `init_from`; later files win.

    If an entry names no branch, every leaf must be in a file or match a pattern of `init_fresh`; otherwise
    every leaf of the branches named. Frozen leaves must be in a file in any case, because random numbers that
    are never trained are hardly meant.
    """
    found: dict[str, np.ndarray] = {}
    for entry in experiment.init_from:
        # Later entries replace what earlier ones gave, so the order of `init_from`
        # is that of increasing weight.
        found |= _read_entry(entry, objective, experiment, target)
    branches = {branch for branch, _, _ in map(_parsed, experiment.init_from)}
    promised = ["*"] if "" in branches else [f"{branch}/*" for branch in branches]
    missing = [p for p, _ in paths_of(target) if p not in found and not covers(experiment.init_fresh, p)]
    frozen = [path for path in missing if covers(objective.frozen, path)]
    # Frozen ones are named first: they are the worse mistake.
    lacking = frozen or [path for path in missing if covers(promised, path)]
    if lacking:
        files = ", ".join(experiment.init_from) or "no file"
        more = f" and {len(lacking) - 8} more" if len(lacking) > 8 else ""
        raise UserError(
            f"init_from gives {files}, and nothing for {', '.join(lacking[:8])}{more}"
            f"{' (frozen)' if frozen else ''}; add a file, or name them in init_fresh"
        )
    return found


def _parsed(entry: str) -> tuple[str, str, str]:
    """Returns BRANCH, FILE and BRANCH_OF_THE_FILE of an entry of `init_from`; "" for those that it lacks."""
    found = _ENTRY.fullmatch(entry)
    assert found is not None  # the pattern takes every text
    return found["into"] or "", found["path"], found["there"] or ""


def _read_entry(
    entry: str, objective: Objective, experiment: Experiment, target: Params
) -> dict[str, np.ndarray]:
    """Returns the leaves of `target` by path that one entry of `init_from` holds."""
    into, path, there = _parsed(entry)
    if not into:
        return import_into(path, target, objective.grid, there)
    towers = _towers(experiment.stage)
    sizes = towers.get(into)
    if sizes is None:
        branches = ", ".join(towers) or "none"
        raise UserError(f"init_from={entry}: the stage has no branch {into}; its branches are {branches}")
    below = {name[len(into) + 1 :]: leaf for name, leaf in paths_of(target) if name.startswith(f"{into}/")}
    try:
        leaves = import_into(path, below, sizes.grid, there, type(sizes), sizes) if below else {}
    except UserError as error:
        raise UserError(f"init_from={entry}: {error}") from None
    return {f"{into}/{name}": leaf for name, leaf in leaves.items()}


def _towers(stage: Stage) -> dict[str, Any]:
    """Returns the sizes of the branches that a file may fill: video towers, and what stands beside them."""
    others = getattr(stage.size, "branches", dict)
    return {**stage.encoders(), **others()}


def import_into(
    path: Path | str,
    target: Mapping[str, Any],
    grid: Grid | None = None,
    branch: str = "",
    kind: type | None = None,
    sizes: Any = None,
) -> dict[str, np.ndarray]:
    """Returns leaves of `target` by path in its dtypes, as far as a weight file or a run folder holds them.

    Args:
        path: the file or run folder.
        target: a tree of arrays or shapes; with `branch` it is that branch of the file's tree.
        grid: patch grid (T, H, W) that position tables are resized to.
        branch: the branch of the file that is wanted.
        kind: type of the sizes of the model at `target`. A file of another model is an error then, and so is
            one that holds nothing of it.
        sizes: sizes of that model, where its files pack several parameters into one tensor.
    """
    file = _open_file(Path(path).expanduser(), str(path), branch, kind).unpacked(sizes)
    fitting = Fitting(grid, file.frames)
    found = file.match(
        # Matched in float32, so that layers which are stored in several dtypes do not disagree. Each leaf is
        # then read in the dtype of the target, as frozen parameters are kept in that of the computation.
        MatchRequest(shapes_by_path(target), dtype=np.dtype(np.float32), fitting=fitting, partial=True)
    )
    found.report.check(str(path))
    if kind and not found.leaves:
        raise UserError(f"{path} holds nothing of {f'its branch #{branch}' if branch else 'the model'}")
    dtypes = {place: np.dtype(leaf.dtype) for place, leaf in paths_of(target)}
    leaves = [replace(leaf, dtype=dtypes[leaf.path]) for leaf in found.leaves]
    return {leaf.path: leaf.lazy(file.tensors).read() for leaf in leaves}


def shapes_by_path(tree: Mapping[str, Any]) -> dict[str, Shape]:
    """Returns the shape of each leaf of a tree by its path."""
    return {path: tuple(leaf.shape) for path, leaf in paths_of(tree)}


def _open_file(path: Path, what: str, branch: str, kind: type | None) -> OpenedFile:
    """Opens a file or a run, or a branch of it. Of families that fit alike, takes one that holds `kind`."""
    likely = [family for family in FAMILIES.values() if kind and family.holds(kind, branch)]
    if branch and is_run(path) and not _is_part_of_run(path, branch):
        file = recognise(_branch_of_run(path, branch), what, likely=likely)
        branch = ""
    else:
        tensors = open_weights(path)
        file = recognise(tensors, what, likely=likely)
        if branch and branch not in file.family.branches:
            # Of families that fit alike, one that holds the whole can say that no branch is needed.
            whole = [family for family in FAMILIES.values() if kind and family.holds(kind)]
            file = recognise(tensors, what, likely=whole)
        file = file.at(branch)
    if kind and not file.family.holds(kind, branch):
        raise UserError(f"{what} is of {file.family.name}: {_other_choice(file.family, what, kind)}")
    return file


def _is_part_of_run(folder: Path, branch: str) -> bool:
    """Whether a branch of what a run trained is a part that its family knows, and no tower of another."""
    stage = stored_experiment(folder).stage
    found, tower = family_of_stage(stage), stage.encoders().get(branch)
    alone = tower is not None and family_of_sizes(tower) is not None
    return not alone and found is not None and branch in found[0].branches


def _branch_of_run(folder: Path, branch: str) -> Tensors:
    """Returns the tensors of one branch of what a run trained, as a file of its own family."""
    experiment = stored_experiment(folder)
    encoders = experiment.stage.encoders()
    sizes = encoders.get(branch)
    family = None if sizes is None else family_of_sizes(sizes)
    if family is None:
        convertible = [name for name, sizes in encoders.items() if family_of_sizes(sizes)]
        branches = ", ".join(convertible) or "none that can be taken alone"
        raise UserError(f"{folder} has no branch #{branch}; its branches are {branches}")
    params = params_of_run(folder, experiment, branch=branch)
    return Arrays(dict(paths_of(params[branch])), metadata(family.name, sizes, None))


def _other_choice(family: Family, what: str, kind: type) -> str:
    """Returns advice on what to give instead of a file, or branch, that holds another model than wanted."""
    branches = [f"{what}#{branch}" for branch in family.branches if family.holds(kind, branch)]
    if branches:
        return f"write {' or '.join(branches)} for that branch of it"
    return f"give a file of {' or '.join(other.name for other in FAMILIES.values() if other.kind is kind)}"


def _host_device() -> jax.Device:
    """Returns a CPU device where jax has one beside its accelerators, otherwise the first device."""
    # jax may be told to have no CPU backend, and raises then.
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]
