"""Saves that fail, and run folders that go away, while a run trains."""

import shutil
import time

import jax
import pytest

from ivjax.errors import UserError
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.run_folder import checkpoint_steps
from ivjax.train.loop import train
from tests.train.line import experiment, run
from tests.train.micro import losses

STEPS = ("steps=12", "checkpoint.every=2", "checkpoint.keep_last=2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The losses of the run that nothing disturbs."""
    return run(tmp_path_factory.mktemp("whole"), *STEPS)


def disturbed(folder, disturb, *overrides):
    """Trains while `disturb(step)` is called after each step; returns what was said besides steps."""
    said: list[str] = []

    def say(line: str) -> None:
        if line.startswith("step "):
            disturb(int(line.split()[1].split("/")[0]))
        else:
            said.append(line)

    options = apply_overrides(experiment, (*STEPS, *overrides))
    assert train(options, folder, say, jax.devices()[:1]) == 0
    return said


def wait_for_the_save(folder):
    """Waits for the end of the save under way, which would fail at one place or another."""
    deadline = time.monotonic() + 60
    # Which ends when the oldest of three is gone.
    while list((folder / "checkpoints").glob("*tmp*")) or len(checkpoint_steps(folder)) > 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)


def spoil(folder):
    """Puts a file where checkpoints are to be made."""
    wait_for_the_save(folder)
    (folder / "checkpoints").rename(folder / f"checkpoints {time.monotonic()}")
    (folder / "checkpoints").write_text("nobody's")


def test_a_run_goes_on_after_a_save_that_failed(tmp_path, whole, capfd):
    started = time.monotonic()
    said = disturbed(tmp_path, lambda step: spoil(tmp_path) if step == 5 else None)
    assert losses(tmp_path) == whole
    failures = [line for line in said if "could be saved" in line]
    assert len(failures) == 1
    assert "no checkpoint of step 6 could be saved" in failures[0] and "next 2 fail too" in failures[0]
    assert checkpoint_steps(tmp_path) == [10, 12]
    # Pages of details, which belong into a file.
    assert "Traceback" not in "".join(capfd.readouterr())
    assert "Traceback" in (tmp_path / "save_errors.0.log").read_text()
    # Threads of the checkpoint library used to wait five minutes for what never came.
    assert time.monotonic() - started < 60


def test_the_third_failure_in_a_row_ends_the_run_and_it_can_be_continued(tmp_path, whole, capfd):
    def disturb(step: int) -> None:
        if step % 2 and step > 2:
            spoil(tmp_path)

    with pytest.raises(UserError, match="no checkpoint of step 4, 6, 8 could be saved in .*; make room or"):
        disturbed(tmp_path, disturb)
    assert "Traceback" not in "".join(capfd.readouterr())
    run(tmp_path, *STEPS)
    assert losses(tmp_path) == whole


def test_a_save_at_the_end_that_fails_is_tried_again_only_if_it_was_a_scheduled_one(tmp_path, whole):
    said = disturbed(tmp_path / "even", lambda step: spoil(tmp_path / "even") if step == 12 else None)
    assert len([line for line in said if "no checkpoint of step 12 could be saved" in line]) == 1
    assert losses(tmp_path / "even") == whole and checkpoint_steps(tmp_path / "even") == [12]
    with pytest.raises(UserError, match="no checkpoint of step 12 could be saved"):
        disturbed(
            tmp_path / "odd",
            lambda step: spoil(tmp_path / "odd") if step == 12 else None,
            "checkpoint.every=5",
        )


@pytest.mark.parametrize("fate", ["deleted", "moved"])
def test_a_run_folder_that_goes_away_is_one_sentence(tmp_path, fate, capfd):
    folder = tmp_path / "run"

    def disturb(step: int) -> None:
        if step == 5 and fate == "moved":
            folder.rename(tmp_path / "elsewhere")
        elif step == 5:
            wait_for_the_save(folder)
            shutil.rmtree(folder)

    with pytest.raises(UserError, match="was deleted or moved while the run was writing to it"):
        disturbed(folder, disturb)
    # A save that was under way may have made its own folder again, and nothing of the run was.
    assert {entry.name for entry in folder.glob("*")} <= {"checkpoints", "save_errors.0.log"}
    assert "Traceback" not in "".join(capfd.readouterr())
