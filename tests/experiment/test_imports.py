"""What importing the experiment and loading a config costs: no accelerator code, no reader, little time."""

import json
import subprocess
import sys

import pytest

from ivjax.experiment.files import shipped_configs

HEAVY = ("jax", "flax", "optax", "orbax", "grain", "av", "array_record", "pyarrow", "tensorflow")


def imported(code: str) -> list[str]:
    """The heavy packages that a fresh interpreter has imported after running some code."""
    report = f"import sys, json; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.multiprocess
@pytest.mark.parametrize("module", ["ivjax.experiment", "ivjax.data_pipelines.data_options"])
def test_options_import_nothing_heavy(module):
    assert imported(f"import {module}") == []


@pytest.mark.multiprocess
def test_no_shipped_config_imports_anything_heavy():
    names = sorted(shipped_configs())
    code = f"from ivjax import experiment as ix\nfor name in {names}: ix.load_experiment(name)"
    assert imported(code) == []


@pytest.mark.multiprocess
def test_importing_and_loading_take_a_moment():
    code = """
import time
start = time.process_time()
from ivjax import experiment as ix
imported = time.process_time()
ix.load_experiment("stage1_1b")
print(imported - start, time.process_time() - start)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    importing, loading = map(float, done.stdout.split())
    assert importing < 0.3 and loading < 1.0
