"""VideoMAE's pre-training against the original code of both versions: layers, targets, losses, gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.layerwise.videomae_pretrain_layers import tokens_of
from ivjax.convert.registry import FAMILIES
from ivjax.experiment.computing import Compute
from ivjax.models.videomae import DecoderSize, VideoMaeSize
from ivjax.models.videomae.encoder import QueryValueAttention
from ivjax.ops.masking import hidden_from, running_cells
from ivjax.ops.trees import paths_of
from ivjax.stages import masking as masks
from ivjax.stages.mask import Mask
from ivjax.stages.masked_pixels import MaskedPixels
from ivjax.stages.masked_pixels_loss import (
    PatchRoles,
    batch_of,
    draw_roles,
    errors_of,
    mean_error,
    pixel_targets,
)
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import Golden, assert_options_of_videomae, clips, close

FIXTURES = ("videomae_v1_pretrain", "videomae_v2_pretrain")
FAMILY = FAMILIES["videomae_pretrain"]
each_fixture = pytest.mark.parametrize("name", FIXTURES)


class Case:
    """A fixture's model, parameters, clips and masks in this project's layout."""

    def __init__(self, name: str):
        self.golden = Golden(name)
        described = self.golden.json
        assert_options_of_videomae(described["constructor"])
        self.size = FAMILY.parity.sizes(described | described["constructor"])
        self.params = import_tensors(FAMILY.rows, self.golden.group("params"))
        self.inputs = self.golden.group("inputs")
        self.video = clips(self.inputs["images"])
        self.stage = MaskedPixels(
            self.size.encoder,
            self.size.decoder,
            Mask(described.get("mask_type", "tube"), described["mask_ratio"]),
            decode=described.get("decoder_mask_ratio") or None,
            normalised=described.get("normlize_target", True),
        )
        visible, decoded = tokens_of(self.inputs)
        hidden = hidden_from(visible, self.size.encoder.patches)
        self.roles = PatchRoles(visible, decoded, jnp.take_along_axis(hidden, decoded, axis=1))

    def loss(self, params):
        rows = errors_of(self.stage, self.stage.model(Compute("float32")), params, self.video, self.roles)
        return mean_error(params, rows, {}, jax.random.key(0))[0]


@functools.cache
def case(name: str) -> Case:
    return Case(name)


# Losses and gradients of both are among the quick tests.
@pytest.mark.slow
@pytest.mark.golden
@each_fixture
def test_every_layer_and_every_target_is_the_originals(name):
    c = case(name)
    found = jax.jit(lambda params: FAMILY.parity.run(c.size, params, c.inputs, "float32"))(c.params)
    outputs = c.golden.group("outputs")
    assert outputs.keys() - found.keys() <= {"running_cell_all_masks", "loss_token_mask"}
    for layer in found.keys() & outputs.keys():
        close(found[layer], outputs[layer])


@pytest.mark.golden
@each_fixture
def test_losses_and_gradients_are_the_originals(name):
    c = case(name)
    loss, gradients = jax.jit(jax.value_and_grad(c.loss))(c.params)
    close(loss, c.golden["losses/loss"])
    named, golden = export_tensors(FAMILY.rows, jax.device_get(gradients)), c.golden.group("grads")
    assert golden
    for key, value in golden.items():
        np.testing.assert_allclose(named[key], value, rtol=1e-3, atol=1e-5, err_msg=key)


@pytest.mark.golden
@each_fixture
def test_masks_of_encoder_and_decoder_are_the_originals(name, monkeypatch):
    c = case(name)
    places = np.prod(c.size.encoder.grid[1:])
    tube = jnp.asarray(c.inputs["mask"][:, :places] == 0, jnp.float32)
    monkeypatch.setattr(masks, "exponential", lambda keys, shape: tube)
    drawn = jax.jit(draw_roles, static_argnums=0)(
        c.stage, jnp.arange(len(tube), dtype=jnp.uint32), jax.random.key(0)
    )
    np.testing.assert_array_equal(drawn.visible, c.roles.visible)
    if "decode_mask" not in c.inputs:
        np.testing.assert_array_equal(drawn.decoded, c.roles.decoded)
        assert np.all(c.roles.hidden)
        return
    np.testing.assert_array_equal(c.roles.hidden, c.golden["outputs/loss_token_mask"] != 0)
    every = running_cells(*c.size.encoder.grid, c.golden.json["decoder_mask_ratio"])
    np.testing.assert_array_equal(every, c.golden["outputs/running_cell_all_masks"] != 0)
    assert drawn.decoded.shape == c.roles.decoded.shape
    for decoded in np.asarray(drawn.decoded):
        assert any(np.array_equal(decoded, np.flatnonzero(~skipped)) for skipped in every)


@pytest.mark.golden
@each_fixture
def test_export_gives_back_the_original_tensors(name):
    golden = Golden(name).group("params")
    exported = export_tensors(FAMILY.rows, case(name).params)
    assert exported.keys() == golden.keys()
    for key, value in golden.items():
        np.testing.assert_array_equal(exported[key], value)


def test_uint8_clips_have_the_targets_of_their_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 2, 2 * 4 * 3), np.uint8)
    colours = (pixels / 255).reshape(1, 2, 8, 3)
    close(pixel_targets(jnp.asarray(pixels), False), (pixels / 255).astype(np.float32))
    deviation = np.sqrt(np.square(colours - colours.mean(2, keepdims=True)).sum(2, keepdims=True) / 7)
    wanted = (colours - colours.mean(2, keepdims=True)) / (deviation + 1e-6)
    close(pixel_targets(jnp.asarray(pixels), True), wanted.reshape(1, 2, -1).astype(np.float32))


def test_cosine_attention_compares_directions_under_a_factor_of_at_most_100():
    heads, width = 3, 12
    block = QueryValueAttention(heads, "cosine")
    x = jax.random.normal(jax.random.key(0), (2, 5, width))
    params = jax.jit(block.init)(jax.random.key(1), x)["params"]
    np.testing.assert_allclose(np.exp(params["scale"]), 10.0, rtol=1e-6)
    bias = np.linspace(-1, 1, width, dtype=np.float32)
    params |= {"scale": np.array([-1.0, 2.0, 9.0], np.float32), "q_bias": bias}
    kernel = np.asarray(params["qkv"]["kernel"], np.float64)
    q, k, v = (np.asarray(x, np.float64) @ kernel[i] for i in range(3))
    q, k, v = ((y + b).reshape(2, 5, heads, -1) for y, b in ((q, bias), (k, 0), (v, 0)))
    cosines = np.einsum("bnhd,bmhd->bhnm", q, k)
    cosines /= np.einsum("bnh,bmh->bhnm", np.linalg.norm(q, axis=-1), np.linalg.norm(k, axis=-1))
    logits = cosines * np.exp([-1.0, 2.0, 4.6052])[:, None, None]
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mixed = np.einsum("bhnm,bmhd->bnhd", weights, v).reshape(2, 5, width)
    close(jax.jit(block.apply)({"params": params}, x), mixed @ np.asarray(params["proj"]["kernel"]))


TINY = MaskedPixels(
    VideoMaeSize(32, 1, 2, 64, patch=8, image=(32, 32), frames=8),
    DecoderSize(24, 1, 2, 48),
    Mask("tube", 0.75),
    decode=0.5,
)


def test_linear_layers_start_within_the_originals_bounds():
    model = TINY.model(Compute("float32"))
    params = dict(paths_of(jax.jit(model.init)(jax.random.key(0))))
    bounds = {
        "encoder/blocks/attn/qkv/kernel": (6 / (32 + 96)) ** 0.5,
        "encoder/blocks/mlp/fc1/kernel": (6 / (32 + 64)) ** 0.5,
        "decoder/head/kernel": (6 / (24 + 384)) ** 0.5,
        "encoder_to_decoder/kernel": 32**-0.5,
        "mask_token": 0.02,
    }
    for path, bound in bounds.items():
        assert 0.8 * bound < np.abs(params[path]).max() <= bound, path
    embed = np.abs(params["encoder/patch_embed/kernel"]).max()
    assert 0.9 * 384**-0.5 < embed <= 384**-0.5


def test_flops_are_those_of_the_matrix_products():
    wide = VideoMaeSize(512, 1, 2, 1024, patch=8, image=(32, 32), frames=8)
    stage = dataclasses.replace(TINY, encoder=wide, decoder=DecoderSize(256, 1, 2, 600))
    model = stage.model(Compute("float32", scan=False))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    video = jax.ShapeDtypeStruct((1, *batch_of(stage)["video"].shape), jnp.float32)
    visible, decoded = (jax.ShapeDtypeStruct((1, n), jnp.int32) for n in (16, 32))
    counted = jax.jit(model.predict).lower(shapes, video, visible, decoded).cost_analysis()["flops"]
    forward = stage.size.flops(seen=16, decoded=32)
    np.testing.assert_allclose(sum(forward.values()), counted, rtol=0.02)
    cost = stage.build(Compute()).main.flops
    assert cost == {name: (2 if name == "patch_embed" else 3) * value for name, value in forward.items()}
