"""ViCLIP against the original: features, losses and gradients, masked and whole, clips and images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.viclip import VICLIP, viclip_rows
from ivjax.models.internvideo2.encoder import Encoder, EncoderSize
from ivjax.models.internvideo2.teachers import teach
from ivjax.models.viclip.towers import TextSize, TextTower, ViClip, VisionTower, embed_video, init_viclip
from ivjax.ops.contrastive import contrastive_loss, scale_from_temperature
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import Golden, close, close_gradient

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def golden():
    return Golden("viclip_tiny")


@pytest.fixture(scope="module")
def towers(golden):
    size = VICLIP.parity.sizes(golden.config)
    return VisionTower(size.vision), TextTower(size.text)


def channels_last(video):
    return jnp.moveaxis(jnp.asarray(video), 2, -1)


def visible_tokens(golden, towers, masking):
    """Tokens (B, 1 + n) that are seen `full` or `masked`: the original numbers patches place by place."""
    if masking == "full":
        return None
    mask, (times, _, _) = golden["inputs/mask"], towers[0].size.grid
    ours = mask.reshape(len(mask), -1, times).transpose(0, 2, 1).reshape(len(mask), -1)
    return np.stack([[0, *(1 + np.flatnonzero(row == 0))] for row in ours])


def loss_of(golden, towers, params, visible, ids):
    vision, text = towers
    seen = vision.apply({"params": params["vision"]}, channels_last(golden["inputs/video"]), visible)
    said = text.apply({"params": params["text"]}, golden["inputs/text_ids"].astype(np.int32))
    scale = scale_from_temperature(params["temperature"], least=0.01)
    return contrastive_loss(seen, said, jnp.asarray(ids), scale, form="dense"), (seen, said)


@pytest.mark.parametrize("masking", ["full", "masked"])
@pytest.mark.parametrize("ids", ["idx", "idx_dup"])
def test_viclip_tiny_features_and_losses(golden, towers, masking, ids):
    params = import_tensors(viclip_rows(), golden.group("params"))
    if f"losses/{masking}/vtc_{ids}" not in golden:
        return  # a fixture may hold no masks, or no duplicates
    visible = visible_tokens(golden, towers, masking)
    loss, (seen, said) = loss_of(golden, towers, params, visible, golden[f"inputs/{ids}"])
    close(seen, golden[f"outputs/{masking}/vision_features"])
    close(said, golden["outputs/text_features"])
    np.testing.assert_allclose(loss, golden[f"losses/{masking}/vtc_{ids}"], rtol=1e-4)


def test_viclip_tiny_gradients(golden, towers):
    params = import_tensors(viclip_rows(), golden.group("params"))
    groups = {key.split("/")[1] for key in golden.tensors if key.startswith("grads/")}
    assert groups
    ids = golden["inputs/idx_dup" if "inputs/idx_dup" in golden else "inputs/idx"]
    of_loss = jax.grad(lambda p, v: loss_of(golden, towers, p, v, ids)[0])
    for group in groups:
        visible = visible_tokens(golden, towers, "masked" if group.startswith("masked") else "full")
        found = export_tensors(viclip_rows(), jax.device_get(jax.jit(of_loss)(params, visible)))
        wanted = golden.group(f"grads/{group}")
        for name, gradient in wanted.items():
            close_gradient(found[name], gradient)


def test_viclip_tiny_image_takes_the_mean_of_the_time_embeddings(golden, towers):
    if "inputs/image" not in golden:
        return  # one frame fills no tubelet of several
    params = import_tensors(viclip_rows(), golden.group("params"))
    seen = towers[0].apply({"params": params["vision"]}, channels_last(golden["inputs/image"]))
    close(seen, golden["outputs/image_features"])


def test_an_encoder_of_single_frames_averages_what_it_pools_and_sees_as_a_teacher_does():
    size = EncoderSize(16, 2, 2, 32, pool_heads=2, pool_width=8, image=(28, 28), frames=1, layer_scale=0.1)
    text = TextSize(width=16, depth=1, heads=2, out=8, context=4, vocabulary=8)
    model = ViClip(size, text, frames=3)
    params = jax.jit(lambda key: init_viclip(model, key))(jax.random.key(0))
    video = jax.random.normal(jax.random.key(1), (2, 3, 28, 28, 3))
    encoder = Encoder(size, taps=(1,))
    taught = teach(encoder, params["vision"], video)
    close(embed_video(model, params, video), taught.pooled)
    tokens = model.apply({"params": params}, video, method="tokens")
    close(tokens, jnp.concatenate([taught.cls[0], taught.streams[0, :, :, 1:].reshape(2, -1, 16)], axis=1))
    visible = jnp.array([[0, 1], [0, 4], [0, 2], [0, 3], [0, 1], [0, 2]])  # of each frame of each clip
    encoded = encoder.apply({"params": params["vision"]}, video.reshape(6, 1, 28, 28, 3), visible)
    means = encoded.pooled.reshape(2, 3, -1).mean(1)
    close(embed_video(model, params, video, visible), means)
