"""VideoMAE's pre-training: what it draws, that it learns, whole or in micro-batches, what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.videomae_pretrain import VIDEOMAE_PRETRAIN
from ivjax.convert.loading import load
from ivjax.convert.origins import import_into
from ivjax.data_pipelines.load.synthetic import SyntheticClips
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.run_options import Checkpointing, Logging
from ivjax.experiment.schedules import WarmupCosine
from ivjax.models.videomae import DecoderSize, VideoMaeSize
from ivjax.ops.trees import paths_of
from ivjax.stages.mask import Mask
from ivjax.stages.masked_pixels import MaskedPixels
from ivjax.stages.masked_pixels_loss import draw_roles
from ivjax.train.mesh import build_mesh
from ivjax.train.sharding import shardings_of
from tests.train import micro

experiment = Experiment(
    stage=MaskedPixels(
        encoder=VideoMaeSize(width=32, depth=2, heads=2, mlp_width=64, patch=8, image=(32, 32), frames=8),
        decoder=DecoderSize(width=24, depth=1, heads=2, mlp_width=48),
        mask=Mask("tube", 0.75),
        decode=0.5,
        drop_path=0.1,
    ),
    data=SyntheticClips(clips=8, tubelet=2),
    batch=8,
    steps=40,
    schedule=WarmupCosine(peak=1e-2, warmup=4),
    dtype="float32",
    checkpoint=Checkpointing(every=40),
    log=Logging(every=1),
)
stage = experiment.stage


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's folder and losses."""
    folder = tmp_path_factory.mktemp("run")
    return folder, micro.run(folder, base=experiment)


@pytest.mark.slow
def test_it_learns_more_than_to_predict_the_mean(trained):
    _, losses = trained
    assert np.mean(losses[-4:]) < 0.8 * losses[0]


@pytest.mark.slow
def test_accumulation_gives_the_losses_of_the_whole_batch(tmp_path, trained):
    losses = micro.run(tmp_path, "accumulate=4", "steps=4", base=experiment)
    np.testing.assert_allclose(losses, trained[1][:4], rtol=2e-5)


def test_the_encoder_of_a_run_becomes_a_teacher(tmp_path):
    micro.saved(tmp_path, experiment)
    params = load(tmp_path).params
    found = import_into(tmp_path, params["encoder"], branch="encoder")
    leaves = dict(paths_of(params["encoder"]))
    assert found.keys() == leaves.keys()
    for path, leaf in found.items():
        np.testing.assert_array_equal(leaf, leaves[path])


def drawn(changed: MaskedPixels, clips: range):
    index = jnp.asarray(clips, jnp.uint32)
    roles = jax.jit(functools.partial(draw_roles, changed))(index, jax.random.key(0))
    return jax.tree.map(np.asarray, roles)


def test_masks_belong_to_the_clip_and_not_to_its_place_in_the_batch():
    one, other = drawn(stage, range(12)), drawn(stage, range(4, 16))
    for name in ("visible", "decoded", "hidden"):
        np.testing.assert_array_equal(getattr(one, name)[4:], getattr(other, name)[:8])
    assert len({row.tobytes() for row in one.decoded}) == 4
    assert len({row.tobytes() for row in one.visible}) > 8


@pytest.mark.parametrize(
    "overrides, counted",
    [
        ((), {24}),
        (("stage.mask.kind=random",), None),
        (("stage.encoder.frames=6",), None),
        (("stage.decode=0.75",), {12}),
        (("stage.decode=none", "stage.mask.kind=random"), {48}),
    ],
    ids=str,
)
def test_a_loss_of_uneven_clips_is_one_of_the_whole_batch(overrides, counted):
    changed = apply_overrides(experiment, overrides).stage
    task, patches = drawn(changed, range(8)), changed.encoder.patches
    for visible, decoded, hidden in zip(*task, strict=True):
        np.testing.assert_array_equal(hidden, ~np.isin(decoded, visible))
        assert np.all(np.diff(decoded) > 0) and decoded[-1] < patches
    counts = set(task.hidden.sum(1).tolist())
    assert counts == counted if counted else len(counts) > 1
    assert (changed.build(Compute()).joint is None) == (counted is not None)


@pytest.mark.parametrize("preset", ["H16", "g14"])
def test_released_sizes_are_spread_evenly(preset):
    mesh, sizes = build_mesh(MeshShape(data=1, fsdp=4, tensor=2)), VIDEOMAE_PRETRAIN.presets[preset]
    released = MaskedPixels(sizes.encoder, sizes.decoder, decode=0.5).build(Compute())
    shapes = jax.eval_shape(released.init, jax.random.key(0))
    shardings = dict(paths_of(shardings_of(shapes, mesh, released.rules)))
    held = sum(np.prod(shardings[path].shard_shape(leaf.shape)) for path, leaf in paths_of(shapes))
    assert held < 1.02 * sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 8


@pytest.mark.parametrize(
    "override, message",
    [
        ("stage.encoder.frames=7", "7 frames of .* do not divide into tubelets of 2"),
        ("stage.encoder.heads=5", "stage.encoder.width=32 does not divide into 5 heads"),
        ("stage.decoder.heads=5", "stage.decoder.width=24 does not divide into 5 heads"),
        ("stage.encoder.attention=released_head_axis", "choose standard or cosine"),
        ("stage.mask.kind=attention", "needs a teacher, which this stage lacks; set stage.mask.kind=tube"),
        ("stage.mask.ratio=0.05", "stage.mask.ratio=0.05 hides no patch"),
        ("stage.decode=0.2", "stage.decode=0.2; "),
        ("stage.encoder.image=(24,32)", "needs an even grid, and 3x4 patches are not"),
    ],
)
def test_what_does_not_fit_is_one_sentence(override, message):
    changed = apply_overrides(experiment, [override])
    with pytest.raises(UserError, match=message):
        changed.stage.build(changed.compute)
