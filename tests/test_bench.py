"""`ivjax bench step`: what it prints, not how fast this machine is."""

import json
import math

import jax
import pytest

from ivjax.bench.step import bench_step
from ivjax.overrides import apply_overrides
from tests.train.micro import experiment


def test_variants_and_their_ratios(monkeypatch):
    monkeypatch.setattr("ivjax.bench.step._MATMUL_SIDE", {"cpu": 128})
    small = apply_overrides(experiment, ["mesh.data=8", "steps=3", "stage.student.depth=1"])
    lines = [json.loads(line) for line in bench_step(small, ["remat=none,full"], runs=2)]
    assert [line.get("variant") for line in lines] == ["remat=none", "remat=full", None]
    objective = small.stage.build(small.compute)
    for line in lines[:2]:
        flops = sum(objective.main.flops.values()) * small.batch / jax.device_count()
        assert math.isclose(
            line["step_of_matmul"] * line["matmul_tflops"], flops / line["step_ms"] / 1e9, rel_tol=0.6
        )
        assert line["clips_per_s"] == pytest.approx(16e3 / line["step_ms"], rel=0.01)
        assert line["mfu"] == "unknown" and line["peak_mib"] > 0 and line["compiled_mib"] > 0
    ratio = lines[1]["step_ms"] / lines[0]["step_ms"]
    assert lines[2]["step_ms"] == pytest.approx(ratio, abs=2e-3)
