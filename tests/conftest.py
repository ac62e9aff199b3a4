"""Shared by all tests: eight fake devices, exact matmuls, a place for compiled programs."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Level 0 halves the time to compile; values stay within every tolerance.
_FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}"

import jax
import pytest

jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(autouse=True, scope="session")
def _compilation_cache(tmp_path_factory):
    """One cache for the session, so that tests which build the same program compile it once."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))


def pytest_collection_modifyitems(items):
    """Tests of several processes take longest; none of them shall be left for the end."""
    items.sort(key=lambda item: item.get_closest_marker("multiprocess") is None)
