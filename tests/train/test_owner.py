"""One owner per run folder: who is refused, who is dead, and who has lost it."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from ivjax.errors import UserError
from ivjax.train import owner as module
from ivjax.train.owner import NAME, Owner, owned
from tests.train.processes import MICRO, finish, start, steps_logged, wait_for

HOLD = (
    "import sys, time; from pathlib import Path; from ivjax.errors import UserError\n"
    "from ivjax.train.owner import owned\n"
    "try:\n"
    "    with owned(Path(sys.argv[1]), lambda line: None):\n"
    "        print('owns', flush=True); sys.stdin.readline()\n"
    "except UserError as error: print(error, flush=True)\n"
)


def holder(folder):
    """A process that owns a folder until it is told to end, or says that it is refused."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes)


def told(folder):
    """What is said while the folder is owned for a moment."""
    said: list[str] = []
    with owned(folder, said.append):
        assert (folder / NAME).exists()
    assert not (folder / NAME).exists()
    return said


def test_the_folder_of_a_living_process_is_refused_and_that_of_a_killed_one_taken_over(tmp_path):
    process = holder(tmp_path)
    assert process.stdout.readline() == "owns\n"
    with pytest.raises(UserError, match=f"is in use by process {process.pid} on .*; wait for its end"):
        told(tmp_path)
    process.kill()
    process.communicate()
    assert (tmp_path / NAME).exists()
    started = time.monotonic()
    (line,) = told(tmp_path)
    assert line.startswith(f"process {process.pid} on") and line.endswith("its run folder is taken over")
    assert time.monotonic() - started < 5
    assert told(tmp_path) == []


def test_of_several_that_start_together_one_owns(tmp_path):
    processes = [holder(tmp_path) for _ in range(4)]
    lines = [process.stdout.readline() for process in processes]
    assert lines.count("owns\n") == 1 and sum("is in use by" in line for line in lines) == 3
    for process in processes:
        process.communicate("\n")
    assert list(tmp_path.iterdir()) == []


def test_an_owner_elsewhere_is_dead_once_it_gives_no_sign_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 1.0)
    there = Owner("elsewhere", "", 7, "unknown", "token")
    file = tmp_path / NAME

    def write(beat):
        file.write_text(json.dumps(dataclasses.asdict(there) | {"beat": beat}))

    write(0)
    threading.Timer(0.4, write, [1]).start()
    with pytest.raises(UserError, match="in use by process 7 on elsewhere"):
        told(tmp_path)
    waiting, taken = told(tmp_path)
    assert waiting == "waiting 1 s for a sign of life of process 7 on elsewhere, which trained in this folder"
    assert taken == "process 7 on elsewhere no longer lives; its run folder is taken over"


@pytest.mark.parametrize("content", ["", "[]", '{"host": 1}', "\xff"])
def test_a_file_that_no_owner_has_written_is_taken_over(tmp_path, content):
    (tmp_path / NAME).write_text(content, encoding="latin-1")
    assert told(tmp_path) == ["an owner that left no name no longer lives; its run folder is taken over"]


def test_who_has_lost_the_folder_is_told_and_leaves_it_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    with owned(tmp_path, print) as mine:
        mine.check()
        other = json.loads((tmp_path / NAME).read_text()) | {"token": "another"}
        (tmp_path / "new").write_text(json.dumps(other))
        os.replace(tmp_path / "new", tmp_path / NAME)
        deadline = time.monotonic() + 10
        while not mine._lost:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(UserError, match="another job has taken over the run folder"):
            mine.check()
    assert json.loads((tmp_path / NAME).read_text()) == other


def test_signs_of_life_are_given(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.02)
    with owned(tmp_path, print):
        deadline = time.monotonic() + 10
        while json.loads((tmp_path / NAME).read_text())["beat"] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.slow
def test_a_second_train_in_a_run_folder_is_refused_and_the_first_goes_on(tmp_path):
    first = start("train", MICRO, "steps=2000", "--workdir", str(tmp_path))
    wait_for(lambda: steps_logged(tmp_path) > 0, first)
    said = finish(start("train", MICRO, "steps=2000", "--workdir", str(tmp_path)), status=2)
    assert f"is in use by process {first.pid}" in said and "Traceback" not in said
    before = steps_logged(tmp_path)
    wait_for(lambda: steps_logged(tmp_path) > before, first)
    first.terminate()
    assert "stopped by request" in finish(first)


def test_an_owner_whose_file_cannot_be_read_for_a_while_keeps_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    with owned(tmp_path, lambda line: None) as ownership:
        written = (tmp_path / NAME).read_text()
        # What no read can make sense of, as of a mount that falters.
        (tmp_path / NAME).write_bytes(b"\xff")
        time.sleep(1.5)
        ownership.check()
        (tmp_path / NAME).write_text(written)
        time.sleep(0.5)
        ownership.check()
        (tmp_path / NAME).unlink()
        time.sleep(1.0)
        with pytest.raises(UserError, match="another job has taken over"):
            ownership.check()
