"""Runs a suite: of weights that a command names, or of a model that lies in memory."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from ivjax.errors import UserError
from ivjax.evals.compiled import ClipModel
from ivjax.evals.hosts import Hosts
from ivjax.evals.items import EvalData, open_items
from ivjax.evals.own_frames import OwnFrames, Reading, own_frames, own_frames_of
from ivjax.evals.result import Result
from ivjax.evals.suites.suite import EvalSuite
from ivjax.evals.vectors import Setting
from ivjax.experiment import late
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.mesh_shape import MeshShape
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
    return run_on_model(suite, model, data, weights, say, own_frames_of(weights))


def run_in_memory(
    suite: EvalSuite, experiment: Experiment, params: Params, data: str, mesh: Mesh, say: Say
) -> Mapping[str, float]:
    """Returns the metrics of the parameters of an experiment's stage; all processes of the mesh call it."""
    model: ClipModel = late.call(suite.READER, "of_experiment", suite, experiment, params, mesh)
    own = own_frames(experiment)
    return run_on_model(suite, model, EvalData(data), "in memory", say, own).metrics


def run_on_model(
    suite: EvalSuite,
    model: ClipModel,
    data: EvalData,
    name: str,
    say: Say,
    own: OwnFrames | None = None,
) -> Result:
    """Returns the result of a compiled model; every process gets the same one, and process 0 reports.

    own: how the run that the model comes from reads clips.
    """
    _check_sources(suite, data, model.hosts)
    reading: Reading = suite.reading(own, model.frames)
    setting: Setting[Any] = Setting(
        encoder=model,
        data=data if suite.limit is None else dataclasses.replace(data, limit=suite.limit),
        weights=name,
        clips=suite.clips,
        batch=model.rows,
        broken=suite.broken,
        hosts=model.hosts,
        reading=reading,
        say=say if jax.process_index() == 0 else lambda line: None,
    )
    setting.say(str(reading))
    result: Result = suite.score(setting)
    return result


def _check_sources(suite: EvalSuite, data: EvalData, hosts: Hosts) -> None:
    """Raises in every process if one of them cannot open what the suite reads."""
    # An error in one process alone would leave the others waiting for it in the first gather.
    problem = ""
    try:
        for path in suite.sources(data.path):
            open_items(dataclasses.replace(data, path=path, limit=1))
    except UserError as error:
        problem = str(error)
    if problems := list(filter(None, hosts.gather(problem))):
        raise UserError(problems[0])
