"""An experiment survives its run folder, and a run folder cannot make anything run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from ivjax.errors import UserError
from ivjax.experiment.files import load_experiment, shipped_configs
from ivjax.experiment.run_options import EvalLoss
from ivjax.experiment.storing import is_run, store_experiment, stored_experiment


@pytest.mark.parametrize("name", [*sorted(shipped_configs()), "viclip_tiny:best", "viclip_l14:two_phases"])
def test_every_shipped_experiment_comes_back(tmp_path, name):
    experiment = load_experiment(name)
    assert not is_run(tmp_path)
    store_experiment(experiment, tmp_path)
    assert is_run(tmp_path) and stored_experiment(tmp_path) == experiment


@pytest.mark.parametrize(
    "content, message",
    [
        ({"is": "subprocess:getoutput", "cmd": "touch pwned"}, "subprocess:getoutput is no dataclass"),
        ({"is": "antigravity:x"}, "antigravity:x is not of ivjax; import antigravity first if you trust it"),
        (
            {"is": "ivjax.experiment.files:load_experiment", "name": "x"},
            "ivjax.experiment.files:load_experiment is no dataclass",
        ),
        ({"is": "ivjax.experiment.run_options:EvalLoss", "often": 3}, "unexpected keyword argument 'often'"),
        ({}, "does not describe an experiment of this version of ivjax"),
        ({"is": "ivjax.experiment.run_options:EvalLoss"}, "describes a EvalLoss, not an experiment"),
    ],
)
def test_what_is_no_experiment_is_refused_and_never_called(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiment.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        stored_experiment(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_a_value_that_cannot_be_stored_is_named(tmp_path):
    experiment = load_experiment("stage1_synthetic")
    object.__setattr__(experiment, "data", print)
    with pytest.raises(UserError, match="holds a builtin_function_or_method, which cannot be stored"):
        store_experiment(experiment, tmp_path)


@dataclass(frozen=True)
class Tables:
    """Data with a mapping in it."""

    by_name: Mapping[str, EvalLoss]


def test_a_mapping_comes_back(tmp_path):
    data = Tables({"video": EvalLoss(2), "is": EvalLoss(3)})
    store_experiment(replace(load_experiment("stage1_synthetic"), data=data), tmp_path)
    assert stored_experiment(tmp_path).data == data
