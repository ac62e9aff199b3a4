"""Runs in phases: each starts from the one before, and all of them are one command."""

import dataclasses
import json
import shutil
import signal

import jax
import numpy as np
import pytest

from ivjax.convert.formats.orbax_files import restore_params
from ivjax.convert.loading import load
from ivjax.errors import UserError
from ivjax.experiment.run_folder import folder_with_weights
from ivjax.experiment.run_options import Phase, Trains
from ivjax.experiment.storing import stored_experiment
from ivjax.ops.trees import paths_of
from ivjax.train.loop import train
from tests.train import micro, pairs

FROZEN_TEXT = dataclasses.replace(
    pairs.experiment,
    trains=(Trains("text", 1.0),),
    phases=(
        Phase("vision_alone", 3, ("trains.0.rate=0.0", "init_fresh=('*',)")),
        Phase("both", 4, ("schedule.peak=1e-2",)),
    ),
    checkpoint=dataclasses.replace(pairs.experiment.checkpoint, every=2),
)


HERE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def run(folder, experiment=FROZEN_TEXT):
    said: list[str] = []
    assert train(experiment, folder, said.append, jax.devices()[:1]) == 0
    return said


def curve(folder):
    return [micro.losses(phase) for phase in sorted((folder / "phases").iterdir())]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def test_changes_hold_in_their_phase_alone(whole):
    first, second = (whole / "phases" / name for name in ("1_vision_alone", "2_both"))
    assert [len(losses) for losses in curve(whole)] == [3, 4]
    objective = pairs.experiment.stage.build(pairs.experiment.compute)
    start = dict(paths_of(jax.jit(objective.init)(jax.random.key(0))))
    after_first, after_second = (dict(paths_of(restore_params(f, HERE))) for f in (first, second))
    words = {path for path in start if path.startswith("text/")}
    # What a phase freezes it does not save.
    assert after_first.keys() == start.keys() - words and after_second.keys() == start.keys()
    assert any(not np.allclose(after_first[path], start[path], atol=1e-6) for path in after_first)
    assert any(not np.allclose(after_second[path], start[path], atol=1e-6) for path in words)
    # Both phases begin with the same clips, the second one with what the first one has learned.
    assert stored_experiment(second).init_from == (str(first),)
    assert curve(whole)[1][0] != curve(whole)[0][0]
    assert stored_experiment(second).schedule.peak == 1e-2
    assert stored_experiment(first).schedule.peak == pairs.experiment.schedule.peak


def test_the_folder_of_the_whole_stands_for_its_last_phase(whole):
    last = whole / "phases" / "2_both"
    assert folder_with_weights(whole) == last and folder_with_weights(last) == last
    assert json.loads((whole / "experiment.json").read_text())["phases"]
    found, wanted = (dict(paths_of(load(folder).params)) for folder in (whole, last))
    assert found.keys() == wanted.keys()
    for path, leaf in found.items():
        np.testing.assert_array_equal(leaf, wanted[path], err_msg=path)


@pytest.mark.slow
def test_stopped_in_the_second_phase_and_continued_gives_the_losses_of_an_unbroken_run(
    tmp_path, whole, monkeypatch
):
    def stop_in_the_second_phase(checkpoints, step):
        return "2_both" in str(checkpoints._folder) and step == 1

    done = "phases/1_vision_alone"
    shutil.copytree(whole / done, tmp_path / done)
    with monkeypatch.context() as patched:
        patched.setattr("ivjax.train.checkpoint.Checkpoints.stop_requested", stop_in_the_second_phase)
        assert "stopped by request after step 1; the same command continues" in run(tmp_path)
    said = run(tmp_path)
    assert "phase 1 of 2, vision_alone: finished before" in said
    assert curve(tmp_path) == curve(whole)
    assert [line for line in run(tmp_path) if "finished before" in line] == [
        "phase 1 of 2, vision_alone: finished before",
        "phase 2 of 2, both: finished before",
    ]


@pytest.mark.multiprocess
@pytest.mark.slow
def test_killed_in_the_second_phase_and_continued_gives_the_losses_of_an_unbroken_run(tmp_path):
    from tests.train.processes import MICRO, finish, start, steps_logged, wait_for

    config = tmp_path / "phased.py"
    config.write_text(
        "import dataclasses\n"
        "from ivjax.experiment.run_options import Phase\n"
        "from tests.train import micro\n"
        "phases = (Phase('short', 4), Phase('long', 12, ('schedule.peak=1e-3',)))\n"
        "experiment = dataclasses.replace(micro.experiment, phases=phases)\n"
    )
    assert MICRO.endswith("micro.py")
    folder, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    command = ("train", str(config), "checkpoint.every=2", "--workdir")
    process = start(*command, str(folder))
    wait_for(lambda: steps_logged(folder / "phases" / "2_long") >= 4, process)
    process.send_signal(signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    assert "phase 1 of 2, short: finished before" in finish(start(*command, str(folder)))
    finish(start(*command, str(unbroken)))
    for killed, whole in zip(curve(folder), curve(unbroken), strict=True):
        np.testing.assert_allclose(killed, whole, rtol=1e-6)


def test_a_wrong_change_is_refused_before_anything_is_trained(tmp_path):
    wrong = dataclasses.replace(FROZEN_TEXT, phases=(Phase("a", 1), Phase("b", 1, ("no.such=1",))))
    with pytest.raises(UserError, match="the config has no 'no.such'"):
        run(tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()
