"""Killed at any moment, asked to stop, split over processes: the same losses in the end."""

import json
import os
import random
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from ivjax.convert.formats.orbax_files import restore_params
from tests.train.micro import losses, run
from tests.train.processes import MICRO, ROOT, being_saved, finish, start, steps_logged, wait_for
from tests.xla import quick_flags

pytestmark = pytest.mark.multiprocess
SAVE_OFTEN = "checkpoint.every=1"  # slow enough to be caught at any step


@pytest.mark.slow
def test_killed_twice_and_stopped_once_gives_the_losses_of_one_run(tmp_path):
    folder = tmp_path / "run"
    command = ("train", MICRO, SAVE_OFTEN, "--workdir", str(folder))
    for moment in (
        lambda: steps_logged(folder) >= 3 and being_saved(folder),
        lambda: steps_logged(folder) >= random.randint(6, 12),
    ):
        process = start(*command)
        wait_for(moment, process)
        process.send_signal(signal.SIGKILL)
        finish(process, -signal.SIGKILL)
    process = start(*command)
    wait_for(lambda: steps_logged(folder) >= 14, process)
    process.send_signal(signal.SIGTERM)
    printed = finish(process)
    assert "continuing from step" in printed
    stopped = "stopped by request" in printed
    assert stopped or losses(folder)[19:]
    printed = finish(start(*command))
    assert "time: compile" in printed
    np.testing.assert_allclose(losses(folder), run(tmp_path / "whole"), rtol=1e-6)
    totals = json.loads((folder / "ledger.json").read_text())["totals"]
    assert totals["lost work"] > 0 and totals["step"] > 0


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_and_agree_to_stop(tmp_path):
    folder = tmp_path / "two"
    launch = ("launch", "local", "--processes", "2", "--devices", "4", "train", MICRO, SAVE_OFTEN)
    where = ("--workdir", str(folder))
    job = start(*launch, "mesh.fsdp=2", "mesh.tensor=2", *where)
    wait_for(lambda: steps_logged(folder) >= 5, job)
    job.send_signal(signal.SIGTERM)
    printed = finish(job)
    assert "stopped by request after step" in printed
    assert steps_logged(folder) < 20
    evals = ("eval_loss.every=10", "eval_loss.batches=1", "checkpoint.best=-eval/loss")
    finish(start(*launch, "mesh.slices=2", "mesh.fsdp=4", *evals, *where))
    assert json.loads((folder / "best" / "best.json").read_text())["step"] == 20
    alone = run(tmp_path / "one")
    np.testing.assert_allclose(losses(folder), alone, rtol=2e-5)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    best, last = (jax.tree.leaves(restore_params(place, here)) for place in (folder / "best", folder))
    for kept, trained in zip(best, last, strict=True):
        np.testing.assert_array_equal(kept, trained)
    for ema in (False, True):
        pairs = zip(
            jax.tree.leaves(restore_params(folder, here, ema)),
            jax.tree.leaves(restore_params(tmp_path / "one", here, ema)),
            strict=True,
        )
        for two, one in pairs:
            np.testing.assert_allclose(two, one, rtol=1e-3, atol=2e-5)


def test_a_job_without_one_of_its_processes_ends_with_its_status(tmp_path):
    # A shipped config, which is refused before jax is imported.
    job = start(
        *("launch", "local", "--processes", "2"),
        *("train", "stage1_synthetic", "no.such=1", "--workdir", str(tmp_path)),
    )
    assert "the config has no 'no.such'" in finish(job, 2)


@pytest.mark.slow
def test_a_second_start_reads_the_compilation_cache_and_the_step_compiles_once(tmp_path):
    folder = tmp_path / "run"
    script = (
        "import sys, jax\n"
        "from pathlib import Path\n"
        "from tests.train.micro import run\n"
        "seen = {'hits': 0, 'misses': 0}\n"
        "def event(name, **kw):\n"
        "    seen['hits'] += name.endswith('/cache_hits'); seen['misses'] += name.endswith('/cache_misses')\n"
        "jax.monitoring.register_event_listener(event)\n"
        "compiled = []\n"
        "original = jax.stages.Lowered.compile\n"
        "def counted(self, *a, **k):\n"
        "    compiled.append(1); return original(self, *a, **k)\n"
        "jax.stages.Lowered.compile = counted\n"
        "run(Path(sys.argv[1]), sys.argv[2])\n"
        "print('RESULT', len(compiled), seen['hits'], seen['misses'])\n"
    )
    first = _counted(script, folder, "steps=10")
    (folder / "checkpoints").rename(tmp_path / "kept")
    second = _counted(script, folder, "steps=10")
    assert first[0] == second[0] == 1
    assert first[2] > 0 and first[1] == 0
    assert second[1] >= first[2] and second[2] == 0


def _counted(script, folder, override) -> tuple[int, ...]:
    """(explicit compilations of the step, cache hits, cache misses) of a run in a fresh process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": quick_flags(1)}
    del environment["JAX_COMPILATION_CACHE_DIR"]  # the session's, in which others may have put the programs
    printed = subprocess.run(
        [sys.executable, "-c", script, str(folder), override],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    line = next(line for line in printed.splitlines() if line.startswith("RESULT"))
    return tuple(int(word) for word in line.split()[1:])
