"""Reads golden fixtures: tensors of the original models, from $IVJAX_GOLDEN or tests/golden.

Other fixtures of the same names must pass too, with other sizes, seeds and options. So a test takes every
size and option from the json, and compares nothing where a fixture leaves something out (an image, a mask).
"""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from ivjax.convert.families.internvideo2 import listed_layers
from ivjax.experiment.schedules import WarmupCosine
from ivjax.models.sizes import tapped_layers
from ivjax.models.videomae.encoder import EPSILON

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
        mode = self.json.get("provenance", {}).get("mode", "")
        # An original that is evaluated drops nothing, whatever its rates are.
        assert mode.startswith("eval") or not any(drop_rates(self.config).values()), drop_rates(self.config)

    def group(self, name: str) -> dict[str, np.ndarray]:
        """Tensors whose key starts with `name/`, without that prefix."""
        return {k[len(name) + 1 :]: v for k, v in self.tensors.items() if k.startswith(f"{name}/")}

    def __getitem__(self, key: str) -> np.ndarray:
        return self.tensors[key]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors


def drop_rates(config: dict[str, Any] | list[Any], path: str = "") -> dict[str, float]:
    """Rates of dropout and drop path in a fixture's options, by their path."""
    found: dict[str, float] = {}
    # Some fixtures have a list of options, one for each of several things of a kind.
    named = {str(i): x for i, x in enumerate(config)} if isinstance(config, list) else config
    for name, value in named.items():
        if isinstance(value, dict | list):
            found |= drop_rates(value, f"{path}{name}.")
        elif name.endswith(("drop_rate", "drop_path_rate")):
            found[f"{path}{name}"] = value
    return found


def assert_options_of_videomae(config: dict[str, Any]) -> None:
    """Asserts that a fixture's model has what all VideoMAEs of ours have: biases, and the norms' epsilon."""
    assert config.get("qkv_bias", True)
    # One constructor takes the number, the other a layer, which the fixture writes as "LayerNorm eps=1e-6".
    _, _, written = config.get("norm_layer", "").partition("eps=")
    assert config.get("norm_eps", float(written or EPSILON)) == EPSILON


def clips(video: np.ndarray) -> jax.Array:
    """Clips (B, 3, T, H, W) of a fixture as (B, T, H, W, 3)."""
    return jnp.asarray(video.transpose(0, 2, 3, 4, 1))


def seen(mask: np.ndarray) -> jax.Array:
    """Ascending places (B, n) that a fixture's mask (B, N), bool or uint8, does not hide."""
    return jnp.asarray(np.stack([np.flatnonzero(row == 0) for row in mask]), jnp.int32)


def some_of(tokens: int, batch: int, count: int = 3) -> np.ndarray:
    """Ascending places (batch, count) out of `tokens`, others in each row; 0 is always one of them."""
    steps = (1 + np.arange(batch)[:, None] + np.arange(count)) * (tokens - 1) // (batch + count)
    steps[:, 0] = 0
    return np.sort(steps, axis=1)


def returned_layers(config: dict[str, Any], teacher: str, depth: int) -> tuple[int, ...]:
    """Layers that a fixture's teacher ("clip" or "mae") returns, ascending."""
    listed = listed_layers(config, teacher)
    count, interval = config.get(f"{teacher}_return_layer", 1), config.get(f"{teacher}_return_interval", 1)
    return listed or tapped_layers(depth, count, interval)


def cosine_schedule(config: dict[str, Any]) -> tuple[WarmupCosine, int]:
    """The schedule that the arguments of the originals' `cosine_scheduler` describe, and its steps."""
    per_epoch = config["niter_per_ep"]
    warmup = int(config.get("warmup_epochs", 0) * per_epoch)
    if config.get("warmup_steps", -1) > 0:
        warmup = config["warmup_steps"]
    start = config.get("start_warmup_value", 0.0)
    schedule = WarmupCosine(config["base_value"], config["final_value"], warmup, start)
    return schedule, config["epochs"] * per_epoch


def close(actual: Any, golden: np.ndarray, rtol: float = 1e-4, atol: float = 2e-5) -> None:
    """Asserts equality at the fixtures' float32 tolerance."""
    np.testing.assert_allclose(np.asarray(actual), golden, rtol=rtol, atol=atol)


def close_gradient(actual: Any, golden: np.ndarray, stated: float = 0.0) -> None:
    """Asserts equality of a gradient: rtol 1e-3 with atol 1e-5 of its largest entry.

    stated: an absolute tolerance that the fixture allows. Of it, 1e-4 of the largest entry and 1e-6 are used.
    """
    # Where all tokens are alike, gradients of queries and keys are small differences of large sums: rounding
    # reaches 1e-4 of the largest entry in a Q-Former of five layers, and all of one that should be zero.
    largest = float(np.abs(golden).max())
    atol = max(1e-5 * largest, min(stated, 1e-4 * largest + 1e-6))
    np.testing.assert_allclose(np.asarray(actual), golden, rtol=1e-3, atol=atol)
