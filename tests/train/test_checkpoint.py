"""Checkpoints that are damaged, foreign, kept or partly read."""

import io
import json
import math
import shutil
import struct

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from ivjax.convert.formats.orbax_files import restore_params
from ivjax.errors import UserError
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.run_folder import read_metrics
from ivjax.ops.trees import paths_of
from ivjax.train.checkpoint import Checkpoints
from ivjax.train.loop import train
from ivjax.train.mesh import build_mesh
from ivjax.train.metrics import MetricsLog
from ivjax.train.program import program_of
from tests.train.line import experiment, run
from tests.train.micro import losses


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of six steps, with checkpoints of steps 4 and 6."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def halve(folder, pattern):
    files = [file for file in folder.glob(pattern) if file.is_file() and file.stat().st_size]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("pattern", ["params/**/d/*", "moments/_METADATA", "data/metadata"])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(folder, finished, pattern, caplog):
    halve(folder / "checkpoints" / "6", pattern)
    said: list[str] = []
    assert run(folder, said=said) == losses(finished)
    assert "continuing from step 4" in "\n".join(said)
    assert "checkpoint 6 cannot be read" in caplog.text
    assert (folder / "unreadable-checkpoints" / "6").is_dir()
    assert (folder / "checkpoints" / "6").is_dir()


def rewrite(step, name, value=None):
    """Changes an entry of a checkpoint's description of its run, or takes it away."""
    meta = json.loads((step / "meta/metadata").read_text())
    changed = {key: found for key, found in meta.items() if key != name} | ({name: value} if value else {})
    (step / "meta/metadata").write_text(json.dumps(changed))


DAMAGES = {
    "its moments are missing": lambda step: shutil.rmtree(step / "moments"),
    "its counters are missing": lambda step: shutil.rmtree(step / "counters"),
    "its ema is missing": lambda step: shutil.rmtree(step / "ema"),
    "of its data or of its run is no mapping": lambda step: (step / "data/metadata").write_text("[1, 2]"),
    "does not say what experiment it is of": lambda step: (step / "meta/metadata").write_text('{"mesh": {}}'),
    "its position in the data is not": lambda step: (step / "data/metadata").write_text('{"some": "thing"}'),
    "its description of the run is not": lambda step: rewrite(step, "parameters", 3),
    "KeyError": lambda step: (
        rewrite(step, "seal"),
        (step / "data/metadata").write_text('{"some": "thing"}'),
    ),
}


@pytest.mark.parametrize("problem", DAMAGES)
def test_a_checkpoint_that_lacks_something_falls_back_to_the_one_before(folder, finished, problem, caplog):
    DAMAGES[problem](folder / "checkpoints" / "6")
    said: list[str] = []
    assert run(folder, said=said) == losses(finished)
    assert "continuing from step 4" in "\n".join(said)
    assert "checkpoint 6 cannot be read" in caplog.text and problem in caplog.text


def read_back(folder):
    """What a start reads of a folder; its arrays as bytes."""
    mesh = build_mesh(experiment.mesh, jax.devices()[:1])
    with jax.set_mesh(mesh):
        checkpoints = Checkpoints(folder, experiment.checkpoint)
        found = checkpoints.restore(program_of(experiment, mesh).state)
        checkpoints.close()
    return found._replace(state={path: np.asarray(leaf).tobytes() for path, leaf in paths_of(found.state)})


@pytest.mark.parametrize("flips", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_noticed_or_does_no_harm(folder, tmp_path, flips):
    newest = folder / "checkpoints" / "6"
    whole = shutil.copytree(newest, tmp_path / "whole")
    saved = {6: read_back(folder)}
    shutil.rmtree(newest)
    saved[4] = read_back(folder)
    rng, noticed = np.random.default_rng(flips), 0
    for _ in range(flips):
        shutil.copytree(whole, newest, dirs_exist_ok=True)
        flipped = flip(newest, rng)
        found = read_back(folder)
        assert found == saved[found.step], flipped
        noticed += found.step == 4
    # The others hit what no value depends on, such as blanks and statistics.
    assert noticed > flips / 10


def test_parameters_that_are_not_those_that_were_saved_are_refused_by_readers(folder):
    step = folder / "checkpoints" / "6"
    seal = json.loads((step / "meta/metadata").read_text())["seal"]
    seal["arrays"]["params/line/kernel"] ^= 1
    rewrite(step, "seal", seal)
    with pytest.raises(UserError, match="params/line/kernel came back with other values than were saved"):
        restore_params(folder, jax.sharding.SingleDeviceSharding(jax.devices()[0]))


def flip(folder, rng):
    """Flips one bit of one file, of larger files more often; returns the file."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
    sizes = np.array([file.stat().st_size for file in files])
    file = files[rng.choice(len(files), p=sizes / sizes.sum())]
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    file.write_bytes(content)
    return file


CONTENTS = {"garbage": b"\xff\xfe{\x00\n\xff\n", "another kind": b'[{"totals": 3}]\n7\n', "folder": None}


def damaged(path, damage):
    """Replaces a file or a folder by a folder, or by a file of what nobody wrote."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    content = CONTENTS[damage]
    path.mkdir() if content is None else path.write_bytes(content)


@pytest.mark.parametrize("damage", CONTENTS)
@pytest.mark.parametrize("name", ["ledger.json", "metrics.jsonl"])
def test_a_damaged_record_does_not_keep_a_run_from_going_on(folder, name, damage):
    damaged(folder / name, damage)
    said: list[str] = []
    assert train(apply_overrides(experiment, ["steps=8"]), folder, said.append, jax.devices()[:1]) == 0
    told = "\n".join(said)
    assert "continuing from step 6" in told and f"{folder / name}" in told
    assert json.loads((folder / "ledger.json").read_text())["totals"]["step"] > 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines][-2:] == [7, 8]


