"""Encoders that language models read: UMT's resized table, and InternVideo2 with a table of images."""

import dataclasses

import jax
import numpy as np

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo2 import EncoderSize, UnpooledSize
from ivjax.models.umt import UmtSize
from ivjax.models.videomae import VideoMaeSize
from ivjax.ops.positions import sinusoid_interleaved
from tests.goldens import close
from tests.models.params import any_params

FLOAT32 = Compute("float32")
SHAPE = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 32, "image": (28, 28), "patch": 14}
UMT = UmtSize(**SHAPE, frames=2, table=(2, 2, 2))


def clips(frames):
    return np.random.default_rng(0).normal(size=(2, frames, 28, 28, 3)).astype(np.float32)


def places(size, frames):
    """What a UMT encoder adds to the patches: the tokens without blocks of a clip without content."""
    params = any_params(size.build(FLOAT32))
    params = jax.tree.map(np.zeros_like, params)
    encode = jax.jit(size.build(FLOAT32).encode)
    return encode(params, np.zeros((1, frames, *size.image, 3), np.float32)).tokens[0]


def test_umt_is_videomae_on_the_grid_of_its_table():
    plain = VideoMaeSize(**SHAPE, frames=2, tubelet=1, final_norm=False)
    params, video = any_params(plain.build(FLOAT32)), clips(2)
    ours, theirs = (jax.jit(size.build(FLOAT32).encode)(params, video).tokens for size in (UMT, plain))
    close(ours, np.asarray(theirs))
    assert UMT.reads_images and not plain.reads_images


def test_umt_resizes_its_table_in_time_and_gives_images_the_first_places():
    table = sinusoid_interleaved(8, 16).reshape(2, 4, 16)
    close(places(UMT, 2), table.reshape(8, 16))
    # Linear between the centres of the two times, and constant beyond them.
    longer = dataclasses.replace(UMT, frames=4)
    shares = np.array([0, 0.25, 0.75, 1])[:, None, None]
    close(places(longer, 4), (table[0] * (1 - shares) + table[1] * shares).reshape(16, 16))
    close(places(UMT, 1), table[0])
    # In space it is bicubic, which keeps the mean of so small a grid.
    wide = dataclasses.replace(UMT, image=(56, 56))
    close(places(wide, 2).reshape(2, 16, 16).mean(1), table.mean(1), atol=1e-4)


def test_tokens_of_clips_are_those_of_the_encoder_that_pools():
    pooling = EncoderSize(**SHAPE, frames=2, pool_heads=2, pool_width=8, layer_scale=0.1, gelu="erf")
    params = any_params(pooling.build(FLOAT32))
    size = UnpooledSize(**SHAPE, frames=2, layer_scale=0.1)
    tower, video = size.build(FLOAT32), clips(2)
    own = {name: branch for name, branch in params.items() if name != "clip_projector"}
    own |= {"img_pos_embed": {"table": np.full((1, 5, 16), 0.5, np.float32)}}
    # An image: the same with its own table in place of the first frame's.
    single, imaged = dataclasses.replace(pooling, frames=1), params | {"pos_embed": own["img_pos_embed"]}

    @jax.jit
    def encodings(own, params, imaged):
        clip = tower.encode(own, video), pooling.build(FLOAT32).encode(params, video)
        image = tower.encode(own, video[:, :1]), single.build(FLOAT32).encode(imaged, video[:, :1])
        return [encoded.tokens for encoded in (*clip, *image)]

    clip, pooled_clip, image, pooled_image = encodings(own, params, imaged)
    close(clip, np.asarray(pooled_clip))
    close(image, np.asarray(pooled_image))
    shapes = jax.eval_shape(tower.init, jax.random.key(0))
    assert shapes["img_pos_embed"]["table"].shape == (1, 5, 16) and "clip_projector" not in shapes


def test_without_a_table_of_images_a_frame_is_no_clip():
    size = UnpooledSize(**SHAPE, frames=2, image_table=False)
    assert not size.reads_images
    assert "img_pos_embed" not in jax.eval_shape(size.build(FLOAT32).init, jax.random.key(0))
