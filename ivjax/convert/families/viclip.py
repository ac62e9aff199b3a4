"""The checkpoints of ViCLIP, and of CLIP, which it starts from."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ivjax.convert.engine.family import Family, FixtureRun
from ivjax.convert.engine.fits import first_rows, over_time, places, times
from ivjax.convert.engine.rows import Row, Transform
from ivjax.convert.families.internvideo2 import image_size
from ivjax.convert.families.layers import IMAGE_PATCH, PATCH, QKV, QKV_BIAS, linear, norm
from ivjax.convert.families.layerwise import viclip_layers
from ivjax.data_pipelines.tokenizers.clip_bpe import ClipBpe
from ivjax.models.dual_size import DualSize
from ivjax.models.viclip.sizes import CLIP_PAIRS, PAIRS, TextSize, VisionSize


def blocks(source: str, target: str) -> list[Row]:
    """Rows of CLIP's residual blocks."""
    rows = [
        Row(f"{source}.attn.in_proj_weight", f"{target}/attn/qkv/kernel", QKV),
        Row(f"{source}.attn.in_proj_bias", f"{target}/attn/qkv/bias", QKV_BIAS),
    ]
    rows += linear(f"{source}.attn.out_proj", f"{target}/attn/proj")
    rows += linear(f"{source}.mlp.c_fc", f"{target}/mlp/fc1")
    rows += linear(f"{source}.mlp.c_proj", f"{target}/mlp/fc2")
    return rows + norm(f"{source}.ln_1", f"{target}/norm1") + norm(f"{source}.ln_2", f"{target}/norm2")


def viclip_rows() -> list[Row]:
    """Rows of both towers and the temperature."""
    vision = "vision_encoder."
    return [
        Row("temp", "temperature"),
        Row(f"{vision}temporal_positional_embedding", "vision/temporal_embed", fit=times),
        *towers(vision, "text_encoder."),
    ]


def towers(vision: str, text: str, patch: Transform = PATCH) -> list[Row]:
    """Rows of CLIP's two towers, whose names start with `vision` and `text`."""
    return [
        Row(f"{vision}class_embedding", "vision/cls_token"),
        Row(f"{vision}positional_embedding", "vision/spatial_embed", fit=places(kept=1)),
        Row(f"{vision}conv1.weight", "vision/patch_embed/kernel", patch, fit=over_time),
        Row(f"{vision}proj", "vision/proj/kernel"),
        *norm(f"{vision}ln_pre", "vision/norm_pre"),
        *norm(f"{vision}ln_post", "vision/norm_post"),
        *blocks(f"{vision}transformer.resblocks.{{i}}", "vision/blocks"),
        Row(f"{text}token_embedding.weight", "text/word_embed"),
        Row(f"{text}positional_embedding", "text/place_embed", fit=first_rows),
        Row(f"{text}text_projection", "text/proj/kernel"),
        *norm(f"{text}ln_final", "text/norm"),
        *blocks(f"{text}transformer.resblocks.{{i}}", "text/blocks"),
    ]


def _size_of(config: Mapping[str, Any]) -> DualSize:
    """Sizes of a fixture. Its `num_frames` counts temporal positions, and `T` the frames of a clip."""
    vision, text = config["vision"], config["text"]
    tubelet = vision.get("kernel_size", 1)
    return DualSize(
        VisionSize(
            width=vision["width"],
            depth=vision["layers"],
            heads=vision["heads"],
            out=vision["output_dim"],
            patch=vision["patch_size"],
            image=image_size(config, "res"),
            frames=config.get("T", vision["num_frames"] * tubelet),
            tubelet=tubelet,
        ),
        TextSize(
            width=text["transformer_width"],
            depth=text["transformer_layers"],
            heads=text["transformer_heads"],
            out=text["embed_dim"],
            context=text["context_length"],
            vocabulary=text["vocab_size"],
        ),
    )


VICLIP = Family(
    name="viclip",
    rows=tuple(viclip_rows()),
    presets=PAIRS,
    tokenizer=lambda size: ClipBpe(length=size.text.context),
    container="model",
    # The bias of the sigmoid loss, with which nothing was released.
    added=("bias",),
    parity=FixtureRun(_size_of, viclip_layers.run),
    about="ViCLIP's released files",
)

CLIP = replace(
    VICLIP,
    name="clip",
    rows=tuple(towers("visual.", "", IMAGE_PATCH)),
    presets=CLIP_PAIRS,
    container="flat",
    ignored={
        **VICLIP.ignored,
        "logit_scale": "ViCLIP starts with a temperature of its own",
        **dict.fromkeys(("input_resolution", "context_length", "vocab_size"), "the shapes say it"),
    },
    added=("temperature", "vision/temporal_embed", "bias"),
    parity=None,
    about="OpenAI's CLIP, as a state dict or as the published archive: what ViCLIP's training starts from",
    stores_runs=False,
)

FAMILIES = (VICLIP, CLIP)
