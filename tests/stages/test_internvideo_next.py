"""InternVideo-Next's stages: masks, draws, the moving target, what they refuse; that they train."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.data_pipelines.load.synthetic import SyntheticClips
from ivjax.errors import UserError
from ivjax.experiment import load_experiment
from ivjax.experiment.overrides import apply_overrides
from ivjax.models.internvideo_next import NextSize
from ivjax.ops.block_masks import draw_uncovered, first_of
from ivjax.ops.randomness import sample_keys
from ivjax.stages.internvideo_next.latent_prediction import BlockMask
from ivjax.stages.internvideo_next.masked_diffusion_loss import pixels_at
from ivjax.stages.objective import MOMENTUM
from tests.train import micro

STAGE1, STAGE2 = "next_stage1_tiny", "next_stage2_tiny"


@functools.cache
def shrunk(name):
    """A tiny experiment on drawn clips, smaller still, that starts from nothing."""
    base = load_experiment(name)
    where = "student" if name == STAGE1 else "encoder"
    experiment = apply_overrides(
        base,
        [
            f"stage.{where}.depth=2",
            "stage.predictor.depth=2",
            "init_from=()",
            f"init_fresh=('{'teacher' if name == STAGE1 else 'target'}','encoder','latent_decoder')",
            "steps=30",
            "schedule.warmup=3",
            "batch=8",
            "eval_loss.every=0",
            "log.every=1",
        ],
    )
    return dataclasses.replace(experiment, data=SyntheticClips(clips=8))


def shapes(objective):
    batch = {
        name: jax.ShapeDtypeStruct((2, *row.shape), row.dtype) for name, row in objective.main.batch.items()
    }
    return jax.eval_shape(objective.init, jax.random.key(0)), batch


@pytest.mark.parametrize(
    "name",
    [
        STAGE1,
        pytest.param(STAGE2, marks=pytest.mark.slow),
        pytest.param(f"{STAGE2}:moving", marks=pytest.mark.slow),
        pytest.param("next_stage2_base:released", marks=pytest.mark.slow),
    ],
)
def test_a_stage_can_be_differentiated_and_logs_its_terms(name):
    experiment = load_experiment(name)
    objective = experiment.stage.build(experiment.compute)
    gradients = jax.grad(objective.loss, has_aux=True)
    found, terms = jax.eval_shape(gradients, *shapes(objective), jax.random.key(0))
    assert jax.tree.structure(found) == jax.tree.structure(shapes(objective)[0])
    named = {"clip", "pooled", "diffusion"} if name == STAGE1 else {"mask_0", "mask_1"}
    assert terms.keys() - set(objective.running) == named
    assert bool(objective.running) == name.endswith(":moving")


@pytest.mark.slow
@pytest.mark.parametrize("name", [STAGE1, STAGE2])
def test_a_stage_trains(name, tmp_path):
    losses = micro.run(tmp_path, base=shrunk(name))
    assert np.all(np.isfinite(losses)) and np.mean(losses[-3:]) < 0.9 * losses[0]


@pytest.mark.slow
def test_a_moving_target_follows_the_encoder_by_its_momentum():
    experiment = apply_overrides(shrunk(STAGE2), ["stage.momentum=0.75"])
    objective = experiment.stage.build(experiment.compute)
    params = jax.jit(objective.init)(jax.random.key(0))
    params["encoder"] = jax.tree.map(lambda leaf: leaf + 1.0, params["encoder"])
    rows = objective.main.batch
    batch = {name: np.zeros((2, *row.shape), row.dtype) for name, row in rows.items()}
    terms = jax.jit(objective.loss)(params, batch, jax.random.key(0))[1]
    table, wanted = params["target"]["pos_embed"], params["encoder"]["pos_embed"]
    moved = table + MOMENTUM * (terms["target/pos_embed"] - table)
    np.testing.assert_allclose(moved, 0.75 * table + 0.25 * wanted, atol=1e-6)


def test_a_clip_shows_the_same_patches_whatever_batch_it_is_in():
    mask, grid = BlockMask(3, (0.2, 0.4)), (4, 6, 6)
    keys = sample_keys(jax.random.key(0), jnp.arange(6, dtype=jnp.uint32), "blocks_0")

    @jax.jit
    def drawn(keys):
        return draw_uncovered(keys, mask.blocks, grid, mask.duration, mask.scale, mask.aspect)

    contexts = np.asarray(drawn(keys))
    np.testing.assert_array_equal(contexts[2:4], drawn(keys[2:4]))
    # Boxes last as long as the clip, and leave something to see.
    assert contexts.any(1).all() and not contexts.all(1).any()
    frames = contexts.reshape(6, 4, -1)
    assert (frames == frames[:, :1]).all()
    # Cut after the first patches: what is seen of late frames is hidden first.
    few = first_of(jnp.asarray(contexts), 8)
    assert few.seen.all() and (few.places[:, -1] < 2 * 36).all()


def test_targets_have_colours_before_rows_as_the_decoder_knows_them():
    video = np.arange(2 * 4 * 4 * 3, dtype=np.float32).reshape(1, 2, 4, 4, 3)
    found = pixels_at(jnp.asarray(video), jnp.asarray([[0, 5]]), 1, 2)
    np.testing.assert_array_equal(found[0, 0], np.moveaxis(video[0, 0, :2, :2], -1, 0).reshape(-1))
    np.testing.assert_array_equal(found[0, 1], np.moveaxis(video[0, 1, :2, 2:], -1, 0).reshape(-1))


@pytest.mark.parametrize(
    "name, change, words",
    [
        (STAGE1, "stage.teacher.interval=2", "reach the first layer, whose input no block has made"),
        (STAGE1, "stage.clip.width=32", "stage.clip.width=32 and the teacher has 64"),
        (STAGE1, "stage.student.image=(28,28)", "make the grids of patches equal"),
        (STAGE1, "stage.mask.ratio=0", "hides no patch"),
        (STAGE1, "stage.predictor.heads=64", "cannot be turned in pairs"),
        (STAGE2, "stage.most=129", "it must be at most 128, all patches"),
        (STAGE2, "stage.momentum=1.5", "must be at least 0 and at most 1"),
        (STAGE2, "stage.masks.0.scale=(1,1)", "hides whole clips"),
        (STAGE2, "stage.masks.1.blocks=0", "stage.masks.1.blocks=0"),
        (STAGE2, "stage.masks.1.scale=(0.5,0.2)", "give the least and the largest"),
    ],
)
def test_options_that_cannot_work_are_refused(name, change, words):
    with pytest.raises(UserError, match=words):
        experiment = apply_overrides(load_experiment(name), [change])
        experiment.stage.build(experiment.compute)


def test_the_released_encoders_are_towers_of_four_class_tokens():
    size = NextSize.PRESETS["B14"]
    assert (size.class_tokens, size.patches, size.out) == (4, 16 * 256, 768)
    assert dataclasses.replace(size, frames=32, table_frames=16).table_grid == (16, 16, 16)
