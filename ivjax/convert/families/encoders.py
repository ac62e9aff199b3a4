"""Encoders alone, as teachers are: InternVideo2's, which InternVL-C's image tower shares and stage 2's files
hold, and VideoMAE's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ivjax.convert.engine.family import BUFFERS, Family, FixtureRun
from ivjax.convert.engine.fits import over_time
from ivjax.convert.engine.rows import Row, Transform
from ivjax.convert.families.internvideo2 import encoder_size, image_size, trunk
from ivjax.convert.families.layers import PATCH, QKV, linear, norm
from ivjax.convert.families.layerwise import encoders_layers
from ivjax.models.internvideo2.sizes import STAGE2_ENCODERS, EncoderSize
from ivjax.models.videomae import VideoMaeSize

_PER_HEAD = Transform(lambda x: x.reshape(-1), lambda x: x.reshape(-1, 1, 1))  # (H, 1, 1) -> (H,)


def videomae_rows(source: str = "", target: str = "") -> list[Row]:
    """Rows of the VideoMAE encoder, with what goes before the names and the paths.

    A file has a position table only if its grid is not the released one.
    """
    return [
        Row(f"{source}pos_embed", f"{target}pos_embed"),
        Row(f"{source}patch_embed.proj.weight", f"{target}patch_embed/kernel", PATCH, fit=over_time),
        Row(f"{source}patch_embed.proj.bias", f"{target}patch_embed/bias"),
        *videomae_blocks(source, target),
        *norm(f"{source}norm", f"{target}norm"),
    ]


def videomae_blocks(source: str, target: str) -> list[Row]:
    """Rows of VideoMAE's blocks, which its encoder and its decoder have."""
    block, to = f"{source}blocks.{{i}}", f"{target}blocks"
    rows = [
        Row(f"{block}.attn.qkv.weight", f"{to}/attn/qkv/kernel", QKV),
        Row(f"{block}.attn.q_bias", f"{to}/attn/q_bias"),
        Row(f"{block}.attn.v_bias", f"{to}/attn/v_bias"),
        Row(f"{block}.attn.scale", f"{to}/attn/scale", _PER_HEAD),
        Row(f"{block}.gamma_1", f"{to}/ls1/gamma"),
        Row(f"{block}.gamma_2", f"{to}/ls2/gamma"),
    ]
    for name in ("norm1", "norm2"):
        rows += norm(f"{block}.{name}", f"{to}/{name}")
    for name in ("attn.proj", "mlp.fc1", "mlp.fc2"):
        rows += linear(f"{block}.{name}", f"{to}/{name.replace('.', '/')}")
    return rows


def _encoder_size(config: Mapping[str, Any]) -> EncoderSize:
    """Sizes of a fixture; one without `num_frames` reads frame by frame."""
    return encoder_size({"num_frames": 1} | dict(config))


def _videomae_size(config: Mapping[str, Any]) -> VideoMaeSize:
    """Sizes of a fixture. Its table is a parameter unless it has as many places as the original's own."""
    size = VideoMaeSize(
        width=config["embed_dim"],
        depth=config["depth"],
        heads=config["num_heads"],
        mlp_width=int(config["embed_dim"] * config["mlp_ratio"]),
        patch=config["patch_size"],
        image=image_size(config),
        frames=config.get("all_frames", 16),
        tubelet=config.get("tubelet_size", 2),
        layer_scale=config.get("init_values") or None,
    )
    # 8 x 16 x 16 and 8 x 14 x 14 places. For any other number the original resizes its table, and stores it.
    released = 2048 if size.patch == 14 else 1568
    return replace(size, positions="fixed" if size.patches == released else "learned")


ENCODER = Family(
    name="internvideo2_encoder",
    rows=tuple(trunk("")),
    presets=EncoderSize.PRESETS,
    container="module",
    frames=(8, 4, 16, 1),
    ignored={
        **BUFFERS,
        **dict.fromkeys(("transformer.*", "text_projection"), "it belongs to the text tower"),
        "logit_scale": "only comparisons with captions need it",
        **dict.fromkeys(
            ("target_pos_embed", "mask_token", "grad_norm_*", "norm3.*"), "only training used it"
        ),
    },
    parity=FixtureRun(_encoder_size, encoders_layers.run_encoder),
    about="an InternVideo2 encoder with its pooling; InternVL-C's image tower, which reads frame by frame",
)

STAGE2 = replace(
    ENCODER,
    name="internvideo2_stage2_vision",
    rows=tuple(replace(row, source=f"vision_encoder.{row.source}") for row in ENCODER.rows),
    presets=STAGE2_ENCODERS,
    frames=(4, 8, 16),
    about="the vision encoder in stage 2's files, of 4 frames",
    ignored={
        **BUFFERS,
        **dict.fromkeys(
            [f"vision_encoder.*{part}*" for part in ("clip_decoder", "clip_pos_embed", "img_pos_embed")],
            "only stage 2's own training needs it",
        ),
        "text_encoder.*": "it belongs to the text encoder",
        **dict.fromkeys(("audio_encoder.*", "audio_proj.*"), "it belongs to the audio encoder"),
        **dict.fromkeys(("av_concat_*", "av_fusion.*"), "it joins sound and pictures"),
        **dict.fromkeys(
            ("vision_proj.*", "text_proj.*", "itm_head.*", "atm_head.*", "avtm_head.*", "temp"),
            "only comparisons with captions need it",
        ),
    },
)

VIDEOMAE = Family(
    name="videomae_encoder",
    rows=tuple(videomae_rows()),
    presets=VideoMaeSize.PRESETS,
    container="model",
    prefix="encoder.",
    ignored={
        **BUFFERS,
        "decoder.*": "a teacher does not decode",
        "encoder_to_decoder.*": "a teacher does not decode",
        "mask_token": "a teacher does not decode",
    },
    parity=FixtureRun(_videomae_size, encoders_layers.run_videomae),
    about="a VideoMAE encoder, with or without `encoder.` before its names",
)

FAMILIES = (ENCODER, STAGE2, VIDEOMAE)
