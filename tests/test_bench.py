"""`ivjax bench step`: what it prints, not how fast this machine is."""

import json
import math

import jax
import pytest

from ivjax.bench.step_speed import bench_step
from ivjax.cli import main
from ivjax.experiment.files import load_experiment
from ivjax.experiment.overrides import apply_overrides
from tests.train.micro import experiment


@pytest.mark.slow
def test_bench_step_prints_variants_and_their_ratios(monkeypatch):
    monkeypatch.setattr("ivjax.bench.step_speed._CPU_MATMUL_SIDE", 128)
    small = apply_overrides(experiment, ["mesh.data=8", "steps=3", "stage.student.depth=1"])
    variants = ["remat=full stage.drop_path=0.1"]
    lines = [json.loads(line) for line in bench_step(small, [], runs=2, variants=variants)]
    assert [line.get("variant") for line in lines] == ["as is", *variants, None]
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


def test_bench_step_says_that_steps_do_not_follow_the_batch(monkeypatch, capsys):
    monkeypatch.setattr("ivjax.bench.step_speed.bench_step", lambda *arguments: ["{}"])
    assert main(["bench", "step", "--config", "stage1_synthetic", "batch=32"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "{}\n" and captured.err.startswith("batch is 32 instead of 16; steps=300")


@pytest.mark.parametrize(
    "config, student, blocks", [("stage1_1b", 2.77e12, 2.64e12), ("stage1_6b", 15.45e12, 15.08e12)]
)
def test_flops_of_a_clip_are_those_of_the_released_recipes(config, student, blocks):
    experiment = load_experiment(config)
    parts = dict(experiment.stage.build(experiment.compute).main.flops)
    assert parts.pop("clip_teacher") == pytest.approx(24.6e12, rel=0.02)
    assert parts.pop("mae_teacher") == pytest.approx(5.1e12, rel=0.02)
    assert parts["blocks"] == pytest.approx(blocks, rel=0.02)
    assert sum(parts.values()) == pytest.approx(student, rel=0.02)
