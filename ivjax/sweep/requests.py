"""Requests to a worker process: to check the runs before they start, or to train one. JSON in, JSON out."""

import dataclasses
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.files import load_experiment
from ivjax.progress import Say
from ivjax.sweep import histories
from ivjax.sweep.preflight import preflight
from ivjax.sweep.shared_compilation import counted_alone, share_cache
from ivjax.sweep.shared_values import shared_program_of
from ivjax.train.loop import train

Request = Mapping[str, Any]  # what a worker is asked, as JSON
Reply = dict[str, Any]  # what a worker answers, as JSON


def answer(request: Request, say: Say) -> Reply:
    """Does what a request asks.

    The reply has a `status`: done, stopped (by a signal) or failed, then with a sentence as `why`.
    """
    try:
        return _ANSWERS[request["do"]](request, say)
    except UserError as error:
        return {"status": "failed", "why": str(error)}
    except Exception as error:  # one failed run does not stop the rest
        say(traceback.format_exc())
        first = (str(error).splitlines() or [""])[0]
        return {"status": "failed", "why": f"{type(error).__name__}: {first}"}


def _preflight(request: Request, say: Say) -> Reply:
    experiments = [_experiment(request["config"], run) for run in request["runs"]]
    found = preflight(experiments, request["swept"], request["jobs"])
    checks = [dataclasses.asdict(check) for check in found]
    return {"status": "done", "checks": checks, "platform": jax.default_backend()}


def _train(request: Request, say: Say) -> Reply:
    run, cache = request["run"], Path(request["root"]) / "compiled"
    folder, experiment = Path(run["folder"]), _experiment(request["config"], run)
    share_cache(cache)
    build = shared_program_of(request["shared"], counted_alone(cache, request["key"], folder))
    train(experiment, folder, say, build=build)
    history = histories.read_history(folder, folder.name, {}, experiment)
    if not history.finished:
        return {"status": "stopped"}
    histories.write_result(folder, history)
    return {"status": "done"}


def _experiment(config: str, run: Mapping[str, Any]) -> Experiment:
    return load_experiment(config, run["overrides"])


_ANSWERS: Mapping[str, Callable[[Request, Say], Reply]] = {"preflight": _preflight, "train": _train}
