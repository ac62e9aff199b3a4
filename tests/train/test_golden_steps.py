"""Whole optimizer steps of stage 1 against the original engine: teachers, mask, student, losses, AdamW."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.encoders import ENCODER, VIDEOMAE
from ivjax.convert.families.internvideo2 import PRETRAIN
from ivjax.experiment.computing import Compute, Recipe
from ivjax.experiment.run_options import AdamW
from ivjax.stages import masking as masks
from ivjax.stages.mask import Mask
from ivjax.stages.masked_reconstruction import MaskedReconstruction, Weights
from ivjax.stages.masked_reconstruction_loss import reconstruction_of
from ivjax.stages.teachers import ClipTeacher, MaeTeacher
from ivjax.train.gradients import gradients_of
from ivjax.train.step import decay_schedule, init_state, make_step
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import (
    Golden,
    assert_options_of_videomae,
    clips,
    close,
    close_gradient,
    cosine_schedule,
    returned_layers,
    seen,
)

NAME = "stage1_train_steps"
LOSSES = {"loss": "total", "clip": "clip_middle", "pooled": "clip_final", "mae": "mae"}


def stage_of(config: dict, targets: str) -> MaskedReconstruction:
    size = PRETRAIN.parity.sizes(config["student"])
    clip, pooled = config["clip_loss_ratio"]
    clip_teacher = ENCODER.parity.sizes(config["clip_teacher"])
    mae_teacher = VIDEOMAE.parity.sizes(config["mae_teacher"])
    assert_options_of_videomae(config["mae_teacher"])
    stage = MaskedReconstruction(
        student=size.encoder,
        clip=size.clip,
        pooled=size.pooled,
        mae=size.mae,
        clip_teacher=ClipTeacher(
            clip_teacher, chosen=returned_layers(config["clip_teacher"], "clip", clip_teacher.depth)
        ),
        mae_teacher=MaeTeacher(
            mae_teacher, chosen=returned_layers(config["mae_teacher"], "mae", mae_teacher.depth)
        ),
        mask=Mask(ratio=config["mask_ratio"]),
        weights=Weights(clip, pooled, config["mae_loss_ratio"]),
        drop_path=0.0,
        targets=targets,
    )
    assert stage.stride == config.get("td_ratio", stage.stride)
    return stage


def recipe_of(config: dict) -> Recipe:
    schedule, steps = cosine_schedule(config["lr"])
    decay = config.get("wd", {"base_value": config["weight_decay"], "final_value": None})
    optimizer = AdamW(
        tuple(config["opt_betas"]),
        config["opt_eps"],
        decay["base_value"],
        decay["final_value"],
        clip=config["clip_grad"] or None,
    )
    return Recipe(optimizer, schedule, steps)


def batch_of(golden: Golden, number: int) -> dict:
    video = clips(golden[f"inputs/video_{number}"])
    return {"video": video, "index": jnp.full(len(video), number, jnp.uint32)}


@pytest.fixture
def golden(monkeypatch) -> Golden:
    """The fixture; masks are drawn from its noise: the step's, which stands in the batch's `index`."""
    golden = Golden(NAME)
    noise = jnp.stack([golden[f"inputs/exp_noise_{i}"] for i in range(golden.config["steps"])])
    monkeypatch.setattr(
        "ivjax.stages.masked_reconstruction_loss.sample_keys", lambda key, index, purpose: index
    )
    monkeypatch.setattr(
        masks, "exponential", lambda index, shape: noise[index[0]].reshape(len(index), *shape)
    )
    return golden


def teachers_of(golden: Golden) -> dict:
    return {
        "clip_teacher": import_tensors(ENCODER.rows, golden.group("params/clip_teacher")),
        "mae_teacher": import_tensors(VIDEOMAE.rows, golden.group("params/mae_teacher")),
    }


@pytest.mark.golden
@pytest.mark.parametrize("targets", ["visible", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [NAME])
def test_losses_and_parameters_of_all_steps_are_the_originals(name, targets, golden):
    config, recipe = golden.config, recipe_of(golden.config)
    objective = stage_of(config, targets).build(Compute("float32"))
    state = init_state(import_tensors(PRETRAIN.rows, golden.group("params/student")), recipe)
    state["step"] = jnp.asarray(config["start_steps"], jnp.int32)
    step, teachers = jax.jit(make_step(objective, recipe)), teachers_of(golden)
    for number in range(config["steps"]):
        state, metrics = step(state, teachers, batch_of(golden, number))
        for ours, theirs in LOSSES.items():
            close(metrics[ours], golden[f"losses/{theirs}"][number])
        close(metrics["lr"], golden["outputs/lr"][number], atol=0)
        close(metrics["grad_norm"], golden["outputs/grad_norm_before_clip"][number])
    after = export_tensors(PRETRAIN.rows, state["params"])
    expected = golden.group("outputs/params_after")
    assert after.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(after[key], value, rtol=0, atol=5e-5, err_msg=key)


@pytest.mark.golden
@pytest.mark.parametrize("name", [NAME])
def test_learning_rate_and_weight_decay_are_the_originals(name):
    config = Golden(name).config
    recipe = recipe_of(config)
    schedules = {"lr_values": recipe.schedule, "wd_values": decay_schedule(recipe.optimizer)}
    for key, schedule in schedules.items():
        values = np.asarray(config.get(key, ()))
        ours = schedule.at(np.arange(len(values)), recipe.steps, np)
        np.testing.assert_allclose(ours, values, rtol=1e-6, atol=1e-12, err_msg=key)


# The steps above pass through the same masks, targets and gradients.
@pytest.mark.slow
@pytest.mark.golden
@pytest.mark.parametrize("name", [NAME])
def test_masks_targets_and_gradients_of_the_first_step_are_the_originals(name, golden):
    stage = stage_of(golden.config, "all")
    compute = Compute("float32")
    objective = stage.build(compute)
    student = import_tensors(PRETRAIN.rows, golden.group("params/student"))
    batch, key = batch_of(golden, 0), jax.random.key(0)
    teachers = teachers_of(golden)
    targets_of, differentiate = reconstruction_of(stage, compute).targets, gradients_of(objective, 1)

    @jax.jit  # one program, so that the teachers in both are compiled once
    def first_step(student, teachers, batch, key):
        _, gradients = differentiate(student, teachers, batch, key)
        return targets_of(student | teachers, batch, key), gradients

    (visible, targets), gradients = first_step(student, teachers, batch, key)
    np.testing.assert_array_equal(visible, seen(golden["outputs/mask_0"]))
    close(targets["clip"], golden["outputs/clip_middle_0"])
    close(targets["pooled"], golden["outputs/clip_final_0"])
    close(targets["mae"], golden["outputs/mae_0"])
    named = export_tensors(PRETRAIN.rows, gradients)
    for name, value in golden.group("grads").items():
        close_gradient(named[name], value)
