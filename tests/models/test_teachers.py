"""The teachers against the original models: features, pooled features, attention, taps, masks."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.encoders import ENCODER, VIDEOMAE
from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.sizes import tapped_layers
from ivjax.models.teaching import ClipFeatures, clip_features, features_at, normalised
from ivjax.models.videomae import VideoMaeSize
from tests.convert.tables import import_tensors
from tests.goldens import Golden, assert_options_of_videomae, clips, close, returned_layers, seen, some_of

ENCODERS = ("stage1_teacher_internvl", "stage1_teacher_internvideo2")


class Case:
    """A fixture's clip and parameters in this project's layout, and the layers that it returns."""

    def __init__(self, name: str, family):
        self.golden = Golden(name)
        config = self.golden.config
        self.size = family.parity.sizes(config)
        self.params = import_tensors(family.rows, self.golden.group("params"))
        self.video = clips(self.golden["inputs/video"])
        teacher = "mae" if family is VIDEOMAE else "clip"
        if family is VIDEOMAE:
            assert_options_of_videomae(config)
        self.norm = config.get(f"{teacher}_norm_type", "l2")
        self.taps = returned_layers(config, teacher, self.size.depth)
        assert list(self.taps) == config.get("return_index_ascending", list(self.taps))


@functools.cache
def case(name: str) -> Case:
    return Case(name, VIDEOMAE if name.endswith("videomae") else ENCODER)


def each_group(first, second):
    """Two groups of outputs with their arithmetic: the first of blocks that are scanned, the other unrolled.

    The other way round they are among the slow tests: the loop knows nothing of the arithmetic in it.
    """
    quick = (*first, True), (*second, False)
    return [*quick, *(pytest.param(*how, not scan, marks=pytest.mark.slow) for *how, scan in quick)]


class Encoded(NamedTuple):
    """Features of an encoder teacher: as they are, and as losses compare them."""

    features: ClipFeatures
    at_every: np.ndarray
    at_some: np.ndarray
    pooled: np.ndarray


@functools.cache
def encoded(name: str, gelu: str | None, scan: bool) -> Encoded:
    """The features with a GELU, or with that of the fixture's `outputs`."""
    c = case(name)
    tower = dataclasses.replace(c.size, gelu=gelu or c.size.gelu).build(Compute("float32", scan=scan), c.taps)

    @jax.jit
    def run(params):
        features = clip_features(tower, params, c.video)
        segments, per_segment = features.streams.shape[2:4]
        batch, tokens = len(c.video), 1 + segments * (per_segment - 1)
        at = (np.tile(np.arange(tokens), (batch, 1)), some_of(tokens, batch))
        at = (features_at(features, jnp.asarray(index), c.norm) for index in at)
        return Encoded(features, *at, normalised(features.pooled, c.norm))

    return jax.device_get(run(c.params))


@pytest.mark.golden
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(
    "group, gelu, scan", each_group(("outputs", None), ("outputs_fused_tanh_gelu", "tanh"))
)
def test_features_and_attention_of_an_encoder_teacher_are_the_originals(name, group, gelu, scan):
    golden = case(name).golden
    if not golden.group(group):
        pytest.skip(f"{name} has no {group}")
    found = encoded(name, gelu, scan)
    z, attention = golden[f"{group}/z"], golden[f"{group}/attn"]
    close(found.at_every, z)
    some = some_of(z.shape[2], z.shape[1])
    close(found.at_some, np.take_along_axis(z, some[None, :, :, None], axis=2))
    close(found.pooled, golden[f"{group}/x_final"])
    close(found.features.attention.reshape(attention.shape), attention)


@pytest.mark.golden
@pytest.mark.parametrize("name", [ENCODERS[0], pytest.param(ENCODERS[1], marks=pytest.mark.slow)])
def test_every_layer_of_an_encoder_teacher_is_the_originals(name):
    c = case(name)
    given = {"video": c.golden["inputs/video"]}
    found = jax.jit(lambda params: ENCODER.parity.run(c.size, params, given, "float32"))(c.params)
    if c.norm == "none":
        del found["x_final"]  # which `run` gives at unit length
    assert found.keys() - c.golden.group("outputs").keys() == set()
    for layer, value in found.items():
        close(value, c.golden[f"outputs/{layer}"])