@pytest.mark.parametrize("damage", ["garbage", "another kind"])
def test_a_file_in_place_of_the_checkpoints_is_set_aside(folder, finished, damage, caplog):
    damaged(folder / "checkpoints", damage)
    assert run(folder) == losses(finished)
    assert "checkpoints is no folder; it is checkpoints.unreadable-1 now" in caplog.text
    assert (folder / "checkpoints.unreadable-1").read_bytes() == CONTENTS[damage]


def full(log):
    """Makes TensorBoard's file one on a full disk."""
    log._trackers["tensorboard"]._writer._py_recordio_writer._writer = io.FileIO("/dev/full", "wb")


def test_a_full_disk_costs_the_records_and_not_the_run(tmp_path):
    said: list[str] = []
    log = MetricsLog(experiment, tmp_path, 0, said.append)
    log.write(1, {"loss": 1.0})
    (tmp_path / "metrics.jsonl").rename(tmp_path / "before")
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    full(log)
    for step in (2, 3):
        log.write(step, {"loss": 1.0})
    assert [line.split(" cannot be written (No space left")[0] for line in said] == [
        str(tmp_path / "metrics.jsonl"),
        str(tmp_path / "tensorboard"),
    ]
    # There is room again, after half a line.
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "lo')
    log.write(4, {"loss": 0.5})
    log.close()
    assert read_metrics(tmp_path) == [{"step": 4, "loss": 0.5}] and len(said) == 2


def test_a_run_goes_on_where_tensorboard_and_the_ledger_cannot_be_written(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")
    (tmp_path / "ledger.json").mkdir()
    (tmp_path / "ledger.json.unreadable-1").mkdir()
    said: list[str] = []
    assert len(run(tmp_path, said=said)) == 6
    assert "tensorboard cannot be written (File exists); the run goes on" in "\n".join(said)
    assert (tmp_path / "ledger.json.unreadable-2").is_dir()


def test_tensorboard_reads_the_values_of_all_starts(tmp_path):
    first = MetricsLog(experiment, tmp_path, 0)
    for step in (1, 2, 3):
        first.write(step, {"loss": float(step)})
    first.close()
    second = MetricsLog(experiment, tmp_path, 2)
    second.write(3, {"loss": 30.0})
    second.close()
    events = [event for file in sorted((tmp_path / "tensorboard").iterdir()) for event in events_of(file)]
    points = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
    assert points == [(1, "loss", 1.0), (2, "loss", 2.0), (3, "loss", 3.0), (3, "loss", 30.0)]
    starts = [event.step for event in events if event.HasField("session_log")]
    assert starts == [3]


def events_of(file):
    """The events of a TensorBoard file: records of a length, its checksum, the data, and its checksum."""
    data, at = file.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack("<Q", data[at : at + 8])
        yield Event.FromString(data[at + 12 : at + 12 + length])
        at += length + 16


def test_metrics_that_are_no_numbers_are_null(tmp_path):
    log = MetricsLog(experiment, tmp_path, 0)
    log.write(1, {"loss": math.nan, "lr": 0.5})
    log.close()
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line) == {"step": 1, "loss": None, "lr": 0.5} and "NaN" not in line


def test_a_run_with_nothing_readable_says_so_and_keeps_everything(folder):
    shutil.rmtree(folder / "checkpoints" / "4")
    halve(folder / "checkpoints" / "6", "params/**/d/*")
    with pytest.raises(UserError, match=r"none of the checkpoints \[6\]"):
        run(folder)
    assert (folder / "unreadable-checkpoints" / "6" / "params").is_dir()


def test_a_checkpoint_of_another_model_names_the_leaves(folder):
    with pytest.raises(UserError, match=r"another model: .*params/line/kernel is \(3, 4\) there"):
        run(folder, "stage.width=5", "ema=none")
    with pytest.raises(UserError, match="params/line/bias is only there"):
        run(folder, "stage.bias=false")
    with pytest.raises(UserError, match="another model: ema/.* is only there"):
        run(folder, "ema=none")
    assert losses(folder)[5:]


def test_keep_last_and_keep_every_keep_those_checkpoints(tmp_path):
    run(tmp_path, "checkpoint.every=1", "checkpoint.keep_last=2", "checkpoint.keep_every=2")
    assert sorted(int(d.name) for d in (tmp_path / "checkpoints").iterdir()) == [2, 4, 5, 6]


def test_fewer_steps_than_were_taken_leave_a_finished_run(folder):
    said: list[str] = []
    run(folder, "steps=4", said=said)
    assert "continuing from step 6" in "\n".join(said) and "stopped by request" not in "\n".join(said)


def test_parameters_alone_and_their_average_differ(finished, tmp_path):
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params, ema = restore_params(finished, here), restore_params(finished, here, ema=True)
    assert jax.tree.structure(params) == jax.tree.structure(ema)
    kernels = [tree["line"]["kernel"] for tree in (params, ema)]
    assert 0 < np.abs(kernels[0] - kernels[1]).max() < 0.1
    with pytest.raises(UserError, match="holds no checkpoint"):
        restore_params(tmp_path / "nowhere", here)


@pytest.mark.slow
def test_a_run_without_average_has_none_to_read(tmp_path):
    run(tmp_path, "ema=none")
    with pytest.raises(UserError, match="holds no ema"):
        restore_params(tmp_path, jax.sharding.SingleDeviceSharding(jax.devices()[0]), ema=True)
