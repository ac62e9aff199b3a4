"""A whole sweep through the command: killed in the middle, and continued."""

import json
import signal

import pytest

from tests.train.processes import MICRO, finish, start, wait_for

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]
GRID = ("schedule.peak=1e-3,3e-3,1e-2", "stage.student.mlp_width=32,64")
# One head and one layer: the least to compile.
SMALL = ("stage.clip=none", "stage.mae=none", "stage.student.depth=1", "batch=4", "steps=6", "log.every=2")


def sweep(folder, *options):
    return start("sweep", MICRO, *GRID, *SMALL, "--workdir", str(folder), *options)


def test_a_killed_sweep_goes_on_and_gives_the_table_of_an_unbroken_one(tmp_path):
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    process = sweep(folder, "--jobs", "2")
    wait_for(lambda: len(list(folder.glob("runs/*/result.json"))) >= 2, process)
    process.send_signal(signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    kept = {file: file.stat().st_mtime_ns for file in folder.glob("runs/*/result.json")}
    assert 2 <= len(kept) < 6
    printed = finish(sweep(folder, "--jobs", "2"))
    assert f"{len(kept)} of them finished before" in printed
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items())
    assert printed.endswith("6 runs, 2 distinct steps, compiled 2 times\n")
    finish(sweep(whole, "--jobs", "2"))
    for file in ("table.txt", "results.csv"):
        assert (folder / file).read_text() == (whole / file).read_text()
    starts = [json.loads(line) for f in whole.glob("runs/*/starts.jsonl") for line in f.open()]
    assert sum(line["compiled"] for line in starts) == 2 and sum(line["cached"] for line in starts) == 4
