"""Shared by all tests: eight fake devices, exact matmuls, a place for compiled programs."""

import os

from tests.xla import quick_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick_flags(8)}"

import jax
import pytest

jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(autouse=True, scope="session")
def _compilation_cache(tmp_path_factory):
    """One cache for the session, so that tests which build the same program compile it once.

    `IVJAX_TEST_CACHE` names a folder that outlives the session, for those who run tests again and again.
    """
    folder = os.environ.get("IVJAX_TEST_CACHE") or str(tmp_path_factory.mktemp("xla"))
    jax.config.update("jax_compilation_cache_dir", folder)


def pytest_collection_modifyitems(items):
    """Tests of several processes take longest; none of them shall be left for the end."""
    items.sort(key=lambda item: item.get_closest_marker("multiprocess") is None)
