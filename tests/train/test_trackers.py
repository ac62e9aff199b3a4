"""Trackers: numbers reach them in order, no failure of theirs ends a run, and a resumed run stays one run."""

import importlib.machinery
import json
import math
import struct
import sys
import threading
import types
from pathlib import Path

import pytest

from ivjax.errors import UserError
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.run_folder import read_metrics
from ivjax.train.metrics import MetricsLog
from ivjax.train.trackers import background
from ivjax.train.trackers.background import Background
from ivjax.train.trackers.opening import check_trackers
from ivjax.train.trackers.tracker import tracked_run
from tests.train import micro


class Kept:
    """A tracker that keeps what it is given, and fails at some steps."""

    def __init__(self, failing=()):
        self.values, self.finished, self.failing = [], None, failing

    def add(self, step, values):
        if step in self.failing:
            raise ConnectionError("no  route\nto host")
        self.values.append((step, dict(values)))

    def close(self, finished):
        self.finished = finished


def tracked(*names, steps=3):
    return apply_overrides(micro.experiment, [f"log.to=({','.join(names)},)", f"steps={steps}"])


def logged(experiment, folder, step, *steps, said=None):
    """A start of a run after `step`, which logs the loss of some steps."""
    folder.mkdir(exist_ok=True)
    log = MetricsLog(experiment, folder, step, [].append if said is None else said.append)
    for number in steps:
        log.write(number, {"loss": 1.0 / number, "TFLOP/s/device": 0.5})
    log.close()


def test_numbers_arrive_in_order_and_those_of_an_earlier_start_are_left_out():
    kept, said = Kept(), []
    sender = Background("kept", lambda: kept, 2, said.append)
    values = {"loss": 3.0}
    for step in (1, 2, 3):
        sender.add(step, values)
        values["loss"] += 1  # what was handed over stays as it was
    sender.close(True)
    assert kept.values == [(2, {"loss": 4.0}), (3, {"loss": 5.0})] and kept.finished and said == []


def test_a_failure_is_said_once_in_one_line_and_what_comes_after_is_sent():
    kept, said = Kept(failing=(1, 2)), []
    sender = Background("kept", lambda: kept, 0, said.append)
    for step in (1, 2, 3):
        sender.add(step, {})
    sender.close(False)
    assert [step for step, _ in kept.values] == [3] and kept.finished is False
    assert said == ["kept: no route to host; the run goes on, and numbers may be missing there"]


def test_a_tracker_that_cannot_be_opened_is_said_once_and_holds_up_nothing():
    def refuse():
        raise PermissionError("there is no key")

    said = []
    sender = Background("kept", refuse, 0, said.append)
    sender.add(1, {})
    sender.close(True)
    sender.add(2, {})
    assert said == ["kept: there is no key; the run goes on without"]


def test_a_tracker_that_hangs_holds_up_no_step_and_not_the_end(monkeypatch):
    monkeypatch.setattr(background, "_LAST_SECONDS", 0.1)
    monkeypatch.setattr(background, "_MOST_WAITING", 2)
    hanging, said = threading.Event(), []
    sender = Background("kept", hanging.wait, 0, said.append)
    for step in range(5):
        sender.add(step, {})
    sender.close(True)
    hanging.set()
    assert said == [
        "kept: it takes no numbers; the run goes on, and leaves out what does not fit into memory"
    ]


def test_the_end_waits_for_the_last_numbers_but_not_for_ever(monkeypatch):
    monkeypatch.setattr(background, "_LAST_SECONDS", 0.1)
    hanging, said = threading.Event(), []
    Background("kept", hanging.wait, 0, said.append).close(True)
    hanging.set()
    assert said == ["kept: it has not taken all numbers yet; the run ends without"]


