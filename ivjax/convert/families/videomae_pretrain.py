"""The VideoMAE pre-training checkpoints of both versions: encoder and pixel decoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from ivjax.convert.engine.family import Family, Parity
from ivjax.convert.engine.rows import Row
from ivjax.convert.families import videomae_pretrain_parity
from ivjax.convert.families.encoders import videomae_blocks, videomae_rows
from ivjax.convert.families.internvideo2 import image_size
from ivjax.convert.families.layers import linear, norm
from ivjax.models.videomae.autoencoder import DecoderSize, MaskedAutoencoder, init_autoencoder
from ivjax.models.videomae.encoder import VideoMaeSize
from ivjax.stages.masked_pixels import MaskedPixels


@dataclass(frozen=True)
class AutoencoderSize:
    """The sizes of the encoder and of the decoder."""

    encoder: VideoMaeSize
    decoder: DecoderSize


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


def _model(size: AutoencoderSize, dtype: Any = "float32") -> MaskedAutoencoder:
    return MaskedAutoencoder(size.encoder, size.decoder, dtype=dtype)


def _of_stage(stage: Any) -> AutoencoderSize | None:
    return AutoencoderSize(stage.encoder, stage.decoder) if isinstance(stage, MaskedPixels) else None


def _size_of(config: Mapping[str, Any]) -> AutoencoderSize:
    """Sizes of a fixture. Version 1's constructor is not told how many frames it reads: the fixture is."""
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
    presets={
        name: AutoencoderSize(VideoMaeSize.PRESETS[name], decoder)
        for name, decoder in DecoderSize.PRESETS.items()
    },
    model=_model,
    init=lambda size: init_autoencoder(_model(size), jax.random.key(0)),
    grid=lambda size: size.encoder.grid,
    container="model",
    of_stage=_of_stage,
    parity=Parity(_size_of, videomae_pretrain_parity.run),
)

FAMILIES = (VIDEOMAE_PRETRAIN,)
