"""Any tower under any head: the protocol that dual encoders, classifiers, probes and teachers rely on."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.dual_size import DualSize
from ivjax.models.internvideo2 import EncoderSize, UnpooledSize
from ivjax.models.segments import encode_segments
from ivjax.models.umt import UmtSize
from ivjax.models.viclip import TextSize, VisionSize
from ivjax.models.videomae import VideoMaeSize
from tests.goldens import close
from tests.models.params import any_params

FLOAT32 = Compute("float32")
SHAPE = {"width": 16, "depth": 2, "heads": 2, "image": (28, 28), "patch": 14, "frames": 2}
TOWERS = {
    "internvideo2": EncoderSize(**SHAPE, mlp_width=32, pool_heads=2, pool_width=8, layer_scale=0.1),
    "viclip": VisionSize(**SHAPE, out=8),
    "viclip_tubelets": VisionSize(**SHAPE | {"frames": 4}, out=8, tubelet=2),
    "videomae": VideoMaeSize(**SHAPE, mlp_width=32, tubelet=1),
    "umt": UmtSize(**SHAPE, mlp_width=32, table=(1, 4, 4)),
    "internvideo2_unpooled": UnpooledSize(**SHAPE, mlp_width=32, layer_scale=0.1),
}
TEXT = TextSize(width=8, depth=1, heads=2, out=8, context=5, vocabulary=11)
# These have the networks of VideoMAE and InternVideo2; what they add is in test_token_encoders.py.
ALIKE = ("umt", "internvideo2_unpooled")
each_tower = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in TOWERS]
)


@functools.cache
def params_of(name):
    """Parameters of a classifier on the tower `name`."""
    return any_params(ClassifierSize(TOWERS[name], 5).build(FLOAT32))


def clips(size, frames=None):
    """Two random clips of a size."""
    shape = (2, frames or size.frames, *size.image, 3)
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@each_tower
def test_a_tower_returns_what_its_size_promises(name):
    size = TOWERS[name]
    tower, params, video = size.build(FLOAT32, taps=(0, 1)), params_of(name)["encoder"], clips(size)
    wanted = np.array([[0, 3, 5], [1, 2, 7]], np.int32)

    @jax.jit
    def encodings(p, v):
        return tower.encode(p, v), tower.encode(p, v, wanted=wanted), tower.encode(p, v, visible=wanted)

    whole, some, seen = jax.device_get(encodings(params, video))
    first, every = size.class_tokens, size.class_tokens + size.patches
    assert whole.tokens.shape == (2, every, 16) and whole.taps.shape == (2, 2, every, 16)
    assert seen.tokens.shape == (2, first + 3, 16)
    assert (whole.pooled is None) == (size.out is None) == (not tower.pools)
    assert whole.pooled is None or whole.pooled.shape == (2, size.out)
    assert (whole.attention is not None) == size.pool_attends
    patches = whole.taps[:, :, first:]
    close(some.taps[:, :, first:], np.take_along_axis(patches, wanted[None, :, :, None], axis=2))
    assert size.flops()["blocks"] > size.flops(3)["blocks"]


@each_tower
def test_a_classifier_sits_on_any_tower(name):
    size = ClassifierSize(TOWERS[name], 5)
    model, params = size.build(FLOAT32), params_of(name)

    @jax.jit
    def outputs(p, v):
        return model.tower.encode(p["encoder"], v), model.logits(p, v)

    encoded, logits = jax.device_get(outputs(params, clips(size.encoder)))
    pooled = encoded.pooled if size.encoder.out else encoded.tokens[:, size.encoder.class_tokens :].mean(1)
    normed = (pooled - pooled.mean(-1, keepdims=True)) / np.sqrt(pooled.var(-1, keepdims=True) + 1e-5)
    normed = normed * params["fc_norm"]["scale"] + params["fc_norm"]["bias"]
    close(logits, normed @ params["head"]["kernel"] + params["head"]["bias"])


@each_tower
def test_options_of_the_computation_reach_the_blocks(name):
    video, params = clips(TOWERS[name]), params_of(name)["encoder"]

    def traced(**options):
        tower = TOWERS[name].build(Compute(**options))
        return str(jax.make_jaxpr(tower.encode)(params, video))

    plain, changed = traced(), traced(dtype="float32", remat="full", remat_blocks=1, scan=False)
    assert "bf16" in plain and "bf16" not in changed
    assert "remat" not in plain and "remat" in changed
    assert plain.count("scan[") < changed.count("scan[")  # one for each policy


def test_blocks_that_are_frozen_change_no_feature_and_get_no_gradient():
    """Tests families without a way of their own; tests of InternVideo2's classifiers show the other one."""
    tower, video = TOWERS["viclip"].build(FLOAT32), clips(TOWERS["viclip"])

    def loss(params, frozen):
        encoded = tower.encode_above(params, video, None, 1) if frozen else tower.encode(params, video)
        return jnp.sum(jnp.sin(encoded.pooled))

    of_loss = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    params = params_of("viclip")["encoder"]
    (value, found), (whole, wanted) = jax.device_get([of_loss(params, True), of_loss(params, False)])
    close(value, whole)
    kernel, full = (gradients["blocks"]["mlp"]["fc1"]["kernel"] for gradients in (found, wanted))
    assert not np.any(kernel[0]) and np.any(full[0])
    np.testing.assert_allclose(kernel[1], full[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["viclip", "videomae"])
def test_a_long_clip_is_read_in_segments(name):
    size = TOWERS[name]
    tower, params, video = size.build(FLOAT32, taps=(1,)), params_of(name)["encoder"], clips(size, frames=4)
    pair = DualSize(size, TEXT, frames=4).build(FLOAT32)

    @jax.jit
    def in_segments(params, video):
        found = encode_segments(tower, params, video)
        whole = pair.video({"vision": params}, video) if size.out else None
        return found.tokens, found.streams, found.pooled, whole

    encode = jax.jit(tower.encode)
    tokens, streams, pooled, whole = jax.device_get(in_segments(params, video))
    halves = jax.device_get([encode(params, video[:, start : start + 2]) for start in (0, 2)])
    first = size.class_tokens
    close(tokens[:, first:], np.concatenate([half.tokens[:, first:] for half in halves], axis=1))
    close(streams[:, :, 1], halves[1].taps)
    assert (pooled is None) == (size.out is None)
    if size.out:
        close(pooled, (halves[0].pooled + halves[1].pooled) / 2)
        close(whole, pooled)


def test_towers_that_do_not_go_together_are_errors():
    with pytest.raises(UserError, match="stage.vision pools nothing"):
        DualSize(TOWERS["videomae"], TEXT).check()
    with pytest.raises(UserError, match="stage.vision.out=8 and stage.text.out=6 differ"):
        DualSize(TOWERS["viclip"], dataclasses.replace(TEXT, out=6)).check()
    with pytest.raises(UserError, match="stage.frames=3 cannot be read 2 at a time"):
        DualSize(TOWERS["viclip"], TEXT, frames=3).check()
    with pytest.raises(UserError, match="merge=cls_avg1 needs a class token"):
        ClassifierSize(TOWERS["videomae"], 5, merge="cls_avg1").check("classifier")


def test_clips_of_another_shape_are_one_sentence():
    tower = TOWERS["internvideo2"].build(FLOAT32)
    pair = DualSize(TOWERS["viclip"], TEXT).build(FLOAT32)
    for shape in ((2, 28, 28, 3), (1, 3, 28, 28, 3), (1, 2, 50, 70, 3), (1, 3, 2, 28, 28)):
        clip = np.zeros(shape, np.uint8)
        said = rf"^clips are {re.escape(str(shape))} and the model reads \(B, 2, 28, 28, 3\); ivjax.features"
        with pytest.raises(UserError, match=said):
            tower.encode({}, clip)
        with pytest.raises(UserError, match=said.replace("B, 2", r"B, 2 \* n")):
            pair.video({"vision": {}}, clip)
