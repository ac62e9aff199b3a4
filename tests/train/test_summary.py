"""The lines about a run that a start prints."""

from pathlib import Path

import jax
import pytest

from ivjax.experiment.overrides import apply_overrides
from ivjax.train.mesh import build_mesh
from ivjax.train.program import program_of
from ivjax.train.summary import summary
from tests.train import micro


@pytest.mark.parametrize(("warmup", "said"), [(3, False), (4, True), (9, True)])
def test_a_warm_up_that_outlasts_the_run_is_said(warmup, said):
    experiment = apply_overrides(micro.experiment, ["steps=4", f"schedule.warmup={warmup}"])
    mesh = build_mesh(experiment.mesh, jax.devices()[:1])
    with jax.set_mesh(mesh):
        lines = list(summary(experiment, program_of(experiment, mesh), ("video",), Path("run"), 0))
    assert lines.count("  MFU is unknown: no data sheet gives the peak rate of cpu") == 1
    remark = f"  the warm-up of {warmup} steps outlasts the run: the rate stays below its peak"
    assert (remark in lines) == said and lines[0].startswith("stage ")
