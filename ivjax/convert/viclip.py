"""Rows of the ViCLIP checkpoints."""

from ivjax.convert.engine import Row, Transform
from ivjax.convert.internvideo2 import PATCH, QKV, linear, norm

_THREE = Transform(lambda b: b.reshape(3, -1), lambda b: b.reshape(-1))


def blocks(source: str, target: str) -> list[Row]:
    """Rows of CLIP's residual blocks."""
    rows = [
        Row(f"{source}.attn.in_proj_weight", f"{target}/attn/qkv/kernel", QKV),
        Row(f"{source}.attn.in_proj_bias", f"{target}/attn/qkv/bias", _THREE),
    ]
    rows += linear(f"{source}.attn.out_proj", f"{target}/attn/proj")
    rows += linear(f"{source}.mlp.c_fc", f"{target}/mlp/fc1")
    rows += linear(f"{source}.mlp.c_proj", f"{target}/mlp/fc2")
    return rows + norm(f"{source}.ln_1", f"{target}/norm1") + norm(f"{source}.ln_2", f"{target}/norm2")


def viclip_rows() -> list[Row]:
    """Rows of both towers and the temperature."""
    vision, text = "vision_encoder", "text_encoder"
    return [
        Row("temp", "temperature"),
        Row(f"{vision}.class_embedding", "vision/cls_token"),
        Row(f"{vision}.positional_embedding", "vision/spatial_embed"),
        Row(f"{vision}.temporal_positional_embedding", "vision/temporal_embed"),
        Row(f"{vision}.conv1.weight", "vision/patch_embed/kernel", PATCH),
        Row(f"{vision}.proj", "vision/proj/kernel"),
        *norm(f"{vision}.ln_pre", "vision/norm_pre"),
        *norm(f"{vision}.ln_post", "vision/norm_post"),
        *blocks(f"{vision}.transformer.resblocks.{{i}}", "vision/blocks"),
        Row(f"{text}.token_embedding.weight", "text/word_embed"),
        Row(f"{text}.positional_embedding", "text/place_embed"),
        Row(f"{text}.text_projection", "text/proj/kernel"),
        *norm(f"{text}.ln_final", "text/norm"),
        *blocks(f"{text}.transformer.resblocks.{{i}}", "text/blocks"),
    ]
