"""Any tower under any head: the protocol that dual encoders, classifiers, probes and teachers rely on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.classifier_size import ClassifierSize
from ivjax.models.dual_size import DualSize
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.segments import encode_segments
from ivjax.models.viclip import TextSize, VisionSize
from ivjax.models.videomae import VideoMaeSize
from ivjax.ops.trees import paths_of
from tests.goldens import close

FLOAT32 = Compute("float32")
SHAPE = {"width": 16, "depth": 2, "heads": 2, "image": (28, 28), "patch": 14, "frames": 2}
TOWERS = {
    "internvideo2": EncoderSize(**SHAPE, mlp_width=32, pool_heads=2, pool_width=8, layer_scale=0.1),
    "viclip": VisionSize(**SHAPE, out=8),
    "viclip_tubelets": VisionSize(**SHAPE | {"frames": 4}, out=8, tubelet=2),
    "videomae": VideoMaeSize(**SHAPE, mlp_width=32, tubelet=1),
}
TEXT = TextSize(width=8, depth=1, heads=2, out=8, context=5, vocabulary=11)
each_tower = pytest.mark.parametrize("name", TOWERS)


def clips(size, batch=2, frames=None):
    """Random clips of a size."""
    return jax.random.normal(jax.random.key(1), (batch, frames or size.frames, *size.image, 3))


def drawn(model):
    """Fresh parameters."""
    return jax.jit(model.init)(jax.random.key(0))


@each_tower
def test_a_tower_returns_what_its_size_promises(name):
    size = TOWERS[name]
    tower = size.build(FLOAT32, taps=(0, 1))
    params, video = drawn(tower), clips(size)
    wanted = jnp.array([[0, 3, 5], [1, 2, 7]])
    whole, some, seen = jax.jit(
        lambda p, v: (tower.encode(p, v), tower.encode(p, v, wanted=wanted), tower.encode(p, v, wanted))
    )(params, video)
    first, every = size.class_tokens, size.class_tokens + size.patches
    assert whole.tokens.shape == (2, every, 16) and whole.taps.shape == (2, 2, every, 16)
    assert seen.tokens.shape == (2, first + 3, 16)
    assert (whole.pooled is None) == (size.out is None) == (not tower.pools)
    assert whole.pooled is None or whole.pooled.shape == (2, size.out)
    assert (whole.attention is not None) == size.pool_attends
    patches = np.asarray(whole.taps)[:, :, first:]
    close(some.taps[:, :, first:], np.take_along_axis(patches, np.asarray(wanted)[None, :, :, None], axis=2))
    assert {path for path, _ in paths_of(params)} and size.flops()["blocks"] > size.flops(3)["blocks"]


@each_tower
def test_a_classifier_sits_on_any_tower(name):
    size = ClassifierSize(TOWERS[name], 5)
    model = size.build(FLOAT32)
    params, video = drawn(model), clips(size.encoder)
    # The fresh head is small, so that nothing of the tower would show.
    large = params | {"head": jax.tree.map(lambda leaf: leaf * 1e3, params["head"])}
    encoded = jax.jit(model.tower.encode)(params["encoder"], video)
    logits = jax.jit(model.logits)(large, video)
    pooled = encoded.pooled if size.encoder.out else encoded.tokens.mean(1)
    normed = (pooled - pooled.mean(-1, keepdims=True)) / jnp.sqrt(pooled.var(-1, keepdims=True) + 1e-5)
    close(logits, normed @ large["head"]["kernel"])


@pytest.mark.parametrize("name", ["internvideo2", "viclip"])
def test_blocks_that_are_frozen_change_no_feature_and_get_no_gradient(name):
    tower = TOWERS[name].build(FLOAT32)
    params, video = drawn(tower), clips(TOWERS[name])

    def loss(params, frozen):
        encoded = tower.encode_above(params, video, None, 1) if frozen else tower.encode(params, video)
        return jnp.sum(jnp.sin(encoded.pooled))

    of_loss = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    (value, found), (whole, wanted) = of_loss(params, True), of_loss(params, False)
    close(value, whole)
    kernel, full = (gradients["blocks"]["mlp"]["fc1"]["kernel"] for gradients in (found, wanted))
    assert not np.any(kernel[0]) and np.any(full[0])
    np.testing.assert_allclose(kernel[1], full[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["viclip", "videomae"])
def test_a_long_clip_is_read_in_segments(name):
    tower = TOWERS[name].build(FLOAT32, taps=(1,))
    params, video = drawn(tower), clips(TOWERS[name], frames=4)
    found = encode_segments(tower, params, video)
    halves = [tower.encode(params, video[:, start : start + 2]) for start in (0, 2)]
    first = TOWERS[name].class_tokens
    close(found.tokens[:, first:], jnp.concatenate([half.tokens[:, first:] for half in halves], axis=1))
    close(found.streams[:, :, 1], halves[1].taps)
    if found.pooled is not None:
        close(found.pooled, (halves[0].pooled + halves[1].pooled) / 2)
        pair = DualSize(TOWERS[name], TEXT, frames=4).build(FLOAT32)
        both = drawn(pair) | {"vision": params}
        close(pair.video(both, video), found.pooled)


def test_towers_that_do_not_go_together_are_errors():
    with pytest.raises(UserError, match="stage.vision pools nothing"):
        DualSize(TOWERS["videomae"], TEXT).check()
    with pytest.raises(UserError, match="stage.vision.out=8 and stage.text.out=6 differ"):
        DualSize(TOWERS["viclip"], dataclasses.replace(TEXT, out=6)).check()
    with pytest.raises(UserError, match="stage.frames=3 cannot be read 2 at a time"):
        DualSize(TOWERS["viclip"], TEXT, frames=3).check()
    with pytest.raises(UserError, match="merge=cls_avg1 needs a class token"):
        ClassifierSize(TOWERS["videomae"], 5, merge="cls_avg1").check("classifier")


@pytest.mark.parametrize("count", [1, 9])
def test_recomputing_the_first_blocks_alone_changes_no_gradient(count):
    size = TOWERS["internvideo2"]
    plain = size.build(FLOAT32, taps=(0, 1))
    again = size.build(dataclasses.replace(FLOAT32, remat="full", remat_blocks=count), taps=(0, 1))
    params, video = drawn(plain), clips(size)
    keep = jnp.ones((2, 2, 2)).at[1, 0, 0].set(0)

    def gradients(tower):
        def loss(p):
            encoded = tower.encode(p, video, keep=keep)
            return jnp.sum(jnp.sin(encoded.taps)) + jnp.sum(encoded.pooled)

        return jax.jit(jax.grad(loss))(params)

    wanted = dict(paths_of(gradients(plain)))
    for path, found in paths_of(gradients(again)):
        np.testing.assert_allclose(found, wanted[path], rtol=1e-5, atol=1e-6, err_msg=path)
    text = str(jax.make_jaxpr(lambda p: again.encode(p, video).pooled)(params))
    assert text.count("checkpoint") + text.count("remat") >= 1
