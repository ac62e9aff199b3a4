"""ViCLIP against the original: features, losses and gradients, masked and whole, clips and images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.viclip import VICLIP, viclip_rows
from ivjax.experiment.computing import Compute
from ivjax.models.dual_size import DualSize
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.teaching import clip_features
from ivjax.models.viclip import TextSize
from ivjax.ops.contrastive import contrastive_loss, scale_from_temperature
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import Golden, close, close_gradient
from tests.models.params import any_params

FLOAT32 = Compute("float32")


@pytest.fixture(scope="module")
def golden():
    return Golden("viclip_tiny")


@pytest.fixture(scope="module")
def towers(golden):
    size = VICLIP.parity.sizes(golden.config)
    return size.vision.build(FLOAT32), size.text.build(FLOAT32)


def channels_last(video):
    return jnp.moveaxis(jnp.asarray(video), 2, -1)


def visible_patches(golden, towers, masking):
    """Patches (B, n) that are seen `full` or `masked`: the original numbers them place by place."""
    if masking == "full":
        return None
    mask, (times, _, _) = golden["inputs/mask"], towers[0].size.grid
    ours = mask.reshape(len(mask), -1, times).transpose(0, 2, 1).reshape(len(mask), -1)
    return jnp.asarray(np.stack([np.flatnonzero(row == 0) for row in ours]))


@pytest.fixture(scope="module")
def step(golden, towers):
    """Gives step(masking, ids) -> ((loss, features of clips and captions), gradients)."""
    vision, text = towers

    def loss(params, visible, ids):
        seen = vision.encode(params["vision"], channels_last(golden["inputs/video"]), visible).pooled
        said = text.encode(params["text"], golden["inputs/text_ids"].astype(np.int32))
        scale = scale_from_temperature(params["temperature"], least=0.01)
        return contrastive_loss(seen, said, ids, scale, form="dense"), (seen, said)

    params = import_tensors(viclip_rows(), golden.group("params"))
    differentiate = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def run(masking, ids):
        return differentiate(params, visible_patches(golden, towers, masking), jnp.asarray(golden[ids]))

    return run


@pytest.mark.golden
@pytest.mark.parametrize("masking", ["full", "masked"])
@pytest.mark.parametrize("ids", ["idx", "idx_dup"])
def test_viclip_tiny_features_and_losses_are_the_originals(golden, step, masking, ids):
    if f"losses/{masking}/vtc_{ids}" not in golden:
        return  # a fixture may hold no masks, or no duplicates
    (loss, (seen, said)), _ = step(masking, f"inputs/{ids}")
    close(seen, golden[f"outputs/{masking}/vision_features"])
    close(said, golden["outputs/text_features"])
    np.testing.assert_allclose(loss, golden[f"losses/{masking}/vtc_{ids}"], rtol=1e-4)


@pytest.mark.golden
def test_viclip_tiny_gradients_are_the_originals(golden, step):
    groups = {key.split("/")[1] for key in golden.tensors if key.startswith("grads/")}
    assert groups
    ids = "inputs/idx_dup" if "inputs/idx_dup" in golden else "inputs/idx"
    for group in groups:
        _, gradients = step("masked" if group.startswith("masked") else "full", ids)
        found = export_tensors(viclip_rows(), jax.device_get(gradients))
        for name, gradient in golden.group(f"grads/{group}").items():
            close_gradient(found[name], gradient)


@pytest.mark.golden
def test_viclip_tiny_image_takes_the_mean_of_the_time_embeddings(golden, towers):
    if "inputs/image" not in golden:
        return  # one frame fills no tubelet of several
    params = import_tensors(viclip_rows(), golden.group("params"))
    seen = jax.jit(towers[0].encode)(params["vision"], channels_last(golden["inputs/image"])).pooled
    close(seen, golden["outputs/image_features"])


def test_an_encoder_of_single_frames_averages_what_it_pools_and_sees_as_a_teacher_does():
    size = EncoderSize(16, 2, 2, 32, pool_heads=2, pool_width=8, image=(28, 28), frames=1, layer_scale=0.1)
    text = TextSize(width=16, depth=1, heads=2, out=8, context=4, vocabulary=8)
    model = DualSize(size, text, frames=3).build(FLOAT32)
    params = any_params(model)
    video = np.random.default_rng(1).normal(size=(2, 3, 28, 28, 3)).astype(np.float32)
    tower = size.build(FLOAT32, taps=(1,))
    visible = np.array([[0], [3], [1], [2], [0], [1]], np.int32)  # of each frame of each clip

    @jax.jit
    def features(params):
        found = clip_features(tower, params["vision"], video)
        patches = found.streams[0, :, :, 1:].reshape(2, -1, 16)
        encoded = tower.encode(params["vision"], video.reshape(6, 1, 28, 28, 3), visible)
        return {
            "pooled": (model.video(params, video), found.pooled),
            "tokens": (model.tokens(params, video), jnp.concatenate([found.cls[0], patches], axis=1)),
            "masked": (model.video(params, video, visible), encoded.pooled.reshape(2, 3, -1).mean(1)),
        }

    for ours, expected in features(params).values():
        close(ours, np.asarray(expected))