@pytest.mark.golden
@pytest.mark.parametrize("name", ["stage1_teacher_internvl"])
def test_features_that_are_not_normalised_are_the_originals(name):
    c, found = case(name), encoded(name, None, True).features
    if "outputs/none_z_stacked" not in c.golden:
        pytest.skip(f"{name} has no features that are not normalised")
    raw = c.golden["outputs/none_z_stacked"]
    layers, batch, frames = len(c.taps), len(c.video), c.video.shape[1]
    raw = raw.reshape(layers, batch, frames, *raw.shape[2:])
    close(found.cls[:, :, 0], raw[:, :, :, 0].mean(2))
    close(found.streams, raw)
    close(found.pooled, c.golden["outputs/none_x_final"].reshape(batch, frames, -1).mean(1))


@pytest.mark.golden
@pytest.mark.parametrize("name", ["stage1_teacher_videomae"])
@pytest.mark.parametrize(
    "group, attention, scan",
    each_group(
        ("outputs", "standard"),
        ("outputs_released_head_axis_attention", "released_head_axis"),
    ),
)
def test_features_of_a_videomae_teacher_are_the_originals(name, group, attention, scan):
    c = case(name)
    if not c.golden.group(group):
        pytest.skip(f"{name} has no {group}")
    tower = dataclasses.replace(c.size, attention=attention).build(Compute("float32", scan=scan), c.taps)
    standard, masked = attention == "standard", attention == "standard" and "inputs/mask" in c.golden
    wanted = some_of(c.size.patches, len(c.video))

    @jax.jit
    def run(params, video):
        taps = tower.encode(params, video).taps
        some = tower.encode(params, video, wanted=jnp.asarray(wanted)).taps if standard else None
        visible = seen(c.golden["inputs/mask"]) if masked else None
        at_visible = normalised(tower.encode(params, video, visible).taps, c.norm) if masked else None
        return taps, normalised(taps, c.norm), some, at_visible

    taps, normed, some, at_visible = jax.device_get(run(c.params, c.video))
    close(normed, c.golden[f"{group}/z"])
    if standard:
        close(some, np.take_along_axis(taps, wanted[None, :, :, None], axis=2))
        if "outputs/none_z" in c.golden:
            close(taps, c.golden["outputs/none_z"])
    if masked:
        close(at_visible, c.golden["outputs/z_masked"])


@pytest.mark.golden
@pytest.mark.parametrize("name", ["stage1_teacher_videomae"])
def test_every_layer_of_videomae_is_the_originals(name):
    c = case(name)
    given = {"video": c.golden["inputs/video"]}
    found = jax.jit(lambda params: VIDEOMAE.parity.run(c.size, params, given, "float32"))(c.params)
    for layer, value in found.items():
        golden = c.golden[f"outputs/{layer}"]
        close(np.asarray(value).reshape(golden.shape), golden)


def shapes_of(size):
    return jax.eval_shape(size.build(Compute()).init, jax.random.key(0))


def test_released_teachers_have_their_number_of_parameters():
    internvl = ENCODER.presets["internvl_c"]
    shapes = shapes_of(internvl)
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 5_936_000_768
    giant = VideoMaeSize.PRESETS["g14"]
    shapes = shapes_of(giant)
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 1_011_610_752
    shapes = shapes_of(EncoderSize.PRESETS["1B"])
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 1_020_708_608


def test_flops_of_the_released_teachers_are_those_that_were_counted():
    np.testing.assert_allclose(8 * sum(ENCODER.presets["internvl_c"].flops().values()), 24.6e12, rtol=0.02)
    np.testing.assert_allclose(sum(VideoMaeSize.PRESETS["g14"].flops().values()), 5.1e12, rtol=0.02)


def test_returned_layers_ascend_and_wrong_choices_raise():
    assert tapped_layers(40, 6, 3.34) == (23, 26, 29, 33, 36, 39)
    assert tapped_layers(4, 2, chosen=(0, 2)) == (0, 2)
    for chosen in ((2, 0), (1, 1), (0,), (1, 4), (-1, 2)):
        with pytest.raises(ValueError, match=r"2 layers chosen as .* do not fit 4 layers"):
            tapped_layers(4, 2, chosen=chosen)
