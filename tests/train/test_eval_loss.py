"""The loss on clips that are not trained on: nothing is dropped, and masks stay as they are drawn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.experiment.computing import Compute
from ivjax.models.classifier_size import ClassifierSize
from ivjax.stages.classification import Classification
from ivjax.stages.masked_reconstruction import MaskedReconstruction
from ivjax.stages.teachers import ClipTeacher
from tests.train import micro, pairs, test_masked_pixels
from tests.train.test_classification import BATCH, ENCODER

STUDENT = dataclasses.replace(micro.experiment.stage.student, width=16, depth=2, layer_scale=None)
TEACHER = dataclasses.replace(STUDENT, depth=1)
QUIET = {
    "reconstruction": MaskedReconstruction(
        STUDENT,
        micro.experiment.stage.clip,
        micro.experiment.stage.pooled,
        mae=None,
        clip_teacher=ClipTeacher(TEACHER),
        mask=micro.experiment.stage.mask,
        drop_path=0.0,
    ),
    "pixels": dataclasses.replace(test_masked_pixels.stage, drop_path=0.0),
    "pairs": dataclasses.replace(pairs.experiment.stage, drop_path=0.0),
    "classes": Classification(
        ClassifierSize(
            dataclasses.replace(ENCODER, layer_scale=None), 4, merge="cls_avg1", merge_norm="batch"
        ),
        mixed=False,
        head_scale=1.0,
    ),
}


def with_drops(stage):
    """The stage as it is trained: with every kind of dropping that it has."""
    changes = {"drop_path": 0.5}
    if isinstance(stage, Classification):
        changes["dropout"] = 0.5
    if isinstance(stage, MaskedReconstruction):
        changes["clip_teacher"] = dataclasses.replace(stage.clip_teacher, drop_path=0.5)
    return dataclasses.replace(stage, **changes)


def batch_of(objective, rows=4):
    """A batch of random arrays."""
    rng = np.random.default_rng(0)
    drawn = {
        name: rng.integers(0, 250 if spec.dtype == np.uint8 else 4, (rows, *spec.shape)).astype(spec.dtype)
        for name, spec in objective.main.batch.items()
    }
    return drawn | {"index": np.arange(rows, dtype=np.uint32)}


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("reconstruction", "pixels", "pairs")]


@pytest.mark.parametrize("kind", ["classes", *SLOW])
def test_the_eval_loss_is_the_loss_of_a_stage_that_drops_nothing(kind):
    quiet, noisy = (stage.build(Compute("float32")) for stage in (QUIET[kind], with_drops(QUIET[kind])))
    batch, key = batch_of(noisy), jax.random.key(0)

    @jax.jit
    def losses(params):
        evaluated = noisy.eval_loss(params, batch, key)
        return quiet.eval_loss(params, batch, key)[0], evaluated[0], noisy.loss(params, batch, key)[0]

    expected, found, trained = losses(jax.jit(noisy.init)(jax.random.key(1)))
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    assert abs(float(trained) - float(found)) > 1e-4


def test_a_classifier_is_evaluated_by_its_running_statistics():
    """Then the loss of a clip does not depend on the clips beside it."""
    objective = with_drops(QUIET["classes"]).build(Compute("float32"))
    params = jax.jit(objective.init)(jax.random.key(1))
    halves = [{name: rows[half] for name, rows in BATCH.items()} for half in (slice(0, 4), slice(4, 8))]
    loss = jax.jit(objective.eval_loss)
    (one, terms), (other, _) = (loss(params, half, jax.random.key(0)) for half in halves)
    whole = jax.jit(objective.eval_loss)(params, BATCH, jax.random.key(0))[0]
    assert float(whole) == pytest.approx(float(jnp.mean(jnp.stack([one, other]))), rel=1e-5)
    assert set(terms) == {"top1"}
