"""Runs a suite: of weights that a command names, or of a model that lies in memory."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from ivjax.convert.loading import split_branch
from ivjax.data_pipelines.load.classes_in_use import classes_in_use
from ivjax.errors import UserError
from ivjax.evals.compiled import ClipModel
from ivjax.evals.hosts import Hosts
from ivjax.evals.items import EvalData
from ivjax.evals.own_frames import OwnFrames, Reading, own_frames, own_frames_of
from ivjax.evals.result import Result
from ivjax.evals.suites.suite import EvalSuite
from ivjax.evals.vectors import Setting
from ivjax.experiment import late
from ivjax.experiment.buckets import local
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.kept_files import kept_classes
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.run_folder import folder_with_weights
from ivjax.ops.cut import Params
from ivjax.progress import Say
from ivjax.train.mesh import build_mesh


def run_on_weights(
    suite: EvalSuite,
    data: EvalData,
    weights: str,
    preset: str | None = None,
    tokenizer: str | None = None,
    fsdp: int = 1,
    say: Say = print,
) -> Result:
    """Returns the result of the model in a run folder or a weight file, on all devices of all processes.

    fsdp: over how many devices the parameters are spread.
    """
    mesh = build_mesh(MeshShape(fsdp=fsdp))
    model: ClipModel = late.call(suite.READER, "of_weights", suite, weights, preset, tokenizer, mesh)
    return run_on_model(suite, model, data, weights, say, own_frames_of(weights), _classes_of(weights))


def run_in_memory(
    suite: EvalSuite, experiment: Experiment, params: Params, data: str, mesh: Mesh, say: Say
) -> Mapping[str, float]:
    """Returns the metrics of the parameters of an experiment's stage; all processes of the mesh call it."""
    model: ClipModel = late.call(suite.READER, "of_experiment", suite, experiment, params, mesh)
    own, named = own_frames(experiment), classes_in_use(experiment.data)
    classes = next(iter(named.values()), ())
    return run_on_model(suite, model, EvalData(data), "in memory", say, own, classes).metrics


def run_on_model(
    suite: EvalSuite,
    model: ClipModel,
    data: EvalData,
    name: str,
    say: Say,
    own: OwnFrames | None = None,
    classes: tuple[str, ...] = (),
) -> Result:
    """Returns the result of a compiled model; every process gets the same one, and process 0 reports.

    Args:
        suite: the suite.
        model: the model.
        data: the test set.
        name: names the model in the result.
        say: takes lines for the person who waits.
        own: how the run that the model comes from reads clips.
        classes: the class names that the run knows, in the order of their numbers.
    """
    _check_sources(suite, data, model.hosts)
    reading: Reading | None = suite.reading(own, model.frames)
    setting: Setting[Any] = Setting(
        encoder=model,
        data=data if suite.limit is None else dataclasses.replace(data, limit=suite.limit),
        weights=name,
        # Suites that read videos whole have no clips.
        clips=getattr(suite, "clips", 1),
        batch=model.rows,
        broken=suite.broken,
        hosts=model.hosts,
        reading=reading,
        classes=classes,
        say=say if jax.process_index() == 0 else lambda line: None,
    )
    if reading is not None:
        setting.say(str(reading))
    result: Result = suite.score(setting)
    return result


def _classes_of(weights: str) -> tuple[str, ...]:
    """The class names in the folder of a run; none of a weight file."""
    return kept_classes(folder_with_weights(local(split_branch(weights)[0]).expanduser()))


def _check_sources(suite: EvalSuite, data: EvalData, hosts: Hosts) -> None:
    """Raises in every process if one of them cannot open what the suite reads."""
    # An error in one process alone would leave the others waiting for it in the first gather.
    problem = ""
    try:
        for path in suite.sources(data.path):
            suite.check_source(dataclasses.replace(data, path=path, limit=1))
    except UserError as error:
        problem = str(error)
    if problems := list(filter(None, hosts.gather(problem))):
        raise UserError(problems[0])
