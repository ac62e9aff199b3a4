"""What importing the experiment and loading a config costs: no accelerator code, no reader, little time."""

import json
import subprocess
import sys

import pytest

HEAVY = ("jax", "flax", "optax", "orbax", "grain", "av", "array_record", "pyarrow", "tensorflow")


def imported(code: str) -> list[str]:
    """The heavy packages that a fresh interpreter has imported after running some code."""
    report = f"import sys, json; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.multiprocess
@pytest.mark.parametrize("module", ["ivjax.experiment", "ivjax.data_pipelines.options"])
def test_options_import_nothing_heavy(module):
    assert imported(f"import {module}") == []


@pytest.mark.multiprocess
def test_importing_the_experiment_takes_a_moment():
    code = "import time; t = time.process_time(); import ivjax.experiment; print(time.process_time() - t)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert float(done.stdout) < 0.3