def test_a_run_goes_on_to_its_end_where_a_tracker_fails(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("api.wandb.ai is out of reach")

    fake = types.ModuleType("wandb")
    fake.__spec__ = importlib.machinery.ModuleSpec("wandb", None, origin="fake")
    fake.Settings = fake.setup = refuse
    monkeypatch.setitem(sys.modules, "wandb", fake)
    said: list[str] = []
    assert len(micro.run(tmp_path, "log.to=(tensorboard,wandb)", "steps=4", said=said)) == 4
    assert said.count("wandb: api.wandb.ai is out of reach; the run goes on without") == 1
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_package_that_is_missing_is_one_sentence_before_anything_else(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError) as refused:
        micro.run(tmp_path, "log.to=(mlflow,)")
    assert str(refused.value) == "log.to names mlflow, which is not installed: pip install 'ivjax[mlflow]'"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_called_like_a_package_is_none(tmp_path, monkeypatch):
    name = "folder_of_a_tracker"
    (tmp_path / name).mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("ivjax.train.trackers.opening._ELSEWHERE", {name: Kept})
    experiment = types.SimpleNamespace(log=types.SimpleNamespace(to=(name,)))
    with pytest.raises(UserError, match="not installed"):
        check_trackers(experiment)


def test_a_tracker_is_named_once():
    with pytest.raises(UserError, match="log.to names wandb 2 times; once is enough"):
        tracked("wandb", "wandb")
    with pytest.raises(UserError, match=r"a tuple like \(tensorboard,\) of tensorboard, wandb, mlflow, got"):
        tracked("wandbb")


def test_a_run_is_known_by_one_key_and_a_phase_by_the_name_of_its_run(tmp_path):
    phase = tmp_path / "tiny" / "phases" / "1_masked"
    phase.mkdir(parents=True)
    first, again = tracked_run(tracked("wandb"), phase), tracked_run(tracked("wandb", steps=9), phase)
    assert first.key == again.key and len(first.key) == 16 and first.name == "tiny/1_masked"
    assert tracked_run(tracked("wandb"), tmp_path).key != first.key
    settings = again.settings
    assert settings["steps"] == 9 and settings["schedule.peak"] == 2e-3 and settings["ema"] == 0.9
    assert settings["log.to"] == "('wandb',)" and settings["checkpoint.best"] is None


def test_without_trackers_only_the_file_is_written(tmp_path):
    logged(apply_overrides(micro.experiment, ["log.to=()"]), tmp_path, 0, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def records(file):
    """The records of a file of Weights & Biases: parts of checksum, length, kind and data, in blocks."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


def test_weights_and_biases_gets_one_run_of_all_starts(tmp_path, monkeypatch, capfd):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    folder, said = tmp_path / "tiny", []
    experiment = tracked("wandb")
    logged(experiment, folder, 0, 1, 2, said=said)
    logged(experiment, folder, 1, 2, 3, said=said)
    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    first, second = ([*records(file)] for file in files)
    runs = [next(r.run for r in found if r.HasField("run")) for found in (first, second)]
    key = (folder / "tracked_as.txt").read_text()
    assert [(r.run_id, r.project, r.display_name) for r in runs] == [(key, "ivjax", "tiny")] * 2
    config = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert config["steps"] == 3 and config["stage.student.width"] == 32

    def history(found):
        lines = [r.history.item for r in found if r.HasField("history")]
        lines = [{(i.key or i.nested_key[0]): json.loads(i.value_json) for i in line} for line in lines]
        return [(line["_step"], line["loss"]) for line in lines if "loss" in line]

    assert history(first) == [(1, 1.0), (2, 0.5)] and history(second) == [(2, 0.5), (3, pytest.approx(1 / 3))]
    ends = [next(r.exit.exit_code for r in found if r.HasField("exit")) for found in (first, second)]
    assert ends == [1, 0]  # stopped, and finished
    assert [line.startswith("wandb: ") and str(folder) in line for line in said] == [True, True]
    assert capfd.readouterr().err == ""
    assert [line["step"] for line in read_metrics(folder)] == [1, 2, 3]


def test_without_a_key_weights_and_biases_asks_for_none(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setattr(wandb, "setup", lambda settings: types.SimpleNamespace(settings=online))
    monkeypatch.setattr(wandb, "login", lambda prompt, verify: False)
    online, said = types.SimpleNamespace(mode="online"), []
    logged(tracked("wandb"), tmp_path, 0, 1, said=said)
    assert said == [
        "wandb: there is no key; run `wandb login`, or set WANDB_MODE=offline; the run goes on without"
    ]


def test_mlflow_gets_one_run_of_all_starts(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    folder, said = tmp_path / "tiny", []
    logged(tracked("mlflow"), folder, 0, 1, 2, said=said)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("ivjax").experiment_id
    (stopped,) = client.search_runs([experiment])
    assert (stopped.info.run_name, stopped.info.status) == ("tiny", "KILLED")
    # Another value of a setting is none that it takes, and no reason to stop.
    logged(tracked("mlflow", steps=4), folder, 1, 2, 3, 4, said=said)
    (run,) = client.search_runs([experiment])
    assert (run.info.run_id, run.info.status) == (stopped.info.run_id, "FINISHED")
    points = client.get_metric_history(run.info.run_id, "loss")
    assert sorted({(point.step, round(point.value, 3)) for point in points}) == [
        (1, 1.0),
        (2, 0.5),
        (3, 0.333),
        (4, 0.25),
    ]
    assert run.data.metrics["TFLOP/s/device"] == 0.5
    assert run.data.params["stage.student.width"] == "32" and run.data.params["steps"] == "3"
    assert said == [f"mlflow: run {run.info.run_id} of {(tmp_path / 'store').as_uri()}"] * 2


def test_without_a_server_mlflow_says_what_it_needs(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("mlflow.get_tracking_uri", lambda: f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    said = []
    logged(tracked("mlflow"), tmp_path, 0, 1, said=said)
    assert said == [
        "mlflow: name its server in MLFLOW_TRACKING_URI, or pip install mlflow to keep runs in a file; "
        "the run goes on without"
    ]


def test_names_that_mlflow_refuses_are_mended_and_values_that_are_no_numbers_arrive(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", Path(tmp_path / "store").as_uri())
    said = []
    log = MetricsLog(tracked("mlflow", steps=1), tmp_path, 0, said.append)
    log.write(1, {"top-1 %": 50.0, "loss": math.nan})
    log.close()
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("ivjax").experiment_id])
    assert run.data.metrics["top-1 _"] == 50.0 and math.isnan(run.data.metrics["loss"]) and len(said) == 1
