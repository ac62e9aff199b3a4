"""InternViT against the original, of both styles, and what it adds to the protocol of towers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.dialogue.internvit import INTERNVIT, internvit_rows
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.internvit import InternVitSize
from ivjax.ops.pixel_shuffle import pixel_shuffle
from ivjax.ops.resize import resize_grid
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import Golden, close, close_gradient
from tests.models.params import any_params

FLOAT32 = Compute("float32")
STYLES = ["s3_intern_vit_300m_style", "s3_intern_vit_6b_style"]
SMALL = InternVitSize(16, 2, 2, 24, image=(28, 42), frames=3)


@pytest.mark.golden
@pytest.mark.parametrize("name", STYLES)
def test_states_loss_and_gradients_are_the_originals(name):
    golden = Golden(name)
    size = INTERNVIT.parity.sizes(golden.json | golden.config)
    video = jnp.asarray(golden["inputs/pixel_values"].transpose(0, 2, 3, 1))[:, None]
    assert len(video) == golden.config["batch"]
    tower = size.build(FLOAT32, tuple(range(size.depth)))

    def loss(params):
        encoded = tower.encode(params, video)
        return jnp.mean(encoded.tokens * golden["inputs/loss_weight"]), encoded

    params = import_tensors(internvit_rows(), golden.group("params"))
    (value, encoded), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    for block, tap in enumerate(encoded.taps):
        close(tap, golden[f"outputs/hidden_states/{block + 1}"])
    close(encoded.tokens, golden["outputs/last_hidden_state"])
    close(encoded.pooled, golden["outputs/pooler_output"])
    np.testing.assert_allclose(value, golden["losses/loss"], rtol=1e-4)
    found = export_tensors(internvit_rows(), jax.device_get(gradients))
    wanted = golden.group("grads")
    assert wanted
    for key, gradient in wanted.items():
        close_gradient(found[key], gradient, stated=1e-5)
    # The same names go out that came in.
    assert found.keys() == golden.group("params").keys()


@pytest.mark.golden
@pytest.mark.parametrize("name", [STYLES[0], pytest.param(STYLES[1], marks=pytest.mark.slow)])
def test_the_position_table_is_resized_as_the_original_does_it(name):
    golden = Golden(name)
    size = INTERNVIT.parity.sizes(golden.json | golden.config)
    table = golden["params/embeddings.position_embedding"]
    resized = resize_grid(table[0, 1:], (1, *size.table_grid), size.grid)
    close(resized[None], golden["outputs/interpolated_patch_pos_embed"])
    # With branches that LayerScale multiplies by zero, the embeddings pass all blocks unchanged.
    params = import_tensors(internvit_rows(), golden.group("params"))
    zero = {name: {"gamma": jnp.zeros_like(params["blocks"][name]["gamma"])} for name in ("ls1", "ls2")}
    video = jnp.asarray(golden["inputs/pixel_values"].transpose(0, 2, 3, 1))[:, None]
    encode = jax.jit(size.build(FLOAT32).encode)
    encoded = encode(params | {"blocks": params["blocks"] | zero}, video)
    close(encoded.tokens, golden["outputs/embeddings"])


@pytest.mark.golden
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_s3_pixel_shuffle_moves_every_number_where_the_original_does(version):
    golden = Golden("s3_pixel_shuffle")
    side = round(1 / golden.config["scale_factor"])
    x = golden["inputs/random"]
    assert list(x.shape) == golden.config["shape_in"]
    found = pixel_shuffle(x, side, version)
    np.testing.assert_array_equal(found, golden[f"outputs/{version}/random"])
    index = pixel_shuffle(np.arange(x.size).reshape(x.shape), side, version)
    np.testing.assert_array_equal(index, golden[f"outputs/{version}/index"])


def test_frames_of_a_clip_are_encoded_one_by_one():
    tower, single = (
        SMALL.build(FLOAT32, taps=(0,)),
        InternVitSize(16, 2, 2, 24, image=(28, 42)).build(FLOAT32, taps=(0,)),
    )
    params = any_params(tower)
    rng = np.random.default_rng(0)
    video = rng.normal(size=(2, 3, 28, 42, 3)).astype(np.float32)
    seen = np.array([[0, 2, 6, 7, 13, 16], [4, 5, 8, 9, 12, 17]], np.int32)  # two of each frame's six
    wanted = np.array([[1, 17], [5, 6]], np.int32)
    keep = rng.uniform(size=(2, 2, 2)).astype(np.float32)

    @jax.jit
    def encodings(params):
        whole = tower.encode(params, video, None, keep)
        some = tower.encode(params, video, seen, keep), tower.encode(params, video, None, keep, wanted)
        frames = video.reshape(6, 1, 28, 42, 3), jnp.repeat(keep, 3, axis=2)
        own = seen.reshape(6, 2) - 6 * jnp.tile(jnp.arange(3), 2)[:, None]
        alone = single.encode(params, frames[0], None, frames[1])
        return whole, *some, alone, single.encode(params, frames[0], own, frames[1])

    whole, masked, tapped, alone, alone_masked = jax.device_get(encodings(params))
    for clip, frame in ((whole, alone), (masked, alone_masked)):
        for found, own in ((clip.tokens, frame.tokens), (clip.taps[0], frame.taps[0])):
            own = own.reshape(2, 3, -1, 16)
            close(found, np.concatenate([own[:, :, 0], own[:, :, 1:].reshape(2, -1, 16)], axis=1))
    close(whole.pooled, alone.tokens[:, 0].reshape(2, 3, 16).mean(1))
    places = np.concatenate([np.tile(np.arange(3), (2, 1)), wanted + 3], axis=1)
    close(tapped.taps[0], np.take_along_axis(whole.taps[0], places[:, :, None], axis=1))


def test_an_image_that_does_not_divide_into_patches_is_refused():
    with pytest.raises(UserError, match=r"\(28, 40\) do not divide into tubelets of 1 and patches of 14"):
        InternVitSize(16, 2, 2, 24, image=(28, 40)).check("vision")
    with pytest.raises(UserError, match="width=16 does not divide into 3 heads"):
        InternVitSize(16, 2, 3, 24).check("vision")


def test_the_300m_has_as_many_parameters_as_the_original():
    shapes = INTERNVIT.shapes(InternVitSize.PRESETS["300M"])
    assert sum(np.prod(shape, dtype=int) for shape in shapes.values()) == 304_012_288
    # Of one frame of 448 pixels a side; all that frames share are the kernels.
    size = InternVitSize.PRESETS["300M"]
    flops = sum(size.flops().values())
    assert 0.71e12 < flops < 0.74e12
    assert sum(dataclasses.replace(size, frames=4).flops().values()) == 4 * flops
