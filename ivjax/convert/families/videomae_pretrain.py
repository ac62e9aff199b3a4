"""The VideoMAE pre-training checkpoints of both versions: encoder and pixel decoder."""

from collections.abc import Mapping
from typing import Any

from ivjax.convert.engine.family import Family, FixtureRun
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.encoders import videomae_blocks, videomae_rows
from ivjax.convert.families.internvideo2 import image_size
from ivjax.convert.families.layers import linear, norm
from ivjax.convert.families.layerwise import videomae_pretrain_layers
from ivjax.models.videomae import AutoencoderSize, DecoderSize, VideoMaeSize


def pretrain_rows() -> list[Row]:
    """Rows of the encoder, the bridge and the decoder. A decoder's position table is never in a file."""
    return [
        *videomae_rows("encoder.", "encoder/"),
        *linear("encoder_to_decoder", "encoder_to_decoder", bias=False),
        Row("mask_token", "mask_token"),
        *videomae_blocks("decoder.", "decoder/"),
        *norm("decoder.norm", "decoder/norm"),
        *linear("decoder.head", "decoder/head"),
    ]


def _size_of(config: Mapping[str, Any]) -> AutoencoderSize:
    """Sizes of a fixture. Version 1's constructor is not told how many frames it reads: the fixture is."""
    # The original's constructor has one ratio for encoder and decoder.
    ratio, width = config["mlp_ratio"], config["decoder_embed_dim"]
    encoder = VideoMaeSize(
        width=config["encoder_embed_dim"],
        depth=config["encoder_depth"],
        heads=config["encoder_num_heads"],
        mlp_width=int(config["encoder_embed_dim"] * ratio),
        patch=config["patch_size"],
        image=image_size(config),
        frames=config.get("all_frames", config.get("num_frames", 16)),
        tubelet=config.get("tubelet_size", 2),
        layer_scale=config.get("init_values") or None,
        attention="cosine" if config.get("cos_attn") else "standard",
    )
    heads = config["decoder_num_heads"]
    return AutoencoderSize(encoder, DecoderSize(width, config["decoder_depth"], heads, int(width * ratio)))


VIDEOMAE_PRETRAIN = Family(
    name="videomae_pretrain",
    rows=tuple(pretrain_rows()),
    presets=AutoencoderSize.PRESETS,
    container="model",
    parity=FixtureRun(_size_of, videomae_pretrain_layers.run),
    about="VideoMAE's pre-training files, both versions: encoder and decoder",
)

FAMILIES = (VIDEOMAE_PRETRAIN,)
