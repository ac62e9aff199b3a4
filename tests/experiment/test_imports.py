"""The cost of importing the experiment and loading a config: no accelerator code, no reader, little time."""

import subprocess
import sys

import pytest

from ivjax.experiment.files import shipped_configs

HEAVY = ("jax", "flax", "optax", "orbax", "grain", "av", "array_record", "pyarrow", "tensorflow")


def run(code: str) -> list[str]:
    """The lines that code prints in a fresh interpreter; the last lists the heavy packages imported."""
    report = f"import sys, json; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


@pytest.mark.multiprocess
@pytest.mark.parametrize("module", ["ivjax.experiment", "ivjax.data_pipelines.data_options"])
def test_options_import_nothing_heavy(module):
    assert run(f"import {module}") == ["[]"]


@pytest.mark.multiprocess
def test_importing_and_loading_any_shipped_config_takes_a_moment_and_imports_nothing_heavy():
    code = f"""
import time
start = time.process_time()
from ivjax import experiment as ix
print("ivjax.experiment", time.process_time() - start)
for name in {sorted(shipped_configs())}:
    start = time.process_time()
    ix.load_experiment(name)
    print(name, time.process_time() - start)
"""
    *lines, heavy = run(code)
    importing, *loading = (float(line.split()[1]) for line in lines)
    assert heavy == "[]"
    assert importing < 0.3 and len(loading) == len(shipped_configs())
    # The first config imports what all share. Alone, none takes longer than all of them together.
    assert sum(loading) < 2.0, lines
