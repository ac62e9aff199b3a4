"""Shared by all tests: eight fake devices, exact matmuls, a place for compiled programs."""

import gc
import os
import sys
from pathlib import Path

from tests.xla import quick_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick_flags(8)}"

import jax
import pytest

jax.config.update("jax_default_matmul_precision", "highest")
FIXTURES = [path.stem for path in (Path(__file__).parent / "golden").glob("*.json")]


@pytest.fixture(autouse=True, scope="session")
def _compilation_cache(tmp_path_factory):
    """One cache for the session, its workers and the processes that they start: a program is compiled once.

    `IVJAX_TEST_CACHE` names a folder that outlives the session, for those who run tests again and again.
    """
    base = tmp_path_factory.getbasetemp()
    session = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = os.environ.get("IVJAX_TEST_CACHE") or str(session / "xla")
    # For what takes a second or more to compile: to write and read a small program takes as long.
    jax.config.update("jax_compilation_cache_dir", folder)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder


@pytest.fixture(autouse=True, scope="session")
def _programs():
    """Runs of the same experiment on the same mesh share their program."""
    if "ivjax.train.loop" in sys.modules:  # else the tests that were collected train nothing
        from tests.sharing import SharedPrograms

        SharedPrograms().install()


def pytest_collection_finish():
    """Has Python look for garbage seldom: each look goes through all that jax keeps, and little is found."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def pytest_collection_modifyitems(items):
    """Orders the tests, and refuses a golden test whose id does not say which fixture it reads."""
    for item in items:
        if item.get_closest_marker("golden") and not any(name in item.nodeid for name in FIXTURES):
            raise pytest.UsageError(f"{item.nodeid} is marked golden and names no fixture of tests/golden")
    # What takes longest goes first: with two workers, none shall be left alone with it at the end.
    items.sort(
        key=lambda item: (item.get_closest_marker("multiprocess") is None, "/train/" not in item.nodeid)
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keeps the tests of a file in one worker, where they share fixtures and programs; in the order above."""
    from xdist.scheduler import LoadFileScheduling

    if config.getvalue("dist") != "load":
        return None
    config.option.loadscopereorder = False  # else the files with the most tests would go first
    return LoadFileScheduling(config, log)
