"""Reads golden fixtures: tensors of the original models, from $IVJAX_GOLDEN or tests/golden."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

FOLDER = Path(os.environ.get("IVJAX_GOLDEN", Path(__file__).parent / "golden"))


class Golden:
    """One fixture: its json, and its tensors by group (`params`, `inputs`, `outputs`, ...)."""

    def __init__(self, name: str):
        for suffix in (".json", ".safetensors"):
            if not (FOLDER / f"{name}{suffix}").is_file():
                pytest.fail(f"golden fixture {FOLDER / name}{suffix} is missing")
        self.name = name
        self.json: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        self.config: dict[str, Any] = self.json.get("config", {})
        self.tensors = load_file(FOLDER / f"{name}.safetensors")

    def group(self, name: str) -> dict[str, np.ndarray]:
        """Tensors whose key starts with `name/`, without that prefix."""
        return {k[len(name) + 1 :]: v for k, v in self.tensors.items() if k.startswith(f"{name}/")}

    def __getitem__(self, key: str) -> np.ndarray:
        return self.tensors[key]


def close(actual: Any, golden: np.ndarray, rtol: float = 1e-4, atol: float = 2e-5) -> None:
    """Asserts equality at the fixtures' float32 tolerance."""
    np.testing.assert_allclose(np.asarray(actual), golden, rtol=rtol, atol=atol)


def close_gradient(actual: Any, golden: np.ndarray) -> None:
    """Asserts equality of a gradient: rtol 1e-3 with atol 1e-5 of its largest entry."""
    np.testing.assert_allclose(np.asarray(actual), golden, rtol=1e-3, atol=1e-5 * float(np.abs(golden).max()))
