"""The projector against the original: video clips, images, a whole video as one clip; and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivjax.convert.families.dialogue.bridge_rows import projector_rows
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.dialogue import ProjectorSize
from ivjax.models.dialogue.projector import join_neighbours, merge_clips
from ivjax.models.internvit import InternVitSize
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import Golden, close, close_gradient
from tests.models.params import any_params

FLOAT32 = Compute("float32")
VISION = InternVitSize(16, 1, 2, 24, image=(56, 56))  # 4 x 4 patches


@pytest.fixture(scope="module")
def golden():
    return Golden("s3_hico_projector")


def size_of(config, clip_frames):
    assert config["projector_type"] == "tome16_mlp_hd64"
    assert config["grid"] == config["image_size"] // config["patch_size"]
    return ProjectorSize(
        config["mm_hidden_size"],
        config["llm_hidden_size"],
        config["tokens_per_frame_video"],
        config["tokens_per_image"],
        clip_frames,
        config["num_attention_heads"],
    )


def project(golden, size, params, patches, images=False):
    """Visual tokens of frames (F, L, C), which are those of one video, or images of their own."""
    side = golden.config["grid"]
    frames = patches[:, None] if images else patches[None, :, None]
    return size.build(FLOAT32).project(params, frames, (1, side, side))


@pytest.mark.golden
@pytest.mark.parametrize("mode", ["video", "images", "all_frames"])
def test_s3_hico_projector_merges_and_projects_as_the_original(golden, mode):
    clip_frames = None if mode == "all_frames" else golden.config["mm_local_num_frames"]
    size, patches = size_of(golden.config, clip_frames), golden[f"inputs/{mode}"]
    params = import_tensors(projector_rows("mlp.0", "mlp.2"), golden.group("params"))
    side = golden.config["grid"]

    @jax.jit
    def run(params, patches):
        tokens = jnp.asarray(patches).reshape(1, -1, side, side, size.width)
        merged = merge_clips(size, join_neighbours(size, tokens)).tokens if mode == "video" else None
        return project(golden, size, params, patches, mode == "images"), merged

    found, merged = run(params, patches)
    wanted = golden[f"outputs/{mode}"]
    frames = 1 if mode == "images" else len(patches)
    assert mode != "video" or frames == golden.config["num_frames"]
    assert size.tokens(frames, (1, side, side)) == found.shape[1]
    close(found.reshape(wanted.shape), wanted)
    if mode == "video":
        close(merged, golden["outputs/video_merged"])


@pytest.mark.golden
def test_s3_hico_projector_has_the_gradients_of_the_original(golden):
    size = size_of(golden.config, golden.config["mm_local_num_frames"])
    params = import_tensors(projector_rows("mlp.0", "mlp.2"), golden.group("params"))

    def loss(params, patches):
        weight = golden["inputs/loss_weight"]
        return jnp.mean(project(golden, size, params, patches).reshape(weight.shape) * weight)

    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, golden["inputs/video"])
    np.testing.assert_allclose(value, golden["losses/video"], rtol=1e-4)
    found = export_tensors(projector_rows("mlp.0", "mlp.2"), jax.device_get(gradients[0]))
    wanted = golden.group("grads")
    close_gradient(gradients[1], wanted.pop("__inputs__/video"), stated=1e-5)
    assert wanted.keys() == found.keys()
    for name, gradient in wanted.items():
        close_gradient(found[name], gradient, stated=1e-5)


@pytest.mark.parametrize("still", [False, True])
def test_without_merging_every_joined_token_goes_through_the_mlp(still):
    size = ProjectorSize(16, 8, frame_tokens=None, image_tokens=None, heads=2, shuffle=2, norm=True)
    bridge, frames = size.build(FLOAT32), 1 if still else 3
    tokens = np.random.default_rng(0).normal(size=(2, frames, 1 + 16, 16)).astype(np.float32)
    params = any_params(bridge)
    found = jax.jit(lambda p, x: bridge.project(p, x, (1, 4, 4)))(params, tokens)
    assert found.shape == (2, size.tokens(frames, (1, 4, 4)), 8) == (2, 4 * frames, 8)
    # The first token of a frame: its upper left square, row by row, without the class token.
    square = tokens[:, 0, 1:].reshape(2, 4, 4, 16)[:, :2, :2].reshape(2, 64)
    x = (square - square.mean(-1, keepdims=True)) / np.sqrt(square.var(-1, keepdims=True) + 1e-5)
    x = x * params["norm"]["scale"] + params["norm"]["bias"]
    hidden = jax.nn.gelu(x @ params["mlp"]["fc1"]["kernel"] + params["mlp"]["fc1"]["bias"], approximate=False)
    close(found[:, 0], hidden @ params["mlp"]["fc2"]["kernel"] + params["mlp"]["fc2"]["bias"])


def test_an_image_that_is_not_merged_costs_its_mlp_alone():
    size = ProjectorSize(16, 8, frame_tokens=4, image_tokens=None, heads=2)
    assert size.flops(1, (1, 4, 4)) == 2 * 16 * 8 * (16 + 8)
    # Two clips of four frames: 64 tokens in 8 channels, and further steps that add a third.
    merged = 2 * 4 / 3 * 2 * (64 / 2) ** 2 * 8
    np.testing.assert_allclose(size.flops(8, (1, 4, 4)), merged + 2 * 32 * 8 * (16 + 8))
    with pytest.raises(ValueError, match="image_tokens=None merges nothing"):
        merge_clips(size, jnp.ones((1, 1, 16, 16)))


def test_a_video_that_does_not_divide_into_clips_is_refused():
    size = ProjectorSize(16, 8, frame_tokens=4, heads=2)
    bridge = size.build(FLOAT32)
    with pytest.raises(UserError, match="6 frames does not divide into clips of 4; take 4 frames or 8"):
        bridge.project(any_params(bridge), jnp.ones((1, 6, 16, 16)), (1, 4, 4))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 8}, "bridge.width=8, but the tower's tokens have 16 channels"),
        ({"shuffle": 0}, "bridge.shuffle=0 must be 1 or more"),
        ({"clip_frames": 0}, "bridge.clip_frames=0 must be 1 or more"),
        ({"shuffle": 3}, "bridge.shuffle=3 does not divide the tower's 4 x 4 patches"),
        ({"heads": 3}, "bridge.width=16 does not divide into 3 heads"),
        ({"frame_tokens": 17}, "bridge.frame_tokens=17, and a frame has 16 tokens; choose 1 to 16"),
        ({"image_tokens": 0}, "bridge.image_tokens=0, and a frame has 16 tokens"),
    ],
)
def test_a_projector_that_does_not_fit_its_tower_is_refused(options, words):
    options = {"width": 16, "out": 8, "frame_tokens": 4, "image_tokens": 4, "heads": 2} | options
    with pytest.raises(UserError, match=words):
        ProjectorSize(**options).check("bridge", VISION)
